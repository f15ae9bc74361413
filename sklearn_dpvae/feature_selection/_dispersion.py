"""Scores of high variability: how much more a gene varies than genes of similar mean.

Pure functions of expression matrices that `check_matrix` has validated. May import `_utils`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._utils.matrix import column_moments, row_blocks
from ._loess import loess

# Median absolute deviation of a standard normal variable.
NORMAL_MAD = 0.6744897501960817


def select_by_dispersion(
    parts: Sequence[Any], n_top: int, flavor: str, n_bins: int = 20
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Genes of the highest normalized dispersion, in one section or over several.

    Over sections, genes that are among the `n_top` of more sections come first, then genes of
    higher mean score.

    Parameters
    ----------
    parts : list of {ndarray, CSR matrix} of shape (n_samples, n_features)
        Log-normalized expression of the sections, not negative.
    n_top : int
        Number of genes. In one section, genes that tie with the last of them are chosen, too.
    flavor : {"seurat", "cell_ranger"}
        See `binned_dispersion`.
    n_bins : int, default=20
        Number of bins of "seurat".

    Returns
    -------
    means, dispersions, scores : ndarray of shape (n_features,)
        As of `binned_dispersion`, averaged over sections. A section that does not express a gene
        counts with 0.
    support : ndarray of shape (n_features,), dtype bool
        The genes chosen; none if no gene varies.
    """
    if len(parts) == 1:
        means, dispersions, scores = binned_dispersion(parts[0], flavor, n_bins)
        return means, dispersions, scores, _top(scores, dispersions, n_top)

    shape = len(parts), parts[0].shape[1]
    means, dispersions, scores = np.zeros((3, *shape))
    chosen = np.zeros(shape, dtype=bool)
    for i, part in enumerate(parts):
        expressed = np.flatnonzero(np.asarray((part > 0).sum(axis=0)).ravel())
        if not len(expressed):
            continue
        found = binned_dispersion(part[:, expressed], flavor, n_bins)
        means[i, expressed], dispersions[i, expressed], scores[i, expressed] = found
        chosen[i, expressed] = _top(scores[i, expressed], dispersions[i, expressed], n_top)
    means, dispersions, scores = map(_mean_of_known, (means, dispersions, scores))
    n_chosen = chosen.sum(axis=0)
    order = np.lexsort((-scores, -n_chosen))
    support = np.zeros(shape[1], dtype=bool)
    support[order[:n_top]] = n_chosen.any()
    return means, dispersions, scores, support


