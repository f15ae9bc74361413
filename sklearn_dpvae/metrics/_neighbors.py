"""Are neighbors kept, and how far from its place does a cell come to lie?

Imports of this package: this folder's checks and Procrustes alignment.
"""

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
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

# Distances within this relative difference are ties, broken by nothing but rounding.
_TIE = 1e-9
# Distances held at a time for cells with tied neighbors: 16 MB.
_CHUNK = 2**21


def _nearest_others(points, n_neighbors):
    """Distances and indices of the nearest other rows, also among rows that coincide."""
    distances, neighbors = KDTree(points).query(points, k=n_neighbors + 1)
    others = neighbors != np.arange(len(points))[:, None]
    # Where many rows coincide a row may be missing from its own list: drop the last instead.
    others[others.all(axis=1), -1] = False
    shape = (len(points), n_neighbors)
    return distances[others].reshape(shape), neighbors[others].reshape(shape)


def _hits(y_true, y_pred, k):
    """Mean share of hits of one section with more than `k` rows."""
    n_samples = len(y_true)
    true_radius = _nearest_others(y_true, k)[0][:, -1] * (1 + _TIE)
    distances, neighbors = _nearest_others(y_pred, min(k + 1, n_samples - 1))
    radius = distances[:, k - 1]

    apart = np.linalg.norm(y_true[neighbors[:, :k]] - y_true[:, None], axis=2)
    hits = np.sum(apart <= true_radius[:, None], axis=1) / k

    # Where the k-th and the next neighbor are equally near, the choice among the tied would be
    # arbitrary: count what a random choice hits on average.
    tied_rows = (
        np.flatnonzero(distances[:, -1] <= radius * (1 + _TIE)) if k < n_samples - 1 else []
    )
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
    """Mean share of a cell's nearest neighbors in one map that are its neighbors in another.

    A cell itself is none of its neighbors. One of the `k` cells that are nearest in `y_pred` is
    a hit if in `y_true` it is no farther than the k-th nearest cell. Ties in `y_true` thus all
    count as neighbors, and ties in `y_pred` count as the average over all choices among them,
    so the result does not depend on the order of the rows.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_dims_pred)
        Predicted positions or latents of the same cells.
    k : int, default=10
        Number of neighbors.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Neighbors are sought within a section; the result is the mean over
        sections weighted by their numbers of cells. Sections of `k` cells or fewer are left out
        with a warning.

    Returns
    -------
    float
        1 if all neighbors are kept. A random map of n cells gives about ``k / (n - 1)``, and so
        does a constant prediction.

    Raises
    ------
    ValueError
        If `k` is below 1 or no section has more than `k` cells, or if the sets have different
        numbers of rows or hold NaN or infinity.

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
        needs=f"more than k={k} cells (at most {max(map(len, parts))} are given; lower k)",
    )


def spot_spacing(coords: ArrayLike, *, sections: ArrayLike | None = None) -> float:
    """Median distance of a position to the nearest other position.

    Parameters
    ----------
    coords : array-like of shape (n_samples,) or (n_samples, n_dims)
        Positions. Cells at the same position count once.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Neighbors are sought within a section, and the median is that of all
        positions of all sections, which must be in the same units.

    Returns
    -------
    float
        The spacing, in the units of `coords`: on a grid, its pitch.

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
    coords = check_points(coords, "coords")
    parts, _ = section_parts(sections, len(coords))
    nearest = [
        _nearest_others(np.unique(coords[rows], axis=0), 1)[0].ravel()
        for rows in parts
        if not is_one_point(coords[rows])
    ]
    if not nearest:
        raise ValueError(
            f"coords holds no two distinct positions of one section in {len(coords)} row(s), so "
            "it has no spacing."
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
    """Median distance of a cell's predicted position to its true one.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_dims)
        Predicted positions of the same cells.
    unit : float or "spacing", default="spacing"
        Length to measure in, in tissue units. ``"spacing"`` takes `spot_spacing` of `y_true`,
        each section by its own. If `y_true` holds only some of a section's spots, for example a
        random test set, pass ``unit=spot_spacing(all_positions)`` instead. 1 leaves tissue
        units.
    align : bool, default=True
        Whether to move each section of `y_pred` by the best similarity first. Choose False for
        predictions that are already in the frame of `y_true`, to count errors of pose and
        scale.
    sections : array-like of shape (n_samples,), default=None
        One label per row. The median is that of all cells. Sections without two distinct
        positions in `y_true` are left out with a warning.

    Returns
    -------
    float
        The median error in `unit`.

    Raises
    ------
    ValueError
        If `unit` is neither positive nor "spacing", if `align` is False and the numbers of
        dimensions differ, if the sets have different numbers of rows or hold NaN or infinity,
        or if `y_true` is constant.

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
    fits, y_true, y_pred = align_sections(y_true, y_pred, sections)
    if not align:
        _check_same_dimension(y_true, y_pred)
    errors = []
    for rows, fit in fits:
        length = spot_spacing(y_true[rows]) if isinstance(unit, str) else unit
        placed = fit.transform(y_pred[rows]) if align else y_pred[rows]
        errors.append(np.linalg.norm(placed - y_true[rows], axis=1) / length)
    return float(np.median(np.concatenate(errors)))


def radius_coverage(y_true: ArrayLike, y_pred: ArrayLike, radius: ArrayLike) -> float:
    """Share of cells whose true position lies within a radius around the predicted one.

    If the radii are meant to hold with some probability, the coverage should equal it.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions, in tissue units.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_dims)
        Predicted positions in the same frame. Nothing is aligned.
    radius : float or array-like of shape (n_samples,)
        The radius of all cells or of each, in tissue units, not negative.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If shapes do not match, a radius is negative, or anything is NaN or infinite.

    Examples
    --------
    >>> from sklearn_dpvae.metrics import radius_coverage
    >>> radius_coverage([[0, 0], [0, 0]], [[3, 4], [6, 8]], radius=5)
    0.5
    """
    y_true, y_pred, _, _ = check_two_point_sets(y_true, y_pred, ("y_true", "y_pred"))
    _check_same_dimension(y_true, y_pred)
    radii = np.asarray(radius, dtype=np.float64)
    if radii.ndim and radii.shape != (len(y_true),):
        raise ValueError(
            f"radius has shape {radii.shape}; pass one number, or one per row, shape "
            f"({len(y_true)},)."
        )
    if not np.all(np.isfinite(radii) & (radii >= 0)):
        raise ValueError("radius must be finite and not negative.")
    return float(np.mean(np.linalg.norm(y_true - y_pred, axis=1) <= radii))


def _check_same_dimension(y_true, y_pred):
    if y_true.shape[1] != y_pred.shape[1]:
        raise ValueError(
            f"y_true has {y_true.shape[1]} dimension(s) but y_pred has {y_pred.shape[1]}; "
            "distances between them need positions in one frame."
        )
