"""Local quadratic regression of one variable on another (loess).

Imports nothing of this package.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEGREE = 2
# A cell of the interpolation holds at most this share of a neighborhood.
CELL = 0.2


def loess(x: ArrayLike, y: ArrayLike, span: float = 0.3) -> NDArray[np.float64]:
    """Smooth `y` over `x` by local quadratic fits, blended by cubics.

    This is the regression of Cleveland and Devlin as the reference implementation computes it:
    the fit and its slope are found at a few vertices only, and cubic Hermite polynomials join
    them. At a vertex v, the nearest ``floor(span * n)`` points have tricube weights
    ``(1 - (|x - v| / h)^3)^3``, where h is the distance of the farthest of them. Vertices are the
    two ends of the range of `x`, widened by half a percent, and cuts that halve the points until
    at most ``floor(0.2 * span * n)`` lie between two cuts.

    Parameters
    ----------
    x, y : ndarray of shape (n,)
        Finite values. `x` may repeat values.
    span : float, default=0.3
        Share of the points in a neighborhood, in (0, 1]. A neighborhood has at least four points.

    Returns
    -------
    fitted : ndarray of shape (n,)
        The smoothed values at `x`.

    References
    ----------
    Cleveland, W. S. and Devlin, S. J. (1988). Locally weighted regression: an approach to
    regression analysis by local fitting. JASA 83, 596-610.

    Cleveland, W. S. and Grosse, E. (1991). Computational methods for local regression. Statistics
    and Computing 1, 47-62.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.feature_selection._loess import loess
    >>> x = np.linspace(0, 1, 50)
    >>> bool(np.allclose(loess(x, 3 * x**2 - x), 3 * x**2 - x))
    True
    """
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    n = len(x)
    # Without the tiny term, rounding could make floor(0.3 * 10) 2.
    n_neighbors = min(n, max(int(np.floor(n * span + 1e-5)), DEGREE + 2))

    order = np.argsort(x, kind="stable")
    vertices = _vertices(x[order], max_points=int(np.floor(n * (span * CELL))))
    values, slopes = np.array([_local_fit(v, x, y, n_neighbors) for v in vertices]).T

    right = np.clip(np.searchsorted(vertices, x), 1, len(vertices) - 1)
    left = right - 1
    width = vertices[right] - vertices[left]
    t = (x - vertices[left]) / width
    return (
        (1 - t) ** 2 * (1 + 2 * t) * values[left]
        + t**2 * (3 - 2 * t) * values[right]
        + width * (t * (1 - t) ** 2 * slopes[left] - t**2 * (1 - t) * slopes[right])
    )


def _vertices(x: NDArray[np.float64], max_points: int) -> NDArray[np.float64]:
    """Sorted vertices over sorted points: the ends of the widened range and the cuts between."""
    margin = 0.005 * max(x[-1] - x[0], 1e-10 * max(abs(x[0]), abs(x[-1])) + 1e-30)
    vertices = [x[0] - margin, x[-1] + margin]
    cells = [(0, len(x) - 1, vertices[0], vertices[1])]
    while cells:
        first, last, low, high = cells.pop()
        if last - first + 1 <= max_points:
            continue
        middle = _split(x, first, last)
        cut = x[middle]
        if cut in (low, high):
            continue
        vertices.append(cut)
        cells += [(first, middle, low, cut), (middle + 1, last, cut, high)]
    return np.sort(vertices)


def _split(x: NDArray[np.float64], first: int, last: int) -> int:
    """Index of the last point of the left half. If values tie there, of the nearest gap.

    The search for a gap alternates between right and left of the middle. If one side ends before
    a gap is found, the middle is kept.
    """
    # The reference implementation halves one-based indices.
    middle = (first + last + 2) // 2 - 1
    offset = 0
    while first <= middle + offset < last:
        if x[middle + offset] != x[middle + offset + 1]:
            return middle + offset
        offset = -offset if offset > 0 else 1 - offset
    return middle


def _local_fit(
    vertex: float, x: NDArray[np.float64], y: NDArray[np.float64], n_neighbors: int
) -> NDArray[np.float64]:
    """Value and slope, at a vertex, of the weighted quadratic fit to its nearest points."""
    distance = np.abs(x - vertex)
    radius = np.partition(distance, n_neighbors - 1)[n_neighbors - 1]
    near = distance <= radius
    x, y, distance = x[near] - vertex, y[near], distance[near]
    # Neighbors that are all at the vertex, or all at the rim, have equal weights.
    weights = np.ones(len(x))
    if radius > 0 and distance.min() < radius:
        weights = np.sqrt((1 - (distance / radius) ** 3) ** 3)

    design = weights[:, None] * np.vander(x, DEGREE + 1, increasing=True)
    norms = np.sqrt((design**2).sum(axis=0))
    norms[norms == 0] = 1.0
    rcond = 100 * np.finfo(np.float64).eps
    coefficients, *_ = np.linalg.lstsq(design / norms, weights * y, rcond=rcond)
    return (coefficients / norms)[:2]
