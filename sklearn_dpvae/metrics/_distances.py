"""Are distances preserved? Correlation and stress of the distances of pairs of cells.

Imports of this package: this folder's checks and pairs.
"""

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from sklearn.utils import check_random_state, check_scalar

from ._checks import average_over_sections, check_option, check_two_point_sets
from ._pairs import pair_distances, pooled_pair_distances

# Distances that differ by less than this share of the largest one are equal but for rounding.
RESOLUTION_DIGITS = 12


def check_max_pairs(max_pairs):
    """Raise unless `max_pairs` is None or a positive number of pairs."""
    if max_pairs is not None:
        check_scalar(max_pairs, "max_pairs", Integral, min_val=2)


def correlate(first, second, method):
    """Pearson or Spearman correlation; NaN where one of the vectors is constant.

    Ranks are taken of rounded values: on a grid of spots many distances are equal, and ties
    that only rounding has broken would make the ranks depend on the pose of the grid.
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

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions.
    y_pred : array-like of shape (n_samples,) or (n_samples, n_dims_pred)
        Predicted positions or latents of the same cells.
    method : {"spearman", "pearson"}, default="spearman"
        Correlation of the ranks of the distances, or of the distances.
    max_pairs : int or None, default=1_000_000
        All pairs are taken as long as there are no more than this; otherwise this number of
        pairs is drawn at random. None takes all pairs, ``16 * n * (n - 1) / 2`` bytes or more.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Pairs are formed within a section only; `max_pairs` is divided among
        the sections, and the result is the mean over sections weighted by their numbers of
        cells. Sections whose true distances are all equal are left out with a warning.
    random_state : int, RandomState instance or None, default=0
        Draws the pairs.

    Returns
    -------
    float
        From -1 to 1, which is best. It is 0 if all predicted distances are equal, as those of
        a constant prediction are.

    Raises
    ------
    ValueError
        If the sets have different numbers of rows, hold NaN or infinity, or if all distances
        in `y_true` are equal.

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
    y_true, y_pred, parts, labels = check_two_point_sets(
        y_true, y_pred, ("y_true", "y_pred"), sections
    )
    rng = check_random_state(random_state)

    def score(rows):
        if len(rows) < 3:
            return None
        share = max_pairs and max(2, max_pairs * len(rows) // len(y_true))
        true, predicted = pair_distances(y_true[rows], y_pred[rows], share, rng)
        if np.isnan(correlate(true, true, "pearson")):
            return None
        correlation = correlate(true, predicted, method)
        return 0.0 if np.isnan(correlation) else correlation

    return average_over_sections(
        parts, labels, score, needs="at least three cells at unequal distances in y_true"
    )


def best_scale(latent, tissue, kind="absolute"):
    """The c that makes ``latent - c * tissue`` smallest: sum of absolute values, or of squares.

    The former is the median of the ratios weighted by the distances in the tissue.
    """
    if kind != "absolute":
        # Divided by the largest distance first, so that squares stay within range.
        unit = tissue.max()
        return float((latent / unit) @ (tissue / unit) / np.sum((tissue / unit) ** 2))
    apart = tissue > 0
    ratios, weights = latent[apart] / tissue[apart], tissue[apart]
    order = np.argsort(ratios)
    reached = np.cumsum(weights[order])
    return float(ratios[order][np.searchsorted(reached, reached[-1] / 2)])


def latent_and_tissue_distances(latents, coords, scale, sections, max_pairs, random_state):
    """Distances of pairs within sections, for validated input with an extent."""
    check_max_pairs(max_pairs)
    if scale is not None:
        check_scalar(scale, "scale", Real, min_val=0, include_boundaries="neither")
    latents, coords, parts, _ = check_two_point_sets(
        latents, coords, ("latents", "coords"), sections
    )
    rng = check_random_state(random_state)
    latent, tissue = np.empty(0), np.empty(0)
    if any(len(rows) > 1 for rows in parts):
        latent, tissue = pooled_pair_distances(latents, coords, parts, max_pairs, rng)
    if not np.any(tissue > 0):
        raise ValueError(
            f"coords holds no two distinct positions of one section in {len(coords)} row(s), so "
            "there is no distance to preserve."
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
    r"""How far the distances of latents are from the scaled distances in the tissue.

    With :math:`d_{ij} = \|z_i - z_j\|` and :math:`s_{ij} = \|s_i - s_j\|`, over all pairs of
    distinct cells of a section:

    * ``kind="absolute"``: mean of :math:`|d_{ij} - c\, s_{ij}|`, the distance-preserving loss
      of the paper (its eq. 3), in the units of the latents;
    * ``kind="kruskal"``: :math:`\sqrt{\sum (d_{ij} - c\, s_{ij})^2 / \sum d_{ij}^2}`, Kruskal's
      stress-1, which has no unit.

    Parameters
    ----------
    latents : array-like of shape (n_samples,) or (n_samples, n_components)
        Latent means, or any other map of the cells.
    coords : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions, in tissue units.
    scale : float, default=None
        c, in units of the latents per tissue unit, such as the `scale_` of a fitted model. None
        takes the value that makes the stress of these pairs smallest.
    kind : {"absolute", "kruskal"}, default="absolute"
        Which stress.
    max_pairs : int or None, default=1_000_000
        All pairs are taken as long as there are no more than this; otherwise this number of
        pairs is drawn at random. None takes all pairs.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Pairs are formed within a section only; c is common to all.
    random_state : int, RandomState instance or None, default=0
        Draws the pairs.

    Returns
    -------
    float
        0 if all distances are preserved up to the scale. With `scale` None, Kruskal's stress is
        at most 1. It is 1 by convention if all latents coincide.

    Raises
    ------
    ValueError
        If the sets have different numbers of rows, hold NaN or infinity, or if all positions
        of each section coincide.

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
