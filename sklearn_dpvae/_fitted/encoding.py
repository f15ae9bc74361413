"""Inference: latents of cells, from every member of an ensemble and of all together.

In float64 on the CPU, so that a row's answer does not depend on the rows beside it. Takes the
module as it is. Imports the network.
"""

import copy
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.utils import gen_batches
from torch import nn

from .._network.dpvae import DPVAE
from .._training.reference import Matrix

# Rows that are encoded at a time: what eight networks of 128 units make of so many stays in a
# core's cache. With 4,096 it does not, which takes two to three times as long.
_ROWS_PER_CHUNK = 512

Array = NDArray[np.float64]
Module = TypeVar("Module", bound=nn.Module)


def in_float64(module: Module, without: Iterable[nn.Module] = ()) -> Module:
    """A copy for prediction: float64 makes a row's answer independent of its neighbors in X.

    Parts that are not asked need not be copied.
    """
    left_out = {id(part): nn.Identity() for part in without}
    return copy.deepcopy(module, left_out).double().eval()


@torch.no_grad()
def encode_members(module: DPVAE, X: Matrix, rows: NDArray[np.intp] | None = None) -> Array:
    """Posterior means by every member in its own pose, (n_members, n_cells, n_components).

    In float64 on the CPU, by chunks of rows. Taking `rows` of X here saves a copy of them all.
    """
    module = in_float64(module, without=(module.decoder, module.likelihood))
    n_rows = X.shape[0] if rows is None else len(rows)
    latents = np.empty((module.n_members, n_rows, module.n_components))
    for chunk in gen_batches(n_rows, _ROWS_PER_CHUNK):
        part = X[chunk if rows is None else rows[chunk]]
        dense = part.toarray() if sp.issparse(part) else part
        mean, _ = module.encode(torch.from_numpy(np.array(dense, dtype=np.float64)))
        latents[:, chunk] = mean.numpy()
    return latents


def in_common_pose(module: DPVAE, latents: Array) -> Array:
    """Latents of every member, moved into the pose of the first."""
    return in_float64(module.pose)(torch.from_numpy(latents)).numpy()


def average(latents: Array) -> tuple[Array, Array]:
    """Mean over members, and the root-mean-square distance of the members from it."""
    mean = latents.mean(axis=0)
    return mean, np.sqrt(np.square(latents - mean).sum(axis=-1).mean(axis=0))


def encode_with_disagreement(module: DPVAE, X: Matrix) -> tuple[Array, Array]:
    """Latents of cells, and how far apart the members are on each, in latent units.

    Latents are posterior means in the common pose, averaged over members.

    Returns
    -------
    latents : ndarray of shape (n_cells, n_components)
    disagreement : ndarray of shape (n_cells,)
    """
    return average(in_common_pose(module, encode_members(module, X)))
