"""Landmarks: which reference rows to keep, and where each query row lies among them.

Each row is placed by its own distances to fixed landmarks, so that its answer does not depend on
the other rows.
"""

import numbers
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .._utils.arrays import check_array
from .._utils.validation import checks_arguments
from ._checks import check_init, check_scale
from ._multilateration import Floats, neighbor_start, place_rows

# Rows times landmarks of a block: its float64 distances stay in the L2 cache.
_BLOCK_ELEMENTS = 1 << 16
# Above this many rows, k-means learns from small batches.
_MINIBATCH_ROWS = 10_000


def _column_products(rows: Floats, vectors: Floats) -> Floats:
    """Sum over k of ``rows[:, k] * vectors[k]``, in an order that no batch shape changes."""
    out = rows[:, :1] * vectors[0]
    for k in range(1, rows.shape[1]):
        out += rows[:, k : k + 1] * vectors[k]
    return out


def _cross_distances(rows: Floats, columns: Floats) -> Floats:
    """Euclidean distances by direct differences: exact near zero, and without BLAS.

    A matrix product rounds differently for different numbers of rows, and a row's placement
    would then depend on its neighbors in the batch.
    """
    squares = np.zeros((len(rows), len(columns)))
    difference = np.empty_like(squares)
    for k in range(rows.shape[1]):
        np.subtract(rows[:, k : k + 1], columns[:, k], out=difference)
        difference *= difference
        squares += difference
    return np.sqrt(squares, out=squares)


def _linear_map(latents: Floats, coords: Floats) -> tuple[Floats, Floats]:
    """Least-squares affine map from latents to coordinates: slopes and intercept."""
    mean_latent, mean_coord = latents.mean(axis=0), coords.mean(axis=0)
    slopes = np.linalg.lstsq(latents - mean_latent, coords - mean_coord, rcond=1e-8)[0]
    return slopes, mean_coord - mean_latent @ slopes


@overload
def place_pointwise(
    latents: ArrayLike,
    landmark_latents: ArrayLike,
    landmark_coords: ArrayLike,
    *,
    scale: float = ...,
    init: ArrayLike | None = ...,
    max_iter: int = ...,
    tol: float = ...,
    return_stress: Literal[False] = ...,
) -> Floats: ...


@overload
def place_pointwise(
    latents: ArrayLike,
    landmark_latents: ArrayLike,
    landmark_coords: ArrayLike,
    *,
    scale: float = ...,
    init: ArrayLike | None = ...,
    max_iter: int = ...,
    tol: float = ...,
    return_stress: Literal[True],
) -> tuple[Floats, Floats]: ...


