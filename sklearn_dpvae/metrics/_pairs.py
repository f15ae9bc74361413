"""Distances of pairs of cells in two maps, of all pairs or a sample, in bounded memory.

It imports nothing from this package.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

# Number of coordinates of sampled pairs in memory at a time: 16 MB.
_CHUNK = 2**21

# The distances of the same pairs in two point sets.
Distances = tuple[NDArray[np.float64], NDArray[np.float64]]


def pair_distances(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    max_pairs: int | None,
    rng: np.random.RandomState,
) -> Distances:
    """Return the distances of the same pairs of rows in two point sets.

    Parameters
    ----------
    a, b : ndarray of shape (n_samples, n_dims)
        Point sets with the same rows.
    max_pairs : int or None
        If there are more than this many of the ``n (n - 1) / 2`` pairs, this number is drawn at
        random, with replacement. None takes all pairs.
    rng : numpy.random.RandomState

    Returns
    -------
    distances_a, distances_b : ndarray of shape (n_pairs,), dtype float64
    """
    n_samples = len(a)
    if max_pairs is None or n_pairs(n_samples) <= max_pairs:
        return pdist(a), pdist(b)
    return _sampled(a, b, max_pairs, rng)


def pooled_pair_distances(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    parts: Sequence[NDArray[np.intp]],
    max_pairs: int | None,
    rng: np.random.RandomState,
) -> Distances:
    """Do as `pair_distances` for the pairs within sections; all pairs are equally likely."""
    counts = np.array([n_pairs(len(rows)) for rows in parts], dtype=np.float64)
    if max_pairs is None or counts.sum() <= max_pairs:
        pieces = [(pdist(a[rows]), pdist(b[rows])) for rows in parts]
    else:
        drawn = rng.multinomial(max_pairs, counts / counts.sum())
        pieces = [
            _sampled(a[rows], b[rows], n_drawn, rng)
            for rows, n_drawn in zip(parts, drawn, strict=True)
            if n_drawn
        ]
    distances_a, distances_b = zip(*pieces, strict=True)
    return np.concatenate(distances_a), np.concatenate(distances_b)


def n_pairs(n_samples: int) -> int:
    """Return the number of unordered pairs of distinct rows."""
    return n_samples * (n_samples - 1) // 2


def _sampled(
    a: NDArray[np.float64], b: NDArray[np.float64], n_drawn: int, rng: np.random.RandomState
) -> Distances:
    first = rng.randint(len(a), size=n_drawn)
    # Skipping over the first row of a pair leaves all other rows equally likely.
    second = rng.randint(len(a) - 1, size=n_drawn)
    second += second >= first
    return _distances(a, first, second), _distances(b, first, second)


def _distances(
    points: NDArray[np.float64], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.float64]:
    distances = np.empty(len(first))
    step = max(1, _CHUNK // points.shape[1])
    for start in range(0, len(first), step):
        chunk = slice(start, start + step)
        distances[chunk] = np.linalg.norm(points[first[chunk]] - points[second[chunk]], axis=1)
    return distances
