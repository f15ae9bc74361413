"""Inference: latents of cells, from every member of an ensemble and of all together.

In float64 on the CPU, so that a row's answer does not depend on the rows beside it. Takes the
module as it is. Imports the network.
"""

import copy
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.utils import gen_batches
from torch import nn

from .._network.dpvae import DPVAE, Pose
from .._network.random import own_generators
from .._training.reference import Matrix

# Rows that are encoded at a time: what eight networks of 128 units make of so many stays in a
# core's cache. With 4,096 it does not, which takes two to three times as long.
_ROWS_PER_CHUNK = 512

Array = NDArray[np.float64]
Module = TypeVar("Module", bound=nn.Module)


def in_float64(module: Module) -> Module:
    """A copy for prediction: float64 makes a row's answer independent of its neighbors in X."""
    return copy.deepcopy(module).double().eval()


def encoder_of(module: DPVAE) -> DPVAE:
    """The same, without the parts that encoding does not ask."""
    parts = (module.decoder, module.likelihood, module.library)
    not_asked = {id(part): nn.Identity() for part in parts if part is not None}
    return copy.deepcopy(module, not_asked).double().eval()


@torch.no_grad()
def encode_members(encoder: DPVAE, X: Matrix, rows: NDArray[np.intp] | None = None) -> Array:
    """Posterior means by every member in its own pose, (n_members, n_cells, n_components).

    By chunks of rows. Taking `rows` of X here saves a copy of them all.

    Parameters
    ----------
    encoder : DPVAE
        From `encoder_of`.
    X : {ndarray, CSR matrix} of shape (n_cells, n_features)
    rows : ndarray of int, optional
        Those to encode; all by default.
    """
    n_rows = X.shape[0] if rows is None else len(rows)
    latents = np.empty((encoder.n_members, n_rows, encoder.n_components))
    for chunk in gen_batches(n_rows, _ROWS_PER_CHUNK):
        mean, _ = encoder.encode(_in_tensor(X[chunk if rows is None else rows[chunk]]))
        latents[:, chunk] = mean.numpy()
    return latents


@torch.no_grad()
def sample_members(encoder: DPVAE, X: Matrix, members: NDArray[np.intp], seed: int) -> Array:
    """Samples of posteriors, moved into the pose of the first member.

    Parameters
    ----------
    encoder : DPVAE
        From `encoder_of`.
    X : {ndarray, CSR matrix} of shape (n_cells, n_features)
    members : ndarray of shape (n_samples,)
        Which member each sample is of.
    seed : int

    Returns
    -------
    ndarray of shape (n_samples, n_cells, n_components)
    """
    samples = np.empty((len(members), X.shape[0], encoder.n_components))
    with own_generators(seed, "cpu"):
        for chunk in gen_batches(X.shape[0], _ROWS_PER_CHUNK):
            x = _in_tensor(X[chunk])
            for sample, member in zip(samples, members, strict=True):
                sample[chunk] = encoder.pose(encoder.sample(x))[member].numpy()
    return samples


def _in_tensor(part: Matrix) -> torch.Tensor:
    dense = part.toarray() if sp.issparse(part) else part
    return torch.from_numpy(np.array(dense, dtype=np.float64))


@torch.no_grad()
def average_in_common_pose(pose: Pose, latents: Array) -> tuple[Array, Array]:
    """Latents of all members together, and how far apart they are.

    Parameters
    ----------
    pose : Pose
        Of an encoder.
    latents : ndarray of shape (n_members, n_cells, n_components)
        Of each member in its own pose.

    Returns
    -------
    mean : ndarray of shape (n_cells, n_components)
        Over members, in the pose of the first.
    disagreement : ndarray of shape (n_cells,)
        Root-mean-square distance of the members from it.
    """
    common = in_common_pose(pose, latents)
    mean = common.mean(axis=0)
    return mean, np.sqrt(np.square(common - mean).sum(axis=-1).mean(axis=0))


def in_common_pose(pose: Pose, latents: Array) -> Array:
    """Latents of every member, moved into the pose of the first."""
    return pose(torch.from_numpy(latents)).numpy()
