"""Distances of pairs of cells in two maps, all of them or a sample, in bounded memory.

Imports nothing of this package.
"""

import numpy as np
from scipy.spatial.distance import pdist

# Coordinates held at a time while the distances of sampled pairs are worked out: 16 MB.
_CHUNK = 2**21


def pair_distances(a, b, max_pairs, rng):
    """Distances of the same pairs of rows in two point sets.

    Parameters
    ----------
    a, b : ndarray of shape (n_samples, n_dims)
        Point sets with the same rows.
    max_pairs : int or None
        Up to this number all ``n (n - 1) / 2`` pairs are taken; above it, this number of pairs
        is drawn at random, with replacement. None takes all pairs.
    rng : numpy.random.RandomState

    Returns
    -------
    distances_a, distances_b : ndarray of shape (n_pairs,), dtype float64
    """
    n_samples = len(a)
    if max_pairs is None or n_pairs(n_samples) <= max_pairs:
        return pdist(a), pdist(b)
    return _sampled(a, b, max_pairs, rng)


def pooled_pair_distances(a, b, parts, max_pairs, rng):
    """As `pair_distances`, of the pairs within sections, each pair as likely as any other."""
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
    return tuple(np.concatenate(piece) for piece in zip(*pieces, strict=True))


def n_pairs(n_samples):
    """Number of unordered pairs of distinct rows."""
    return n_samples * (n_samples - 1) // 2


def _sampled(a, b, n_drawn, rng):
    first = rng.randint(len(a), size=n_drawn)
    # Skipping over the first of the pair leaves all the others equally likely.
    second = rng.randint(len(a) - 1, size=n_drawn)
    second += second >= first
    return _distances(a, first, second), _distances(b, first, second)


def _distances(points, first, second):
    distances = np.empty(len(first))
    step = max(1, _CHUNK // points.shape[1])
    for start in range(0, len(first), step):
        chunk = slice(start, start + step)
        distances[chunk] = np.linalg.norm(points[first[chunk]] - points[second[chunk]], axis=1)
    return distances
