"""Values of cells, told from other cells that are like them.

A weighted mean of the most alike, moved along the slope of a regression. Imports the likeness.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ._likeness import Neighbors, apply

Array = NDArray[np.float64]

# Penalties of the regression, over the sum of squares of a component, to choose from.
_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Telling:
    """How values are told.

    Attributes
    ----------
    n_neighbors : int or None
        Known cells that count. None are all of them, each as much.
    penalty : float or None
        Of the ridge regression from components to values. None moves nothing.
    """

    n_neighbors: int | None
    penalty: float | None

    def as_array(self) -> Array:
        """For a file: both as numbers, of which None is infinity."""
        return np.array([np.inf if n is None else n for n in (self.n_neighbors, self.penalty)])

    @classmethod
    def of_array(cls, numbers: Array) -> Self:
        """The inverse of `as_array`."""
        n, penalty = (float(n) for n in numbers)
        return cls(int(n) if np.isfinite(n) else None, penalty if np.isfinite(penalty) else None)


def tellings(near: Neighbors) -> list[Telling]:
    """All ways to choose from."""
    found = [Telling(n, penalty) for n in near.sizes for penalty in (None, *_PENALTIES)]
    return [*found, *(Telling(None, penalty) for penalty in _PENALTIES)]


def told(
    ways: Iterable[Telling],
    X: Any,
    known: NDArray[np.float32],
    asked: NDArray[np.float32],
    near: Neighbors,
    rows: NDArray[np.intp] | None = None,
) -> Iterator[Array]:
    """Values of cells, in each of some ways.

    Parameters
    ----------
    ways : iterable of Telling
        Those with the same number of neighbors are best next to each other.
    X : {ndarray, CSR matrix} of shape (n_known, n_genes)
    known : ndarray of shape (n_known, n_components)
    asked : ndarray of shape (n_cells, n_components)
    near : Neighbors
        Known cells that are most like each cell.
    rows : ndarray of int, optional
        Known cells that the regression is on; all by default.

    Yields
    ------
    ndarray of shape (n_cells, n_genes)
    """
    part = (X, known) if rows is None else (X[rows], known[rows])
    slopes: dict[float, Array] = {}
    last: tuple[int | None, Array, Array] | None = None
    for way in ways:
        if last is None or last[0] != way.n_neighbors:
            n = way.n_neighbors
            weights = None if n is None else near.weights(n)
            moved = asked - _weighted(weights, known, len(asked))
            last = n, _weighted(weights, X, len(asked)), moved
        _, means, moved = last
        if way.penalty is None:
            yield means.copy()
            continue
        if way.penalty not in slopes:
            slopes[way.penalty] = _slopes(*part, way.penalty)
        yield means + moved @ slopes[way.penalty]


def agreement(found: Array, true: Array) -> tuple[float, float]:
    """Mean over genes of the correlation over cells, and the scale of what was found.

    A gene that is constant has a correlation of 0. With its deviations times the scale, what was
    found has the least squared error, relative to the variances of the genes.
    """
    spread = true.std(axis=0)
    spread[spread == 0] = np.inf
    found, true = (found - found.mean(axis=0)) / spread, (true - true.mean(axis=0)) / spread
    products = np.einsum("ij,ij->j", found, true)
    squares = np.square(found).sum(axis=0)
    lengths = np.sqrt(squares * np.square(true).sum(axis=0))
    score = np.divide(products, lengths, out=np.zeros_like(lengths), where=lengths > 0).mean()
    if squares.sum() == 0:
        return float(score), 1.0
    return float(score), max(float(products.sum() / squares.sum()), 0.0)


def _weighted(weights: Any, values: Any, n_rows: int) -> Array:
    """Weighted means of known cells; without weights, of all of them."""
    if weights is not None:
        return apply(weights, values)
    mean = np.asarray(values.mean(axis=0), dtype=np.float64).ravel()
    return np.tile(mean, (n_rows, 1))


def _slopes(X: Any, known: NDArray[np.float32], penalty: float) -> Array:
    """Slopes of a ridge regression from components to values."""
    centered = known.astype(np.float64) - known.mean(axis=0, dtype=np.float64)
    left = centered.T @ centered
    left += penalty * np.trace(left) / len(left) * np.eye(len(left))
    return np.linalg.solve(left, np.asarray(X.T @ centered).T)
