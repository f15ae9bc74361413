"""Selection of genes: by variability, or by how their expression clusters in space."""

import numbers
import warnings
from typing import ClassVar

import numpy as np
from scipy import sparse
from scipy.stats import norm
from sklearn.base import BaseEstimator, _fit_context
from sklearn.feature_selection import SelectorMixin
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .._utils.autocorrelation import knn_weights, moran_i, moran_null
from .._utils.matrix import check_matrix, column_moments
from .._utils.validation import check_coords, check_sections
from ._dispersion import select_by_dispersion, select_by_variance

__all__ = ["HighlyVariableGenes", "SpatiallyVariableGenes"]


class _GeneSelector(SelectorMixin, BaseEstimator):
    """What both selectors share: a fitted mask, sparse input."""

    __metadata_request__fit: ClassVar = {"sections": True}

    def _get_support_mask(self):
        check_is_fitted(self)
        return self.support_

    def __sklearn_is_fitted__(self):
        return hasattr(self, "support_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class HighlyVariableGenes(_GeneSelector):
    """Keep the genes that vary most for their mean expression.

    The picks are those of ``scanpy.pp.highly_variable_genes``.

    Parameters
    ----------
    n_top_genes : int, default=2000
        Number of genes to keep. Genes that tie with the last of them are kept too (flavors
        "seurat" and "cell_ranger" without sections).
    flavor : {"seurat", "cell_ranger", "seurat_v3"}, default="seurat"
        How variability is scored.

        - "seurat": log dispersion, variance over mean, within bins of the log mean. Needs
          log-normalized expression (`LogNormalizer`).
        - "cell_ranger": dispersion within bins of equally many genes, scored by median and
          median absolute deviation. Needs log-normalized expression.
        - "seurat_v3": variance of the counts after scaling by the standard deviation that a
          loess over all genes predicts from the mean. Needs raw counts, so it stands before
          `LogNormalizer`, which then sees the library sizes of the chosen genes alone.
    n_bins : int, default=20
        Number of bins ("seurat").
    span : float, default=0.3
        Share of the genes in a neighborhood of the loess ("seurat_v3").

    Attributes
    ----------
    support_ : ndarray of shape (n_features_in_,), dtype bool
        Which genes are kept.
    means_ : ndarray of shape (n_features_in_,)
        Mean expression; for "seurat" log(1 + mean) of the normalized counts.
    dispersions_ : ndarray of shape (n_features_in_,)
        Variance over mean, for "seurat" as a logarithm and NaN for constant genes. Not for
        "seurat_v3".
    dispersions_norm_ : ndarray of shape (n_features_in_,)
        Dispersions centered and scaled within bins. Not for "seurat_v3".
    variances_ : ndarray of shape (n_features_in_,)
        Unbiased variances. Only for "seurat_v3".
    variances_norm_ : ndarray of shape (n_features_in_,)
        Variances after scaling. Only for "seurat_v3".
    n_features_in_ : int
        Number of genes seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes, where `X` had string names.

    See Also
    --------
    SpatiallyVariableGenes : Genes chosen by the positions of the cells, which predict positions
        better.

    Notes
    -----
    With sections, genes are scored in each section alone and the scores are averaged. The
    flavors "seurat" and "cell_ranger" prefer genes that are among the top in more sections, then
    those with the higher mean score; "seurat_v3" prefers genes by the median of their rank over
    the sections in which they are among the top.

    With metadata routing enabled, `fit` requests `sections` by default.

    References
    ----------
    Satija, R. et al. (2015). Nature Biotechnology 33, 495-502 ("seurat").

    Zheng, G. X. Y. et al. (2017). Nature Communications 8, 14049 ("cell_ranger").

    Stuart, T. et al. (2019). Cell 177, 1888-1902 ("seurat_v3").

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.feature_selection import HighlyVariableGenes
    >>> rng = np.random.default_rng(0)
    >>> counts = rng.poisson(5.0, size=(200, 50))
    >>> counts[:, 2] = rng.poisson(rng.choice([1.0, 9.0], size=200))
    >>> selector = HighlyVariableGenes(n_top_genes=1, flavor="seurat_v3").fit(counts)
    >>> selector.get_feature_names_out()
    array(['x2'], dtype=object)
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_top_genes": [Interval(numbers.Integral, 1, None, closed="left")],
        "flavor": [StrOptions({"seurat", "cell_ranger", "seurat_v3"})],
        "n_bins": [Interval(numbers.Integral, 1, None, closed="left")],
        "span": [Interval(numbers.Real, 0, 1, closed="right")],
    }

    def __init__(self, n_top_genes=2000, flavor="seurat", n_bins=20, span=0.3):
        self.n_top_genes = n_top_genes
        self.flavor = flavor
        self.n_bins = n_bins
        self.span = span

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, sections=None):
        """Score the genes and choose.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Log-normalized expression, or raw counts for "seurat_v3".
        y : None
            Ignored.
        sections : array-like of shape (n_samples,), default=None
            One label per row. None means that all rows are of one section.

        Returns
        -------
        self : HighlyVariableGenes

        Raises
        ------
        ValueError
            If values are NaN, infinite or negative, labels are missing or not one per row, a
            section has a single row, or no gene varies.

        Warns
        -----
        UserWarning
            If the flavor is "seurat_v3" and values are not whole numbers.
        """
        counts = self.flavor == "seurat_v3"
        wanted = (
            "raw counts" if counts else "log-normalized expression, neither centered nor scaled"
        )
        checked = check_matrix(
            X, self, min_samples=2, negative_hint=f"flavor={self.flavor!r} needs {wanted}."
        )
        codes, labels = check_sections(sections, checked.shape[0])
        alone = np.flatnonzero(np.bincount(codes) < 2)
        if len(alone):
            raise ValueError(
                f"section {labels[alone[0]].item()!r} has a single row, which has no variance. "
                "Drop it or merge it."
            )
        parts = [checked[codes == c] for c in range(len(labels))] if len(labels) > 1 else [checked]

        if counts:
            self._warn_of_fractions(checked)
            mean, variance = column_moments(checked)
            scores, support = select_by_variance(parts, self.n_top_genes, self.span)
            variance *= len(codes) / (len(codes) - 1)
            learned = {"means_": mean, "variances_": variance, "variances_norm_": scores}
        else:
            means, dispersions, scores, support = select_by_dispersion(
                parts, self.n_top_genes, self.flavor, self.n_bins
            )
            learned = {"means_": means, "dispersions_": dispersions, "dispersions_norm_": scores}
        if not support.any():
            raise ValueError(
                "no gene of X varies, so none can be called highly variable. Check that X has "
                "one row per cell and that it holds more than one kind of cell."
            )

        validate_data(self, X, skip_check_array=True)
        for name, value in learned.items():
            setattr(self, name, value)
        self.support_ = support
        return self

    @staticmethod
    def _warn_of_fractions(X):
        values = X.data if sparse.issparse(X) else X
        if not np.array_equal(values, np.rint(values)):
            warnings.warn(
                "flavor='seurat_v3' expects raw counts, but X holds values that are not whole "
                "numbers. Put HighlyVariableGenes before LogNormalizer, or take flavor='seurat'.",
                UserWarning,
                stacklevel=4,
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags


class SpatiallyVariableGenes(_GeneSelector):
    """Keep the genes whose expression clusters most in space, by Moran's I.

    Moran's I of a gene is computed on the graph of nearest neighbors of the reference positions,
    in each section alone, so that sections may have unrelated frames::

        I = n / S0 * sum_ij w_ij (x_i - m) (x_j - m) / sum_i (x_i - m)^2

    with weights w_ij = 1 / `n_neighbors` for the neighbors j of i (the graph is directed, it is
    not symmetrized) and S0 their sum. Over sections, I is averaged with weights proportional to
    the numbers of cells.

    Parameters
    ----------
    n_top_genes : int, default=1000
        Number of genes to keep, those of the highest I; all where there are fewer. Constant
        genes have no I and come last. None keeps all that `max_pvalue` and `min_cells` admit.
    n_neighbors : int, default=6
        Number of nearest neighbors in the graph; fewer in sections of fewer cells.
    max_pvalue : float, default=None
        If given, only genes with a p-value up to this are kept. The p-values are not adjusted
        for the number of genes.
    min_cells : int or float, default=0
        Only genes that are not zero in at least this many cells, or as a float in at least
        this share of them, are kept.

    Attributes
    ----------
    support_ : ndarray of shape (n_features_in_,), dtype bool
        Which genes are kept.
    morans_i_ : ndarray of shape (n_features_in_,)
        Moran's I. A section in which a gene is constant counts with the value that is expected
        without clustering, -1 / (n - 1). NaN for genes that are constant in every section.
    scores_ : ndarray of shape (n_features_in_,)
        z-scores of I under the hypothesis that values are independent and normal.
    pvalues_ : ndarray of shape (n_features_in_,)
        One-sided p-values: the probability of an I at least as high under that hypothesis.
    n_features_in_ : int
        Number of genes seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes, where `X` had string names.

    See Also
    --------
    HighlyVariableGenes : Genes chosen without positions.

    Notes
    -----
    I does not change if a gene is shifted or scaled. Raw counts make genes cluster that only
    follow the library size: pass log-normalized expression.

    With metadata routing enabled, `fit` requests `sections` by default.

    References
    ----------
    Moran, P. A. P. (1950). Notes on continuous stochastic phenomena. Biometrika 37, 17-23.

    Cliff, A. D. and Ord, J. K. (1981). Spatial Processes: Models and Applications. Pion.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.feature_selection import SpatiallyVariableGenes
    >>> rng = np.random.default_rng(0)
    >>> coords = rng.uniform(size=(200, 2))
    >>> X = rng.normal(size=(200, 4))
    >>> X[:, 3] += 3 * coords[:, 0]
    >>> selector = SpatiallyVariableGenes(n_top_genes=1).fit(X, coords)
    >>> selector.get_support()
    array([False, False, False,  True])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_top_genes": [None, Interval(numbers.Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(numbers.Integral, 1, None, closed="left")],
        "max_pvalue": [None, Interval(numbers.Real, 0, 1, closed="right")],
        "min_cells": [
            Interval(numbers.Integral, 0, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="both"),
        ],
    }

    def __init__(self, n_top_genes=1000, n_neighbors=6, max_pvalue=None, min_cells=0):
        self.n_top_genes = n_top_genes
        self.n_neighbors = n_neighbors
        self.max_pvalue = max_pvalue
        self.min_cells = min_cells

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, *, sections=None):
        """Compute Moran's I of the genes and choose.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression, as a rule log-normalized. Sparse input is not made dense but for a few
            genes at a time.
        y : array-like of shape (n_samples,) or (n_samples, n_dims)
            Positions of the rows, in any unit.
        sections : array-like of shape (n_samples,), default=None
            One label per row. None means that all rows are of one section.

        Returns
        -------
        self : SpatiallyVariableGenes

        Raises
        ------
        ValueError
            If values or positions are missing, NaN or infinite, labels are missing or not one per
            row, a section has fewer than three cells or no extent, or no gene is admitted.
        """
        if y is None:
            raise ValueError(
                "SpatiallyVariableGenes requires y to be passed, but the target y is None. "
                "Pass the positions of the rows of X as y."
            )
        checked = check_matrix(X, self, dtype="numeric")
        codes, labels = check_sections(sections, checked.shape[0])
        coords = check_coords(y, codes, labels, name="y")

        morans_i, scores = self._autocorrelation(checked, coords, codes)
        pvalues = norm.sf(scores)
        support = self._choose(checked, morans_i, pvalues)

        validate_data(self, X, skip_check_array=True)
        self.morans_i_ = morans_i
        self.scores_ = scores
        self.pvalues_ = pvalues
        self.support_ = support
        return self

    def _autocorrelation(self, X, coords, codes):
        """Moran's I of the genes and its z-scores, averaged over sections."""
        n_features = X.shape[1]
        excess = np.zeros(n_features)
        variance = np.zeros(n_features)
        expectation = 0.0
        for code in np.unique(codes):
            members = codes == code
            share = members.mean()
            weights = knn_weights(coords[members], self.n_neighbors)
            values = moran_i(X if members.all() else X[members], weights)
            expected, spread = moran_null(weights)
            known = ~np.isnan(values)
            excess[known] += share * (values[known] - expected)
            variance[known] += share**2 * spread
            expectation += share * expected

        excess[variance == 0] = np.nan
        with np.errstate(invalid="ignore"):
            return expectation + excess, excess / np.sqrt(variance)

    def _choose(self, X, morans_i, pvalues):
        """Mask of the genes to keep."""
        admitted = np.ones(len(morans_i), dtype=bool)
        if self.min_cells > 0:
            is_count = isinstance(self.min_cells, numbers.Integral)
            least = self.min_cells if is_count else self.min_cells * X.shape[0]
            admitted &= np.asarray((X != 0).sum(axis=0)).ravel() >= least
        if self.max_pvalue is not None:
            admitted &= pvalues <= self.max_pvalue
        if not admitted.any():
            raise ValueError(
                f"no gene is expressed in min_cells={self.min_cells} cells with a p-value of at "
                f"most max_pvalue={self.max_pvalue}; the lowest p-value is "
                f"{np.nanmin(pvalues, initial=1.0):.3g}. Loosen one of the two."
            )
        if self.n_top_genes is None:
            return admitted
        # NaN sorts last. Stable, so that ties go to the first column.
        candidates = np.flatnonzero(admitted)
        order = np.argsort(-morans_i[candidates], kind="stable")
        support = np.zeros(len(morans_i), dtype=bool)
        support[candidates[order[: self.n_top_genes]]] = True
        return support

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags
