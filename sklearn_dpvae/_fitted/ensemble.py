"""Members of an ensemble: what each is trained on, and how their latents become one.

Imports the metrics and the module.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from .._network.dpvae import DPVAE
from ..metrics import procrustes_align


def balanced_subsets(
    codes: NDArray[np.int64], n_members: int, share: float, rng: np.random.RandomState
) -> list[NDArray[np.intp]]:
    """Draw for each member a share of the cells of every section.

    The cells of a section are shuffled and dealt out, so that over all members each cell is
    left out as often as any other, give or take one.

    Parameters
    ----------
    codes : ndarray of shape (n_cells,)
        Section codes.
    n_members : int
    share : float
        Share of the cells that a member is trained on.
    rng : RandomState

    Returns
    -------
    list of ndarray
        Sorted rows of each member. At least three cells of each section.
    """
    left_out = np.zeros((n_members, len(codes)), dtype=bool)
    if share < 1 and n_members > 1:
        for code in range(codes.max() + 1):
            rows = np.flatnonzero(codes == code)
            n_out = min(round((1 - share) * len(rows)), len(rows) - 3)
            deck = np.concatenate(
                [rng.permutation(rows) for _ in range(-(-n_members * n_out // len(rows)))]
                or [rows]
            )
            for k in range(n_members):
                left_out[k, deck[k * n_out : (k + 1) * n_out]] = True
    return [np.flatnonzero(~out) for out in left_out]


def take_out_poses(module: DPVAE, latents: NDArray[np.float64]) -> None:
    """Fit the similarities that bring each member's latents into those of the first.

    Parameters
    ----------
    module : DPVAE
    latents : ndarray of shape (n_members, n_cells, n_components)
        Each in the pose of its member.
    """
    for k in range(1, len(latents)):
        align = procrustes_align(latents[k], latents[0])
        # A member whose latents say nothing about the first one's would be averaged away by a
        # scale of 0; inverting the pose needs one that is not.
        scale = max(align.scale, 1e-6)
        module.pose.rotation[k] = torch.from_numpy(align.rotation)
        module.pose.scale[k] = scale
        module.pose.source_mean[k] = torch.from_numpy(align.source_mean)
        module.pose.target_mean[k] = torch.from_numpy(align.target_mean)


def out_of_bag(
    latents: NDArray[np.float64], left_out: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Latents of cells as if they were new: averaged over the members not trained on them.

    Parameters
    ----------
    latents : ndarray of shape (n_members, n_cells, n_components)
        In one common pose.
    left_out : ndarray of shape (n_members, n_cells), dtype bool

    Returns
    -------
    latents : ndarray of shape (n_left_out, n_components)
    cells : ndarray of shape (n_left_out,)
        Indices of the cells that any member left out.
    """
    count = left_out.sum(axis=0)
    cells = np.flatnonzero(count)
    total = np.einsum("kn,knd->nd", left_out[:, cells].astype(float), latents[:, cells])
    return total / count[cells, None], cells
