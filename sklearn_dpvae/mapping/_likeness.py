"""Which cells are like each other: neighbors in components, and how much each counts.

Imports `_utils` alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

from .._utils.matrix import evenly_spaced

Array = NDArray[np.float64]

# Numbers of neighbors to choose from.
N_NEIGHBORS = (5, 10, 20, 40, 80, 160)
# How fast weights fall with the distance, to choose from.
SHARPNESS = (0.5, 1.0, 2.0, 4.0, 8.0)
# Cells that are left out, each in turn, to choose by.
_N_HELD_OUT = 1_000
_ROWS_PER_CHUNK = 2_000


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest of known cells, of each of others.

    Attributes
    ----------
    distance : ndarray of shape (n_cells, n_neighbors)
        Nearest first.
    index : ndarray of shape (n_cells, n_neighbors)
    n_known : int
    """

    distance: NDArray[np.float32]
    index: NDArray[np.intp]
    n_known: int

    @property
    def sizes(self) -> Sequence[int]:
        """Numbers of neighbors to choose from: those that there are."""
        most = self.index.shape[1]
        return [n for n in N_NEIGHBORS if n < most] + [min(most, N_NEIGHBORS[-1])]

    def weights(self, n_neighbors: int, sharpness: float = 2.0) -> sp.csr_matrix:
        """How much each known cell counts: a normal curve of the distance.

        Parameters
        ----------
        n_neighbors : int
            Others count nothing.
        sharpness : float, default=2.0
            The furthest of them has exp(-sharpness) of the weight of an equal cell.

        Returns
        -------
        csr_matrix of shape (n_cells, n_known)
            Rows sum to 1.
        """
        distance, index = self.distance[:, :n_neighbors], self.index[:, :n_neighbors]
        squares = np.square(distance / scale_of(distance)).astype(np.float64)
        closeness = np.exp(-sharpness * (squares - squares[:, :1]))
        closeness /= closeness.sum(axis=1, keepdims=True)
        indptr = np.arange(len(index) + 1) * index.shape[1]
        shape = (len(index), self.n_known)
        return sp.csr_matrix((closeness.ravel(), index.ravel(), indptr), shape=shape)


def scale_of(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance of the furthest neighbor, which is not 0."""
    return np.maximum(distance[:, -1:], np.finfo(np.float32).tiny ** 0.5)


def half_whitened(known: Array, *others: Array) -> list[Array]:
    """Components that count by their standard deviation, rather than by their variance.

    Distances are then less of the first few components alone.

    Parameters
    ----------
    known : ndarray of shape (n_cells, n_components)
        Whose standard deviations count.
    *others : ndarray of shape (n_cells, n_components)
    """
    std = known.std(axis=0)
    root = np.sqrt(np.maximum(std, 1e-6 * max(float(std.max()), np.finfo(float).tiny)))
    return [part / root for part in (known, *others)]


def of_unit_spread(known: Array, *others: Array) -> list[Array]:
    """Components whose variances sum to 1.

    Parameters
    ----------
    known : ndarray of shape (n_cells, n_components)
        Whose variances count.
    *others : ndarray of shape (n_cells, n_components)
    """
    spread = float(np.sqrt(known.var(axis=0).sum())) or 1.0
    return [part / spread for part in (known, *others)]


def neighbors(
    known: NDArray[np.float32], asked: NDArray[np.float32], most: int = N_NEIGHBORS[-1]
) -> Neighbors:
    """The nearest known cells of other cells.

    Parameters
    ----------
    known : ndarray of shape (n_known, n_components)
    asked : ndarray of shape (n_cells, n_components)
    most : int, default=160
        Neighbors that are looked for.
    """
    n = min(most, len(known))
    tree = NearestNeighbors(n_neighbors=n, algorithm="brute").fit(known)
    parts = [tree.kneighbors(asked[rows]) for rows in gen_batches(len(asked), _ROWS_PER_CHUNK)]
    distance, index = (np.concatenate(found) for found in zip(*parts, strict=True))
    return Neighbors(distance.astype(np.float32), index, len(known))


def held_out_rows(n_cells: int) -> NDArray[np.intp]:
    """Cells that are left out in turn, to choose by."""
    return evenly_spaced(n_cells, _N_HELD_OUT)


def other_neighbors(known: NDArray[np.float32], rows: NDArray[np.intp]) -> Neighbors:
    """The nearest of all other known cells, of some of them."""
    found = neighbors(known, known[rows], N_NEIGHBORS[-1] + 1)
    if found.index.shape[1] < 2:
        raise ValueError("one cell has no other to be compared with. Pass more cells.")
    own = found.index == rows[:, None]
    # Behind many equal cells, a cell may not be among its own neighbors.
    own[~own.any(axis=1), -1] = True
    shape = (len(rows), found.index.shape[1] - 1)
    return Neighbors(
        found.distance[~own].reshape(shape), found.index[~own].reshape(shape), len(known)
    )


def apply(weights: Any, values: Any) -> Array:
    """Weighted means of rows, dense."""
    found = weights @ values
    return np.asarray(found.toarray() if sp.issparse(found) else found, dtype=np.float64)
