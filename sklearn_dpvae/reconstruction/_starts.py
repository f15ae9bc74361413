"""Where to start: classical MDS, multilateration from the anchors, or at random."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from ..metrics import procrustes_align
from ._majorize import Majorizer, Solution
from ._multilateration import place_roughly

if TYPE_CHECKING:
    from ._problem import ScalingProblem

# Up to this many rows, a dense eigensolver takes less time.
_DENSE_EIGEN = 200
_MAX_PLACING_ANCHORS = 1000
# Rows of a strip of dissimilarities.
_ROWS = 512


def choose_start(
    problem: "ScalingProblem",
    majorizer: Majorizer,
    init: str | NDArray[np.floating],
    rng: np.random.RandomState,
) -> Tensor:
    """Starting positions of the moving rows.

    Parameters
    ----------
    problem : ScalingProblem
    majorizer : Majorizer
        Of the same problem. Tells which of two starts has the lower stress.
    init : {"auto", "classical", "anchors", "random"} or ndarray of shape (n_samples, n_dims)
        As `anchored_smacof` takes it.
    rng : RandomState

    Returns
    -------
    tensor of shape (n_moving, n_dims)
    """
    if not isinstance(init, str):
        return problem.tensor(problem.arrange(init))
    if init == "random":
        start = _random(problem, rng) + problem.shift
        return problem.tensor(problem.arrange(start))
    starts = []
    if init in ("auto", "classical"):
        starts.append(_classical(problem, rng))
    determined = len(problem.indices) > problem.n_dims
    if init == "anchors" or (init == "auto" and determined):
        starts.append(anchors_start(problem.to_anchors, problem.n_samples, problem.coords, rng))
    tensors = [problem.tensor(problem.arrange(start)) for start in starts]
    if len(tensors) == 1:
        return tensors[0]
    return min(tensors, key=lambda start: majorizer.evaluate(start)[0])


def solve_from_starts(
    problem: "ScalingProblem",
    majorizer: Majorizer,
    init: str | NDArray[np.floating],
    rng: np.random.RandomState,
    *,
    n_init: int,
    solve: Callable[[Tensor], Solution],
) -> Solution:
    """Solve from `init` and, if it is not an array, from random starts up to `n_init`.

    Returns the solution of lowest stress.
    """
    best = solve(choose_start(problem, majorizer, init, rng))
    for _ in range(n_init - 1 if isinstance(init, str) else 0):
        found = solve(choose_start(problem, majorizer, "random", rng))
        if found.history[-1] < best.history[-1]:
            best = found
    return best


def _classical(problem: "ScalingProblem", rng: np.random.RandomState) -> NDArray[np.float64]:
    if problem.matrix is None:
        start = pca_start(problem.latents.astype(np.float64), problem.n_dims)
    else:
        start = classical_start(problem.matrix, problem.n_dims, rng)
    return align(start / problem.scale, problem.indices, problem.coords.astype(np.float64))


def _random(problem: "ScalingProblem", rng: np.random.RandomState) -> NDArray[np.float64]:
    if problem.matrix is None:
        spread = latent_spread(problem.latents)
    else:
        spread = matrix_spread(problem.matrix)
    return random_start(problem.n_samples, problem.n_dims, spread / problem.scale, rng)


def pca_start(latents: NDArray[np.float64], n_dims: int) -> NDArray[np.float64]:
    """Leading principal components: the classical MDS of Euclidean distances."""
    centered = latents - latents.mean(axis=0)
    _, axes = eigh(centered.T @ centered)
    axes = axes[:, ::-1][:, :n_dims]
    return _pad(centered @ axes, n_dims)


def classical_start(
    dissimilarities: NDArray[np.floating], n_dims: int, rng: np.random.RandomState
) -> NDArray[np.float64]:
    """Classical MDS: leading eigenvectors of the doubly centered squared dissimilarities.

    The squares are made a strip at a time and never stored.
    """
    n_samples = len(dissimilarities)

    def multiply(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
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
    # The sign of an eigenvector is arbitrary. Fixing it makes the answer reproducible.
    largest = np.abs(start).argmax(axis=0)
    start *= np.where(start[largest, np.arange(start.shape[1])] < 0, -1.0, 1.0)
    return _pad(start, n_dims)


def _pad(start: NDArray[np.float64], n_dims: int) -> NDArray[np.float64]:
    """Add columns of zeros up to `n_dims`."""
    missing = n_dims - start.shape[1]
    return np.pad(start, ((0, 0), (0, missing))) if missing else start


def align(
    start: NDArray[np.float64], indices: NDArray[np.intp], coords: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Move `start` by the similarity (mirror images allowed) that fits its anchors best.

    Anchors at one point, or started from one point, tell no more than a translation.
    """
    if len(indices) == 0:
        return start
    anchors = start[indices]
    if np.ptp(coords, axis=0).any():
        similarity = procrustes_align(anchors, coords)
        if similarity.scale > 0:
            return similarity.transform(start)
    return start - anchors.mean(axis=0) + coords.mean(axis=0)


def anchors_start(
    dissimilarities_to: Callable[[slice, NDArray[np.intp]], ArrayLike],
    n_samples: int,
    coords: NDArray[np.floating],
    rng: np.random.RandomState,
) -> NDArray[np.float64]:
    """Place every row by its dissimilarities to the anchors (to a sample of many anchors).

    Parameters
    ----------
    dissimilarities_to : callable
        ``dissimilarities_to(rows, picked)`` returns those of a slice of rows to the anchors
        numbered `picked`.
    n_samples : int
    coords : ndarray of shape (n_anchors, n_dims)
    rng : RandomState
    """
    picked = np.arange(len(coords))
    if len(picked) > _MAX_PLACING_ANCHORS:
        picked = np.sort(rng.choice(picked, _MAX_PLACING_ANCHORS, replace=False))
    landmarks = coords[picked].astype(np.float64)
    start = np.empty((n_samples, coords.shape[1]))
    for first in range(0, n_samples, _ROWS):
        rows = slice(first, first + _ROWS)
        block = np.asarray(dissimilarities_to(rows, picked), dtype=np.float64)
        start[rows] = place_roughly(block, landmarks)
    return start


def random_start(
    n_samples: int, n_dims: int, spread: float, rng: np.random.RandomState
) -> NDArray[np.float64]:
    """Normal positions of root-mean-square distance `spread` from each other."""
    return rng.normal(scale=spread / np.sqrt(2 * n_dims), size=(n_samples, n_dims))


def latent_spread(latents: NDArray[np.floating]) -> float:
    """Root-mean-square distance between two rows."""
    return float(np.sqrt(2.0 * latents.var(axis=0).sum()))


def matrix_spread(dissimilarities: NDArray[np.floating]) -> float:
    """Root-mean-square dissimilarity."""
    flat: Any = dissimilarities.ravel()
    return float(np.sqrt(flat @ flat / max(flat.size - len(dissimilarities), 1)))