def select_by_variance(
    parts: Sequence[Any], n_top: int, span: float = 0.3
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Genes of the highest variance about the trend, in one section or over several.

    Over sections, genes are ordered by their median rank in the sections where they are among the
    `n_top`, then by the number of these sections.

    Parameters
    ----------
    parts : list of {ndarray, CSR matrix} of shape (n_samples, n_features)
        Counts of the sections.
    n_top : int
        Number of genes.
    span : float, default=0.3
        See `variance_about_trend`.

    Returns
    -------
    scores : ndarray of shape (n_features,)
        Mean over sections of `variance_about_trend`.
    support : ndarray of shape (n_features,), dtype bool
        The genes chosen; none if no gene varies.
    """
    scores = np.array([variance_about_trend(part, span) for part in parts])
    n_features = scores.shape[1]
    # Genes of equal counts tie. Like scanpy's, this sort is not stable: a stable sort would order
    # ties in another way, and choose other genes than scanpy.
    ranks = np.argsort(np.argsort(-scores, axis=1), axis=1).astype(np.float64)
    ranks[ranks >= n_top] = np.nan

    n_chosen = (~np.isnan(ranks)).sum(axis=0)
    median_rank = np.full(n_features, np.inf)
    median_rank[n_chosen > 0] = np.nanmedian(ranks[:, n_chosen > 0], axis=0)
    order = np.lexsort((-n_chosen, median_rank))
    support = np.zeros(n_features, dtype=bool)
    support[order[:n_top]] = scores.any()
    return scores.mean(axis=0), support


def binned_dispersion(
    X: Any, flavor: str, n_bins: int = 20
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Dispersions of genes, relative to genes of similar mean.

    The dispersion is variance over mean. It is centered and scaled within bins of mean expression.
    "seurat" takes mean and standard deviation of the log dispersions, in `n_bins` bins of equal
    width of the log mean. "cell_ranger" takes median and median absolute deviation of the
    dispersions, in bins between the percentiles 10, 15, ... 100 of the mean.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_samples, n_features)
        Log-normalized expression, not negative.
    flavor : {"seurat", "cell_ranger"}
        The recipe. "seurat" undoes the logarithm first, "cell_ranger" does not.
    n_bins : int, default=20
        Number of bins of "seurat".

    Returns
    -------
    means : ndarray of shape (n_features,)
        Mean expression, as log(1 + mean) for "seurat".
    dispersions : ndarray of shape (n_features,)
        Dispersions. For "seurat" their logarithms, and NaN for constant genes.
    scores : ndarray of shape (n_features,)
        Normalized dispersions. For "seurat" 1 for a gene that is alone in its bin.

    Raises
    ------
    ValueError
        If the values are too large to be logarithms ("seurat").

    References
    ----------
    Satija, R. et al. (2015). Spatial reconstruction of single-cell gene expression data. Nature
    Biotechnology 33, 495-502.

    Zheng, G. X. Y. et al. (2017). Massively parallel digital transcriptional profiling of single
    cells. Nature Communications 8, 14049.
    """
    if flavor == "seurat":
        X = _undo_log1p(X)
    mean, variance = column_moments(X)
    variance = _unbiased(variance, X.shape[0])
    mean[mean == 0] = 1e-12
    dispersion = variance / mean

    center: Callable[..., Any]
    if flavor == "cell_ranger":
        edges = np.percentile(mean, np.arange(10, 105, 5))
        edges = np.unique(np.r_[-np.inf, edges, np.inf])
        center, spread = np.median, _mad
    else:
        with np.errstate(divide="ignore"):
            dispersion = np.log(dispersion)
        dispersion[np.isneginf(dispersion)] = np.nan
        mean = np.log1p(mean)
        edges = _equal_width_edges(mean, n_bins)
        center, spread = np.mean, _sample_deviation

    # Bins are closed on the right.
    bins = np.searchsorted(edges, mean, side="left")
    scores = np.full(len(mean), np.nan)
    for label in np.unique(bins):
        members = (bins == label) & ~np.isnan(dispersion)
        if not members.any():
            continue
        values = dispersion[members]
        middle, width = center(values), spread(values)
        if np.isnan(width):
            middle, width = 0.0, middle
        with np.errstate(divide="ignore", invalid="ignore"):
            scores[members] = (values - middle) / width
    return mean, dispersion, scores


def variance_about_trend(X: Any, span: float = 0.3) -> NDArray[np.float64]:
    """Variance of genes after scaling by the standard deviation expected for their mean.

    ::

        log10 s_j^2 = loess of log10 variance on log10 mean, over genes that vary
        score_j = 1 / (n - 1) * sum_i ((min(x_ij, m_j + s_j sqrt(n)) - m_j) / s_j)^2

    The recipe "vst" of Seurat v3.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_samples, n_features)
        Counts.
    span : float, default=0.3
        Share of the genes in a neighborhood of the loess.

    Returns
    -------
    scores : ndarray of shape (n_features,)
        Variances of the scaled and clipped counts.

    References
    ----------
    Stuart, T. et al. (2019). Comprehensive integration of single-cell data. Cell 177, 1888-1902.
    """
    n_samples, n_features = X.shape
    mean, variance = column_moments(X)
    variance = _unbiased(variance, n_samples)
    varies = variance > 0

    expected = np.ones(n_features)
    if varies.any():
        trend = loess(np.log10(mean[varies]), np.log10(variance[varies]), span)
        expected[varies] = np.sqrt(10**trend)
    limit = expected * np.sqrt(n_samples) + mean

    total = np.zeros(n_features)
    squares = np.zeros(n_features)
    for block in row_blocks(X):
        if sparse.issparse(block):
            clipped = np.minimum(block.data, limit[block.indices])
            total += np.bincount(block.indices, clipped, minlength=n_features)
            squares += np.bincount(block.indices, clipped**2, minlength=n_features)
        else:
            clipped = np.minimum(block, limit)
            total += clipped.sum(axis=0)
            squares += (clipped**2).sum(axis=0)
    deviation = n_samples * mean**2 + squares - 2 * total * mean
    deviation[~varies] = 0.0
    return deviation / ((n_samples - 1) * expected**2)


def _top(
    scores: NDArray[np.float64], dispersions: NDArray[np.float64], n_top: int
) -> NDArray[np.bool_]:
    """Mask of the `n_top` highest scores and all that tie with the last of them, never a NaN."""
    if np.isnan(scores).all():
        # There are so few genes that no bin of "cell_ranger" has a spread.
        scores = np.where(dispersions > 0, dispersions, np.nan)
    usable = np.sort(scores[~np.isnan(scores)])
    if not len(usable):
        return np.zeros(len(scores), dtype=bool)
    return scores >= usable[-min(n_top, len(usable))]


def _mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over rows of the values that are not NaN. NaN for columns of NaN only."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _undo_log1p(X: Any) -> Any:
    if X.shape[0] and X.max() > 80:
        raise ValueError(
            f"X has values up to {X.max():.6g}, too large for logarithms, but flavor='seurat' "
            "needs log-normalized expression. Put LogNormalizer before it, or use "
            "flavor='seurat_v3' for raw counts."
        )
    return X.expm1() if sparse.issparse(X) else np.expm1(X)


def _unbiased(variance: NDArray[np.float64], n_samples: int) -> NDArray[np.float64]:
    return variance * (n_samples / (n_samples - 1))


def _equal_width_edges(values: NDArray[np.float64], n_bins: int) -> NDArray[np.float64]:
    """Edges of bins of equal width. The first is a little lower, so that it holds the minimum."""
    low, high = values.min(), values.max()
    if low == high:
        margin = 0.001 * abs(low) or 0.001
        return np.linspace(low - margin, high + margin, n_bins + 1)
    edges = np.linspace(low, high, n_bins + 1)
    edges[0] -= 0.001 * (high - low)
    return edges


def _sample_deviation(values: NDArray[np.float64]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def _mad(values: NDArray[np.float64]) -> float:
    return float(np.median(np.abs(values - np.median(values)))) / NORMAL_MAD
