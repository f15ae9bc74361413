"""Are distances preserved? The correlation and the stress of the distances of pairs of cells.

From this package it imports the checks and the pairs of this folder.
"""

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.utils import check_random_state, check_scalar

from ._checks import average_over_sections, check_option, check_two_point_sets
from ._pairs import pair_distances, pooled_pair_distances

# Distances are rounded to this many digits after division by the largest one: what differs less
# is equal but for rounding errors.
RESOLUTION_DIGITS = 12


def check_max_pairs(max_pairs: int | None) -> None:
    """Raise unless `max_pairs` is None or an integer of at least 2."""
    if max_pairs is not None:
        check_scalar(max_pairs, "max_pairs", Integral, min_val=2)


def correlate(first: NDArray[np.float64], second: NDArray[np.float64], method: str) -> float:
    """Return the Pearson or Spearman correlation, or NaN if one of the vectors is constant.

    Ranks are taken of rounded values. On a grid of spots many distances are equal, and rounding
    errors would break their ties in a way that depends on the pose of the grid.
    """
    standard = []
    for values in (first, second):
        largest = np.abs(values).max()
        values = np.round(values / largest, RESOLUTION_DIGITS) if largest > 0 else values
        if np.ptp(values) == 0:
            return np.nan
        if method == "spearman":
            values = rankdata(values)
        values = values - values.mean()
        standard.append(values / np.linalg.norm(values))
    return float(np.clip(standard[0] @ standard[1], -1.0, 1.0))


