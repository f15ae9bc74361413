"""Procrustes scores: what the best similarity of each section leaves unexplained.

Imports of this package: this folder's checks and Procrustes analysis, and `_utils`.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._utils.arrays import check_array
from .._utils.warn import warn
from ._checks import check_two_point_sets, is_one_point
from ._procrustes import ProcrustesTransform, fit_similarity


def _check_weights(sample_weight: ArrayLike | None, n_samples: int) -> NDArray[np.float64] | None:
    if sample_weight is None:
        return None
    weights = check_array(
        sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight"
    )
    if weights.shape != (n_samples,):
        raise ValueError(
            f"sample_weight has shape {weights.shape}, but there are {n_samples} rows. Pass one "
            "weight per row."
        )
    if weights.min() < 0 or not weights.any():
        raise ValueError(
            f"sample_weight ranges from {weights.min()} to {weights.max()}. Pass weights that "
            "are not negative, and at least one that is positive."
        )
    return weights


def align_sections(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sections: ArrayLike | None,
    sample_weight: ArrayLike | None = None,
) -> tuple[
    list[tuple[NDArray[np.intp], ProcrustesTransform]], NDArray[np.float64], NDArray[np.float64]
]:
    """Best similarity of each section that has an extent.

    Returns the list of (rows, transform), and the validated points. Rows of weight 0 are in no
    section.
    """
    y_true, y_pred, parts, labels = check_two_point_sets(
        y_true, y_pred, ("y_true", "y_pred"), sections, any_unit=True
    )
    weights = _check_weights(sample_weight, len(y_true))
    fits, degenerate = [], []
    for rows, label in zip(parts, labels.tolist(), strict=True):
        if weights is not None:
            rows = rows[weights[rows] > 0]
            if not len(rows):
                continue
        if is_one_point(y_true[rows]):
            degenerate.append(label)
        else:
            fit = fit_similarity(
                y_pred[rows],
                y_true[rows],
                scaling=True,
                reflection=True,
                weights=None if weights is None else weights[rows],
            )
            fits.append((rows, fit))
    if not fits:
        raise ValueError(
            f"y_true is constant (the same point {y_true[0].tolist()} in "
            f"{'all' if sections is None else 'each section, for all'} {len(y_true)} row(s)), so "
            "there is no map to compare with. Pass at least two distinct positions per section."
        )
    if degenerate:
        warn(
            f"section(s) {degenerate} have no two distinct positions in y_true and are left out "
            "of the score."
        )
    return fits, y_true, y_pred


def _total(sample_weight: ArrayLike | None, rows: NDArray[np.intp]) -> float:
    """Sum of the weights of some rows; their number where there are no weights."""
    return len(rows) if sample_weight is None else np.asarray(sample_weight, float)[rows].sum()


def procrustes_disparity(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    sections: ArrayLike | None = None,
) -> float:
    """Share of a map's spread that the best similarity of another map leaves unexplained.

    ``min |Y - (s P R + t)|^2 / |Y - mean(Y)|^2`` over translations t, rotations and reflections
    R and scales s; the third value that `scipy.spatial.procrustes` returns. It is symmetric
    in its arguments, and ``1 - disparity`` is the coefficient of determination after the best
    similarity.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_dims_pred)
        Predicted positions or latents of the same cells. The set with fewer dimensions is
        completed by coordinates that are 0.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each row, not negative. An integer weight counts the row as often: in the
        similarity, in what it leaves unexplained, and in the mean over sections.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Each section is aligned on its own, as its frame is its own, and
        the result is the mean over sections weighted by their numbers of cells; thus it does
        not depend on the units of each section. Sections without two distinct positions in
        `y_true` are left out with a warning.

    Returns
    -------
    float
        0 for a perfect map, 1 for one that is no better than a single point. A constant
        prediction gives 1.

    Raises
    ------
    ValueError
        If the sets have different numbers of rows, hold NaN or infinity, if `y_true` is
        constant, or if a weight is negative or all are 0.

    See Also
    --------
    procrustes_distance : The misfit in tissue units.
    ProcrustesScorer : ``1 - disparity`` of an estimator, for ``scoring=``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import procrustes_disparity
    >>> coords = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> round(procrustes_disparity(coords, 7 - 3 * coords), 6)
    0.0
    >>> procrustes_disparity(coords, np.zeros((4, 2)))
    1.0
    """
    fits, _, _ = align_sections(y_true, y_pred, sections, sample_weight)
    totals = [_total(sample_weight, rows) for rows, _ in fits]
    return float(np.average([fit.disparity for _, fit in fits], weights=totals))


def procrustes_distance(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    sections: ArrayLike | None = None,
    normalize: bool = False,
) -> float:
    """Frobenius distance between two maps after the best similarity.

    ``min |Y - (s P R + t)|_F`` over translations t, rotations and reflections R and scales s,
    in the units of `y_true`: the Procrustes distance by which the paper measures a
    reconstruction.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions, in tissue units.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_dims_pred)
        Predicted positions or latents of the same cells. The set with fewer dimensions is
        completed by coordinates that are 0.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each row, not negative. An integer weight counts the row as often.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Each section is aligned on its own and the squared distances of all
        sections are added up, so all sections must be in the same units. Sections without two
        distinct positions in `y_true` are left out with a warning.
    normalize : bool, default=False
        Whether to divide by the square root of the number of rows, which gives the root mean
        square distance of a cell to its place. The plain Frobenius distance grows with the
        number of cells.

    Returns
    -------
    float
        The distance, in the units of `y_true`; 0 for a perfect map.

    Raises
    ------
    ValueError
        If the sets have different numbers of rows, hold NaN or infinity, if `y_true` is
        constant, or if a weight is negative or all are 0.

    References
    ----------
    W. Zhou and J.-H. Du (2024), "Distance-Preserving Spatial Representations in Genomic Data",
    arXiv:2408.00911.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import procrustes_distance
    >>> coords = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    >>> round(procrustes_distance(coords, np.zeros((4, 2))), 6)
    2.828427
    >>> round(procrustes_distance(coords, np.zeros((4, 2)), normalize=True), 6)
    1.414214
    """
    fits, y_true, _ = align_sections(y_true, y_pred, sections, sample_weight)
    squared, n_samples = 0.0, 0.0
    for rows, fit in fits:
        deviation = (y_true[rows] - fit.target_mean) ** 2
        if sample_weight is not None:
            deviation *= np.asarray(sample_weight, float)[rows, None]
        squared += fit.disparity * float(np.sum(deviation))
        n_samples += _total(sample_weight, rows)
    return float(np.sqrt(squared / n_samples if normalize else squared))