def place_pointwise(
    latents: ArrayLike,
    landmark_latents: ArrayLike,
    landmark_coords: ArrayLike,
    *,
    scale: float = 1.0,
    init: ArrayLike | None = None,
    max_iter: int = 100,
    tol: float = 1e-10,
    return_stress: bool = False,
) -> Floats | tuple[Floats, Floats]:
    r"""Place each row by its latent distances to landmarks of known position.

    Equation (6) of Zhou & Du (2024) for one unknown position at a time: row i is the point

    .. math:: s_i = \arg\min_s \sum_j \bigl( \|z_i - z_j\| / c - \|s - s_j\| \bigr)^2

    over the landmarks j, whose positions stay fixed. Rows do not influence each other, and all
    arithmetic is done row by row in float64. So a row's answer is the same, bit for bit, in
    every batch.

    Parameters
    ----------
    latents : array-like of shape (n_rows, n_latents)
        Latents of the rows to place.
    landmark_latents : array-like of shape (n_landmarks, n_latents)
        Latents of the landmarks.
    landmark_coords : array-like of shape (n_landmarks, n_dims)
        Positions of the landmarks, in tissue units.
    scale : float, default=1.0
        c of equation (6): latent units per tissue unit.
    init : array-like of shape (n_rows, n_dims), default=None
        Where to start. By default each row starts at the better of two guesses: the mean of
        its nearest landmarks, and the affine map fitted to the landmarks.
    max_iter : int, default=100
        Most steps that a row may take; a handful is usual.
    tol : float, default=1e-10
        A row stops when its step is shorter than this fraction of the landmarks' radius.
    return_stress : bool, default=False
        Whether to return each row's stress as well.

    Returns
    -------
    coords : ndarray of shape (n_rows, n_dims), dtype float64
        Positions in tissue units.
    stress : ndarray of shape (n_rows,)
        Sum over landmarks of the squared differences between distance and dissimilarity, in
        squared tissue units. Only if `return_stress` is True.

    Raises
    ------
    ValueError
        If shapes disagree, or a value is NaN or infinite, or `scale` is not positive.

    References
    ----------
    Zhou, W. & Du, J.-H. (2024). Distance-Preserving Spatial Representations in Genomic Data.
    arXiv:2408.00911, equation (6).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.reconstruction._landmarks import place_pointwise
    >>> corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> place_pointwise([[1.0, 0.5]], 2 * corners, corners, scale=2.0).round(6)
    array([[0.5 , 0.25]])
    """
    rows = check_array(latents, dtype=np.float64, input_name="latents")
    known = check_array(landmark_latents, dtype=np.float64, input_name="landmark_latents")
    landmarks = check_array(landmark_coords, dtype=np.float64, input_name="landmark_coords")
    scale = check_scale(scale)
    if rows.shape[1] != known.shape[1]:
        raise ValueError(
            f"latents has {rows.shape[1]} columns but landmark_latents has {known.shape[1]}. "
            "Pass latents of the same model."
        )
    if len(known) != len(landmarks):
        raise ValueError(
            f"landmark_latents has {len(known)} rows but landmark_coords has {len(landmarks)}. "
            "Pass one position per landmark."
        )
    shape = (len(rows), landmarks.shape[1])
    if init is None:
        slopes, intercept = _linear_map(known, landmarks)
        guess = _column_products(rows, slopes) + intercept
    else:
        guess = check_init(init, shape, dtype=np.float64)

    coords, stress = np.empty(shape), np.empty(shape[0])
    n_rows = max(1, _BLOCK_ELEMENTS // len(known))
    for first in range(0, len(rows), n_rows):
        block = slice(first, first + n_rows)
        dissimilarities = _cross_distances(rows[block], known)
        dissimilarities /= scale
        starts = [guess[block]]
        if init is None:
            starts = [neighbor_start(dissimilarities, landmarks), *starts]
        coords[block], stress[block], _ = place_rows(
            dissimilarities, landmarks, starts, max_iter=max_iter, tol=tol
        )
    return (coords, stress) if return_stress else coords


def _farthest_points(
    points: NDArray[np.floating], n_points: int, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Greedy k-center: each next point is the farthest from those taken."""
    points = points - points.mean(axis=0)
    squares = (points**2).sum(axis=1)
    taken = np.empty(n_points, dtype=np.intp)
    taken[0] = rng.randint(len(points))
    gap = np.full(len(points), np.inf)
    for k in range(n_points):
        if k:
            taken[k] = gap.argmax()
        last = taken[k]
        np.minimum(gap, squares + squares[last] - 2.0 * (points @ points[last]), out=gap)
        gap[last] = -np.inf
    return taken


def _kmeans_medoids(
    points: NDArray[np.floating], n_points: int, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Rows nearest to the centers of k-means.

    Where two centers share their nearest row, farthest points make up the number.
    """
    cls = KMeans if len(points) <= _MINIBATCH_ROWS else MiniBatchKMeans
    model = cls(n_points, n_init=1, init="random", max_iter=20, random_state=rng)
    model.fit(points)
    taken = np.unique(pairwise_distances_argmin(model.cluster_centers_, points))
    if len(taken) < n_points:
        rest = np.setdiff1d(np.arange(len(points)), taken)
        more = _farthest_points(points[rest], n_points - len(taken), rng)
        taken = np.concatenate([taken, rest[more]])
    return taken


@checks_arguments(
    {
        "points": ["array-like"],
        "n_landmarks": [Interval(numbers.Integral, 1, None, closed="left")],
        "codes": ["array-like", None],
        "method": [StrOptions({"kmeans", "farthest", "random"})],
        "random_state": ["random_state"],
    }
)
def choose_landmarks(
    points: ArrayLike,
    n_landmarks: int,
    *,
    codes: ArrayLike | None = None,
    method: str = "kmeans",
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.intp]:
    """Choose rows that stand for all of them.

    Parameters
    ----------
    points : array-like of shape (n_samples, n_features)
        Latents or positions.
    n_landmarks : int
        How many rows to choose. If there are no more rows than that, all are returned.
    codes : array-like of shape (n_samples,), default=None
        Section of each row. Sections then get landmarks in proportion to their size, and at
        least one each.
    method : {"kmeans", "farthest", "random"}, default="kmeans"
        ``"kmeans"`` takes the rows nearest to the centers of k-means and so follows the
        density. ``"farthest"`` takes, one after another, the row farthest from those taken,
        which covers the edges but also the outliers. ``"random"`` draws without replacement.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice.

    Returns
    -------
    indices : ndarray of shape (min(n_landmarks, n_samples),)
        Chosen rows, ascending.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.reconstruction._landmarks import choose_landmarks
    >>> line = np.arange(9.0)[:, None]
    >>> choose_landmarks(line, 3, method="farthest", random_state=0)
    array([0, 5, 8])
    """
    checked = check_array(points, dtype=[np.float64, np.float32], input_name="points")
    rng = check_random_state(random_state)
    n_samples = len(checked)
    if n_landmarks >= n_samples:
        return np.arange(n_samples)
    sections = np.zeros(n_samples, dtype=np.intp) if codes is None else np.asarray(codes)
    if sections.shape != (n_samples,):
        raise ValueError(
            f"codes has shape {sections.shape}, but points has {n_samples} rows. Pass one code "
            "per row."
        )
    labels, sections, sizes = np.unique(sections, return_inverse=True, return_counts=True)
    if n_landmarks < len(labels):
        raise ValueError(
            f"n_landmarks={n_landmarks} is less than the number of sections, {len(labels)}. "
            "Choose at least one landmark per section."
        )
    choose = {"kmeans": _kmeans_medoids, "farthest": _farthest_points, "random": _draw}[method]
    taken = []
    for section, share in enumerate(_shares(sizes, n_landmarks)):
        rows = np.flatnonzero(sections == section)
        if share < len(rows):
            rows = rows[choose(checked[rows], share, rng)]
        taken.append(rows)
    return np.sort(np.concatenate(taken))


def _draw(
    points: NDArray[np.floating], n_points: int, rng: np.random.RandomState
) -> NDArray[np.intp]:
    return rng.choice(len(points), n_points, replace=False)


def _shares(sizes: NDArray[np.intp], total: int) -> NDArray[np.intp]:
    """Split `total` in proportion to `sizes`: each share is at least 1 and at most its size."""
    exact = total * sizes / sizes.sum()
    shares = np.maximum(np.floor(exact).astype(int), 1)
    while shares.sum() > total:
        shares[np.argmax(np.where(shares > 1, shares - exact, -np.inf))] -= 1
    while shares.sum() < total:
        shares[np.argmax(np.where(shares < sizes, exact - shares, -np.inf))] += 1
    return shares
