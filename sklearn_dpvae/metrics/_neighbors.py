"""Does a map keep neighbors together, and how far is each cell from its true position?

From this package it imports the checks and the Procrustes alignment of this folder.
"""

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from sklearn.utils import check_scalar

from ._checks import (
    average_over_sections,
    check_points,
    check_two_point_sets,
    is_one_point,
    section_parts,
)
from ._disparity import align_sections

# Distances with a smaller relative difference are ties: only rounding errors separate them.
_TIE = 1e-9
# Number of distances in memory at a time for cells with tied neighbors: 16 MB.
_CHUNK = 2**21


def _nearest_others(
    points: NDArray[np.float64], n_neighbors: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return distances and indices of the nearest other rows, also among coinciding rows."""
    distances, neighbors = KDTree(points).query(points, k=n_neighbors + 1)
    others = neighbors != np.arange(len(points))[:, None]
    # If many rows coincide, a row may be missing from its own list. Drop the last one instead.
    others[others.all(axis=1), -1] = False
    shape = (len(points), n_neighbors)
    return distances[others].reshape(shape), neighbors[others].reshape(shape)


def _hits(y_true: NDArray[np.float64], y_pred: NDArray[np.float64], k: int) -> float:
    """Return the mean share of hits in one section of more than `k` rows."""
    n_samples = len(y_true)
    true_radius = _nearest_others(y_true, k)[0][:, -1] * (1 + _TIE)
    distances, neighbors = _nearest_others(y_pred, min(k + 1, n_samples - 1))
    radius = distances[:, k - 1]

    apart = np.linalg.norm(y_true[neighbors[:, :k]] - y_true[:, None], axis=2)
    hits = np.sum(apart <= true_radius[:, None], axis=1) / k

    # If the k-th and the next neighbor are equally near, the choice among the tied ones would be
    # arbitrary. Count what a random choice hits on average.
    is_tied = distances[:, -1] <= radius * (1 + _TIE)
    tied_rows = np.flatnonzero(is_tied & (k < n_samples - 1))
    step = max(1, _CHUNK // n_samples)
    for start in range(0, len(tied_rows), step):
        rows = tied_rows[start : start + step]
        predicted = cdist(y_pred[rows], y_pred)
        predicted[np.arange(len(rows)), rows] = np.inf
        near = cdist(y_true[rows], y_true) <= true_radius[rows, None]
        closer = predicted < radius[rows, None] * (1 - _TIE)
        tied = (predicted <= radius[rows, None] * (1 + _TIE)) & ~closer
        share = (k - closer.sum(axis=1)) / tied.sum(axis=1)
        hits[rows] = ((near & closer).sum(axis=1) + share * (near & tied).sum(axis=1)) / k
    return float(hits.mean())


def neighborhood_hits(
    y_true: ArrayLike, y_pred: ArrayLike, k: int = 10, *, sections: ArrayLike | None = None
) -> float:
    """Mean share of a cell's nearest neighbors in one map that are also neighbors in another.

    A cell does not count as its own neighbor. Each of the `k` nearest cells in `y_pred` is a hit
    if it is no farther away in `y_true` than the k-th nearest cell there. If several cells tie for
    that place in `y_true`, all of them count as neighbors. Ties in `y_pred` count as the average
    over all choices among them. The result therefore does not depend on the order of the rows.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_dims_pred)
        Predicted positions or latents of the same cells.
    k : int, default=10
        Number of neighbors.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Neighbors are sought within a section. The result is the mean over
        sections, weighted by their numbers of cells. Sections of `k` cells or fewer are left out
        with a warning.

    Returns
    -------
    float
        1 if all neighbors are kept. A random map of n cells gives about ``k / (n - 1)``, and so
        does a constant prediction.

    Raises
    ------
    ValueError
        If `k` is below 1, if no section has more than `k` cells, if the sets differ in their
        numbers of rows, or if they hold NaN or infinity.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import neighborhood_hits
    >>> coords = np.array([0.0, 1.0, 3.0, 6.0, 10.0])
    >>> neighborhood_hits(coords, -2 * coords, k=2)
    1.0
    >>> neighborhood_hits(coords, [0.0, 3.0, 1.0, 6.0, 10.0], k=1)
    0.2
    """
    check_scalar(k, "k", Integral, min_val=1)
    true, predicted, parts, labels = check_two_point_sets(
        y_true, y_pred, ("y_true", "y_pred"), sections
    )
    return average_over_sections(
        parts,
        labels,
        lambda rows: _hits(true[rows], predicted[rows], k) if len(rows) > k else None,
        needs=f"more than k={k} cells (the largest section has {max(map(len, parts))}; lower k)",
    )


def spot_spacing(coords: ArrayLike, *, sections: ArrayLike | None = None) -> float:
    """Median distance from a position to the nearest other position.

    Parameters
    ----------
    coords : array-like of shape (n_samples,) or (n_samples, n_dims)
        Positions. Several cells at the same position count once.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Neighbors are sought within a section. The median is taken over the
        positions of all sections, which must be in the same units.

    Returns
    -------
    float
        The spacing, in the units of `coords`. For a grid, this is its pitch.

    Raises
    ------
    ValueError
        If no section has two distinct positions, or if a position is NaN or infinite.

    Examples
    --------
    >>> from sklearn_dpvae.metrics import spot_spacing
    >>> spot_spacing([[0, 0], [0, 100], [100, 0], [100, 100], [100, 100]])
    100.0
    """
    points = check_points(coords, "coords")
    parts, _ = section_parts(sections, len(points))
    nearest = [
        _nearest_others(np.unique(points[rows], axis=0), 1)[0].ravel()
        for rows in parts
        if not is_one_point(points[rows])
    ]
    if not nearest:
        raise ValueError(
            f"coords has {len(points)} row(s), but no section among them has two distinct "
            "positions, so there is no spacing. Pass cells at different positions."
        )
    return float(np.median(np.concatenate(nearest)))


def median_position_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    unit: str | float = "spacing",
    align: bool = True,
    sections: ArrayLike | None = None,
) -> float:
    """Median distance between the predicted and the true position of a cell.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_dims)
        Predicted positions of the same cells.
    unit : float or "spacing", default="spacing"
        The length, in tissue units, that errors are measured in. ``"spacing"`` takes the
        `spot_spacing` of `y_true`, section by section. If `y_true` holds only some of a section's
        spots, for example a random test set, pass ``unit=spot_spacing(all_positions)`` instead.
        With 1, errors are in tissue units.
    align : bool, default=True
        Whether to first move each section of `y_pred` by the best similarity. If predictions are
        already in the frame of `y_true`, pass False, so that errors of pose and scale count.
    sections : array-like of shape (n_samples,), default=None
        One label per row. The median is taken over all cells. Sections without two distinct
        positions in `y_true` are left out with a warning.

    Returns
    -------
    float
        The median error in `unit`.

    Raises
    ------
    ValueError
        If `unit` is neither positive nor "spacing", if `align` is False and the numbers of
        dimensions differ, if the sets differ in their numbers of rows, if they hold NaN or
        infinity, or if `y_true` is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import median_position_error
    >>> coords = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]])
    >>> median_position_error(coords, coords + [25.0, 0.0], align=False)
    0.5
    >>> round(median_position_error(coords, coords + [25.0, 0.0]), 6)
    0.0
    """
    if isinstance(unit, str):
        if unit != "spacing":
            raise ValueError(f"unit must be a positive number or 'spacing', got {unit!r}.")
    else:
        check_scalar(unit, "unit", Real, min_val=0, include_boundaries="neither")
    check_two_point_sets(y_true, y_pred, ("y_true", "y_pred"))
    fits, true, predicted = align_sections(y_true, y_pred, sections)
    if not align:
        _check_same_dimension(true, predicted)
    errors = []
    for rows, fit in fits:
        length = spot_spacing(true[rows]) if isinstance(unit, str) else unit
        placed = fit.transform(predicted[rows]) if align else predicted[rows]
        errors.append(np.linalg.norm(placed - true[rows], axis=1) / length)
    return float(np.median(np.concatenate(errors)))


def radius_coverage(y_true: ArrayLike, y_pred: ArrayLike, radius: ArrayLike) -> float:
    """Share of cells whose true position lies within a radius around the predicted one.

    If the radii are meant to hold with some probability, the coverage should equal that
    probability.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions, in tissue units.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_dims)
        Predicted positions in the same frame. They are not aligned first.
    radius : float or array-like of shape (n_samples,)
        One radius for all cells, or one per cell, in tissue units; 0 or larger.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If shapes do not match, if a radius is negative, or if any value is NaN or infinite.

    Examples
    --------
    >>> from sklearn_dpvae.metrics import radius_coverage
    >>> radius_coverage([[0, 0], [0, 0]], [[3, 4], [6, 8]], radius=5)
    0.5
    """
    true, predicted, _, _ = check_two_point_sets(y_true, y_pred, ("y_true", "y_pred"))
    _check_same_dimension(true, predicted)
    radii = np.asarray(radius, dtype=np.float64)
    if radii.ndim and radii.shape != (len(true),):
        raise ValueError(
            f"radius has shape {radii.shape}. Pass one number, or one per row, of shape "
            f"({len(true)},)."
        )
    allowed = np.isfinite(radii) & (radii >= 0)
    if not np.all(allowed):
        raise ValueError(
            f"radius must be finite and 0 or larger, got {radii[~allowed].flat[0]:g} among its "
            "values."
        )
    return float(np.mean(np.linalg.norm(true - predicted, axis=1) <= radii))


def _check_same_dimension(y_true: NDArray[np.float64], y_pred: NDArray[np.float64]) -> None:
    if y_true.shape[1] != y_pred.shape[1]:
        raise ValueError(
            f"y_true has {y_true.shape[1]} dimension(s) but y_pred has {y_pred.shape[1]}. Without "
            "alignment, pass positions in the same frame."
        )