def distance_correlation(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    method: str = "spearman",
    max_pairs: int | None = 1_000_000,
    sections: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> float:
    """Correlation of the pairwise distances in two maps.

    It judges the layout as a whole, and does not depend on the pose or the scale of either map.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_dims_pred)
        Predicted positions or latents of the same cells.
    method : {"spearman", "pearson"}, default="spearman"
        Whether to correlate the ranks of the distances, or the distances themselves.
    max_pairs : int or None, default=1_000_000
        If there are more pairs than this, this number is drawn at random. None takes all pairs,
        which needs ``16 * n * (n - 1) / 2`` bytes or more.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Pairs are formed within a section only, and `max_pairs` is divided
        among the sections. The result is the mean over sections, weighted by their numbers of
        cells. Sections whose true distances are all equal are left out with a warning.
    random_state : int, RandomState instance or None, default=0
        Determines which pairs are drawn.

    Returns
    -------
    float
        Between -1 and 1; 1 is best. It is 0 if all predicted distances are equal, for example
        because the prediction is constant.

    Raises
    ------
    ValueError
        If the sets differ in their numbers of rows, if they hold NaN or infinity, or if all
        distances in `y_true` are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import distance_correlation
    >>> coords = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 1.0], [0.0, 5.0]])
    >>> round(distance_correlation(coords, 2 * coords[:, ::-1] + 1), 6)
    1.0
    >>> distance_correlation(coords, np.zeros((4, 2)))
    0.0
    """
    check_option(method, "method", ("spearman", "pearson"))
    check_max_pairs(max_pairs)
    true_points, predicted_points, parts, labels = check_two_point_sets(
        y_true, y_pred, ("y_true", "y_pred"), sections
    )
    rng = check_random_state(random_state)

    def score(rows: NDArray[np.intp]) -> float | None:
        if len(rows) < 3:
            return None
        share = max_pairs and max(2, max_pairs * len(rows) // len(true_points))
        true, predicted = pair_distances(true_points[rows], predicted_points[rows], share, rng)
        if np.isnan(correlate(true, true, "pearson")):
            return None
        correlation = correlate(true, predicted, method)
        return 0.0 if np.isnan(correlation) else correlation

    return average_over_sections(
        parts, labels, score, needs="at least three cells at unequal distances in y_true"
    )


def best_scale(
    latent: NDArray[np.float64], tissue: NDArray[np.float64], kind: str = "absolute"
) -> float:
    """Return the c that minimizes ``latent - c * tissue``, in absolute values or in squares.

    For absolute values, it is the median of the ratios, weighted by the distances in the tissue.
    """
    if kind != "absolute":
        # Divide by the largest distance first, so that squares stay within range.
        unit = tissue.max()
        return float((latent / unit) @ (tissue / unit) / np.sum((tissue / unit) ** 2))
    apart = tissue > 0
    ratios, weights = latent[apart] / tissue[apart], tissue[apart]
    order = np.argsort(ratios)
    reached = np.cumsum(weights[order])
    return float(ratios[order][np.searchsorted(reached, reached[-1] / 2)])


def latent_and_tissue_distances(
    latents: ArrayLike,
    coords: ArrayLike,
    scale: float | None,
    sections: ArrayLike | None,
    max_pairs: int | None,
    random_state: int | np.random.RandomState | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Validate the input of `stress`, and return the distances of pairs within sections.

    Returns
    -------
    latent, tissue : ndarray of shape (n_pairs,)

    Raises
    ------
    ValueError
        If no section has two distinct positions, or the input is not valid.
    """
    check_max_pairs(max_pairs)
    if scale is not None:
        check_scalar(scale, "scale", Real, min_val=0, include_boundaries="neither")
    points, places, parts, _ = check_two_point_sets(
        latents, coords, ("latents", "coords"), sections
    )
    rng = check_random_state(random_state)
    latent, tissue = np.empty(0), np.empty(0)
    if any(len(rows) > 1 for rows in parts):
        latent, tissue = pooled_pair_distances(points, places, parts, max_pairs, rng)
    if not np.any(tissue > 0):
        raise ValueError(
            f"coords has {len(places)} row(s), but no section among them has two distinct "
            "positions, so there is no distance to preserve. Pass cells at different positions."
        )
    return latent, tissue


def stress(
    latents: ArrayLike,
    coords: ArrayLike,
    *,
    scale: float | None = None,
    kind: str = "absolute",
    max_pairs: int | None = 1_000_000,
    sections: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> float:
    r"""How much latent distances differ from the scaled distances in the tissue.

    Let :math:`d_{ij} = \|z_i - z_j\|` and :math:`s_{ij} = \|s_i - s_j\|`. Over all pairs of
    distinct cells of a section,

    * ``kind="absolute"`` is the mean of :math:`|d_{ij} - c\, s_{ij}|`, the distance-preserving
      loss of the paper (its eq. 3), in the units of the latents;
    * ``kind="kruskal"`` is :math:`\sqrt{\sum (d_{ij} - c\, s_{ij})^2 / \sum d_{ij}^2}`,
      Kruskal's stress-1, which has no unit.

    Parameters
    ----------
    latents : array-like of shape (n_samples,) or (n_samples, n_components)
        Latent means, or any other map of the cells.
    coords : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions, in tissue units.
    scale : float, default=None
        c, in latent units per tissue unit, such as the `scale_` of a fitted model. None takes
        the value that minimizes the stress of these pairs.
    kind : {"absolute", "kruskal"}, default="absolute"
        Which stress to compute.
    max_pairs : int or None, default=1_000_000
        If there are more pairs than this, this number is drawn at random. None takes all pairs.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Pairs are formed within a section only. All sections share one c.
    random_state : int, RandomState instance or None, default=0
        Determines which pairs are drawn.

    Returns
    -------
    float
        0 if all distances are preserved up to the scale. If `scale` is None, Kruskal's stress is
        at most 1. It is 1 by convention if all latents coincide.

    Raises
    ------
    ValueError
        If the sets differ in their numbers of rows, if they hold NaN or infinity, or if all
        positions of each section coincide.

    References
    ----------
    W. Zhou and J.-H. Du (2024), "Distance-Preserving Spatial Representations in Genomic Data",
    arXiv:2408.00911, eq. (3).

    J. B. Kruskal (1964), "Multidimensional scaling by optimizing goodness of fit to a nonmetric
    hypothesis", Psychometrika 29.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import stress
    >>> coords = np.array([[0.0], [1.0], [2.0]])
    >>> stress(3 * coords, coords)
    0.0
    >>> stress(3 * coords, coords, scale=2.0)
    1.3333333333333333
    """
    check_option(kind, "kind", ("absolute", "kruskal"))
    latent, tissue = latent_and_tissue_distances(
        latents, coords, scale, sections, max_pairs, random_state
    )
    if scale is None:
        scale = best_scale(latent, tissue, kind)
    residual = latent - scale * tissue
    if kind == "absolute":
        return float(np.mean(np.abs(residual)))
    size = np.linalg.norm(latent)
    return float(np.linalg.norm(residual) / size) if size > 0 else 1.0
