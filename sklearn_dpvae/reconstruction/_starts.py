"""Where to start: classical MDS, multilateration from the anchors, or at random."""

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh

from ._multilateration import neighbor_start, place_rows

_DENSE_EIGEN = 200
_MAX_PLACING_ANCHORS = 1000
_ROWS = 512


def pca_start(latents, n_dims):
    """Leading principal components: the classical MDS of Euclidean distances."""
    centered = latents - latents.mean(axis=0)
    _, axes = eigh(centered.T @ centered)
    axes = axes[:, ::-1][:, :n_dims]
    start = centered @ axes
    missing = n_dims - start.shape[1]
    return np.pad(start, ((0, 0), (0, missing))) if missing else start


def classical_start(dissimilarities, n_dims, rng):
    """Classical MDS: leading eigenvectors of the doubly centered squared dissimilarities.

    The squares are made a strip at a time and never stored.
    """
    n_samples = len(dissimilarities)

    def multiply(vectors):
        vectors = vectors.reshape(n_samples, -1)
        vectors = vectors - vectors.mean(axis=0)
        out = np.empty_like(vectors)
        for first in range(0, n_samples, _ROWS):
            strip = dissimilarities[first : first + _ROWS].astype(np.float64)
            out[first : first + _ROWS] = np.square(strip) @ vectors
        return -0.5 * (out - out.mean(axis=0))

    if n_samples <= max(_DENSE_EIGEN, n_dims + 1):
        values, vectors = eigh(multiply(np.eye(n_samples)))
    else:
        operator = LinearOperator(
            (n_samples, n_samples), matvec=lambda v: multiply(v)[:, 0], dtype=np.float64
        )
        values, vectors = eigsh(
            operator, k=n_dims, which="LA", tol=1e-3, v0=rng.normal(size=n_samples)
        )
    order = np.argsort(values)[::-1][:n_dims]
    start = vectors[:, order] * np.sqrt(np.maximum(values[order], 0.0))
    # The sign of an eigenvector is arbitrary: fix it, for the sake of reproducible answers.
    largest = np.abs(start).argmax(axis=0)
    start *= np.where(start[largest, np.arange(start.shape[1])] < 0, -1.0, 1.0)
    missing = n_dims - start.shape[1]
    return np.pad(start, ((0, 0), (0, missing))) if missing else start


def align(start, indices, coords):
    """Move `start` by the best similarity (mirror images allowed) of its anchors to `coords`."""
    if len(indices) == 0:
        return start
    source_mean, target_mean = start[indices].mean(axis=0), coords.mean(axis=0)
    source, target = start[indices] - source_mean, coords - target_mean
    left, values, right = np.linalg.svd(source.T @ target)
    squares = (source**2).sum()
    scale = values.sum() / squares if squares > 0 and values.sum() > 0 else 1.0
    return scale * (start - source_mean) @ (left @ right) + target_mean


def anchors_start(dissimilarities_to, n_samples, coords, rng):
    """Place every row by its dissimilarities to the anchors (to a sample of many anchors).

    Parameters
    ----------
    dissimilarities_to : callable
        ``dissimilarities_to(rows, picked)`` returns those of a slice of rows to the anchors
        numbered `picked`.
    """
    picked = np.arange(len(coords))
    if len(picked) > _MAX_PLACING_ANCHORS:
        picked = np.sort(rng.choice(picked, _MAX_PLACING_ANCHORS, replace=False))
    landmarks = coords[picked].astype(np.float64)
    start = np.empty((n_samples, coords.shape[1]))
    for first in range(0, n_samples, _ROWS):
        rows = slice(first, first + _ROWS)
        block = np.asarray(dissimilarities_to(rows, picked), dtype=np.float64)
        guess = neighbor_start(block, landmarks)
        start[rows] = place_rows(block, landmarks, [guess], max_iter=20, tol=1e-3)[0]
    return start


def random_start(n_samples, n_dims, spread, rng):
    """Normal positions of root-mean-square distance `spread` from each other."""
    return rng.normal(scale=spread / np.sqrt(2 * n_dims), size=(n_samples, n_dims))


def latent_spread(latents):
    """Root-mean-square distance between two rows."""
    return float(np.sqrt(2.0 * latents.var(axis=0).sum()))


def matrix_spread(dissimilarities):
    """Root-mean-square dissimilarity."""
    flat = dissimilarities.ravel()
    return float(np.sqrt(flat @ flat / max(flat.size - len(dissimilarities), 1)))
