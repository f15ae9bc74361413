"""Inference: latents of cells, from every member of an ensemble and of all together.

In float64 on the CPU, so that a row's answer does not depend on the rows beside it. Takes the
module as it is; imports nothing of this package.
"""

import copy

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import gen_batches
from torch import nn

# Rows that are encoded in one piece: what eight networks of 128 units make of so many stays in a
# core's cache. Of 4,096 it does not, which takes two to three times as long.
_ROWS_PER_CHUNK = 512


def in_float64(module, without=()):
    """A copy for prediction: float64 makes a row's answer independent of its neighbors in X.

    Parts that are not asked need not be copied.
    """
    left_out = {id(part): nn.Identity() for part in without}
    return copy.deepcopy(module, left_out).double().eval()


@torch.no_grad()
def encode_members(module, X, rows=None):
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


def in_common_pose(module, latents):
    return in_float64(module.pose)(torch.from_numpy(latents)).numpy()


def average(latents):
    """Mean over members, and the root-mean-square distance of the members from it."""
    mean = latents.mean(axis=0)
    return mean, np.sqrt(np.square(latents - mean).sum(axis=-1).mean(axis=0))


def encode_with_spread(module, X):
    """Latents, and how far apart the members are on each cell, in latent units."""
    return average(in_common_pose(module, encode_members(module, X)))


def encode(module, X):
    """Latents: posterior means in the common pose, averaged over members."""
    return encode_with_spread(module, X)[0]
