"""Preprocessing of expression: library-size normalization and z-scores by section."""

import numbers
from typing import ClassVar

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ._utils.matrix import ROWS_AT_A_TIME, check_matrix, column_moments
from ._utils.validation import check_missing_genes, check_sections, find_labels

__all__ = ["LogNormalizer", "SectionScaler"]


class LogNormalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Divide counts by library size and take logarithms.

    A count :math:`x_{ij}` of a cell with library size :math:`L_i = \\sum_j x_{ij}` becomes
    :math:`\\log(1 + x_{ij} T / (L_i p))`, T being the target sum and p the pseudocount, which is
    :math:`\\log(x_{ij} T / L_i + p)` up to a constant. Sparse input stays sparse.

    Parameters
    ----------
    target_sum : float, default=None
        Counts per cell after the division, T. None takes the median library size of the cells
        that `fit` is given, so that queries are brought to the scale of the reference.
    pseudocount : float, default=1.0
        p, in counts of a cell of the target sum. 1 is what scanpy does. With an overdispersion a
        of the counts, 1 / (4 a) stabilizes their variance best [1]_; typical overdispersions of
        0.05 make it 5. Where it is high, genes of few counts are hardly bent by the logarithm.
    empty_rows : {"keep", "error"}, default="keep"
        What becomes of a row without a single count, which has no library size. "keep" leaves
        its zeros and leaves it out of the median; "error" refuses it in `fit` and in `transform`,
        naming the rows. Nothing can be said about the place of an empty cell, so pipelines that
        place cells should refuse it.

    Attributes
    ----------
    target_sum_ : float
        The target sum in use.
    gene_shares_ : ndarray of shape (n_features_in_,)
        Share of all counts of the reference that each gene has.
    n_features_in_ : int
        Number of genes seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes, where `X` had string names.

    See Also
    --------
    SectionScaler : z-scores by section, the step after this one.

    Notes
    -----
    The library size is that of the genes passed: choose genes after this step, not before it.
    Float32 and float64 are kept, other types become float32, as counts of whole numbers do in
    scanpy. With a pseudocount of 1 the results are those of ``scanpy.pp.normalize_total`` followed
    by ``scanpy.pp.log1p``.

    References
    ----------
    .. [1] Ahlmann-Eltze, C. and Huber, W. (2023). Comparison of transformations for single-cell
       RNA-seq data. Nature Methods 20, 665-672.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.preprocessing import LogNormalizer
    >>> counts = np.array([[1.0, 3.0], [4.0, 4.0], [6.0, 10.0]])
    >>> normalizer = LogNormalizer().fit(counts)
    >>> normalizer.target_sum_
    8.0
    >>> np.expm1(normalizer.transform(counts))
    array([[2., 6.],
           [4., 4.],
           [3., 5.]])
    """

    _parameter_constraints: ClassVar[dict] = {
        "target_sum": [None, Interval(numbers.Real, 0, None, closed="neither")],
        "pseudocount": [Interval(numbers.Real, 0, None, closed="neither")],
        "empty_rows": [StrOptions({"keep", "error"})],
    }

    def __init__(self, target_sum=None, pseudocount=1.0, empty_rows="keep"):
        self.target_sum = target_sum
        self.pseudocount = pseudocount
        self.empty_rows = empty_rows

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the target sum.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Counts of the reference.
        y : None
            Ignored.

        Returns
        -------
        self : LogNormalizer

        Raises
        ------
        ValueError
            If values are negative, NaN or infinite, or a row is empty and `empty_rows` is
            "error".
        """
        counts, sizes = self._counts_and_sizes(X)
        target_sum = self.target_sum
        if target_sum is None:
            if not sizes.any():
                raise ValueError(
                    "All rows of X are empty, so there is no median library size. Pass counts, or "
                    "set target_sum."
                )
            target_sum = np.median(sizes[sizes > 0])
        totals = np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel()
        validate_data(self, X, skip_check_array=True)
        self.target_sum_ = float(target_sum)
        self.gene_shares_ = totals / (totals.sum() or 1.0)
        return self

    def transform(self, X, *, missing_genes=None):
        """Normalize counts.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Counts. They are not modified.
        missing_genes : array-like of shape (n_features,), dtype bool, default=None
            Genes that the query was not measured for, whose columns are 0. Library sizes are
            then those of the other genes, which are brought to the share of the target sum that
            they have in the reference.

        Returns
        -------
        X_new : {ndarray, CSR matrix} of shape (n_samples, n_features)
            Natural logarithms of one plus the normalized counts over the pseudocount; sparse
            where `X` is.

        Raises
        ------
        ValueError
            If values are negative, NaN or infinite, a row is empty and `empty_rows` is "error",
            or no gene that the reference has counts of was measured.
        """
        check_is_fitted(self)
        counts, sizes = self._counts_and_sizes(X, copy=True)
        validate_data(self, X, reset=False, skip_check_array=True)
        X = counts
        # An empty row has nothing to be multiplied.
        sizes[sizes == 0] = 1
        target_sum = self.target_sum_
        if missing_genes is not None:
            missing = check_missing_genes(missing_genes, X.shape[1])
            target_sum *= self._share_of_others(missing)
        factors = (target_sum / self.pseudocount / sizes).astype(X.dtype)
        if sparse.issparse(X):
            X.data *= np.repeat(factors, np.diff(X.indptr))
            np.log1p(X.data, out=X.data)
        else:
            X *= factors[:, None]
            np.log1p(X, out=X)
        return X

    def _share_of_others(self, missing):
        """Share of the reference's counts that is not that of missing genes."""
        if not missing.any():
            return 1.0
        share = float(self.gene_shares_[~missing].sum())
        if share == 0:
            raise ValueError(
                f"missing_genes names {missing.sum()} of {len(missing)} genes, and the reference "
                "has no counts of the others. Nothing can be said about such a query."
            )
        return share

    def _counts_and_sizes(self, X, *, copy=False):
        """Return the validated counts and the library sizes of the rows."""
        hint = "Library sizes need counts: pass them raw, neither scaled nor centered."
        X = check_matrix(X, self, dtype=[np.float32, np.float64], copy=copy, negative_hint=hint)
        sizes = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
        empty = np.flatnonzero(sizes == 0)
        if len(empty) and self.empty_rows == "error":
            some = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
            raise ValueError(
                f"{len(empty)} of {len(sizes)} rows of X have no counts (rows {some}), so they "
                "have no library size. Drop them first, for example with X[X.sum(axis=1) > 0], or "
                'keep them as zeros with empty_rows="keep".'
            )
        return X, sizes

    def __sklearn_is_fitted__(self):
        return hasattr(self, "target_sum_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class SectionScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Center and scale every gene within each section.

    Sections differ in depth, staining and chemistry. Each section of the reference is z-scored by
    its own means and standard deviations, so that a gene says how high it is for its section.

    Parameters
    ----------
    query : {"same_section", "new_section"}, default="same_section"
        By which statistics `transform` scales.

        - "same_section": those learned in `fit`. A row whose label in `sections` was seen in `fit`
          is scaled by that section, any other row by the pooled statistics. A row's result does
          not depend on the other rows.
        - "new_section": those of the rows passed to `transform`, by section where labels are
          given, else as one section. Use it to bring a query from another section to the scale of
          the reference; it takes a query that covers similar tissue. A section of one row has no
          spread and is scaled by the pooled statistics of `fit`.
    clip : float, default=10.0
        z-scores beyond plus or minus this value are set to it, None for no limit. It keeps a
        few counts of a rare gene from dominating.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features_in_,), dtype float64
        Pooled means: those of all rows.
    scale_ : ndarray of shape (n_features_in_,), dtype float64
        Pooled scales: root mean square over the rows of deviations from the mean of the row's
        section, so that differences between sections do not widen it.
    sections_ : ndarray of shape (n_sections,)
        Labels of the sections; ``array([0])`` where none were given.
    section_means_ : ndarray of shape (n_sections, n_features_in_), dtype float64
        Means by section.
    section_scales_ : ndarray of shape (n_sections, n_features_in_), dtype float64
        Population standard deviations by section; 1 for genes that are constant there.
    n_features_in_ : int
        Number of genes seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes, where `X` had string names.

    See Also
    --------
    LogNormalizer : The step before this one.

    Notes
    -----
    Sparse input is accepted, but z-scores of zeros are not zeros: the result is dense, so choose
    genes first. Floating-point types are kept, others become float64.

    With metadata routing enabled, `fit` and `transform` request `sections` by default.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.preprocessing import SectionScaler
    >>> X = np.array([[1.0], [3.0], [10.0], [30.0]])
    >>> sections = ["a", "a", "b", "b"]
    >>> scaler = SectionScaler()
    >>> scaler.fit_transform(X, sections=sections).ravel()
    array([-1.,  1., -1.,  1.])
    >>> scaler.transform([[4.0]], sections=["a"])
    array([[2.]])

    A query from another section is scaled by itself:

    >>> scaler.set_params(query="new_section").transform([[100.0], [500.0]]).ravel()
    array([-1.,  1.])
    """

    __metadata_request__fit: ClassVar = {"sections": True}
    __metadata_request__transform: ClassVar = {"sections": True}

    _parameter_constraints: ClassVar[dict] = {
        "query": [StrOptions({"same_section", "new_section"})],
        "clip": [None, Interval(numbers.Real, 0, None, closed="neither")],
    }

    def __init__(self, query="same_section", clip=10.0):
        self.query = query
        self.clip = clip

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, sections=None):
        """Learn the statistics of the reference.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression, as a rule log-normalized.
        y : None
            Ignored.
        sections : array-like of shape (n_samples,), default=None
            One label per row. None means that all rows are of one section.

        Returns
        -------
        self : SectionScaler

        Raises
        ------
        ValueError
            If values are NaN or infinite, or labels are missing or not one per row.
        """
        self._learn(X, sections)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None, *, sections=None):
        """Learn the statistics of the reference and scale it by section, whatever `query` says.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression, as a rule log-normalized. It is not modified.
        y : None
            Ignored.
        sections : array-like of shape (n_samples,), default=None
            One label per row. None means that all rows are of one section.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features)
            z-scores.

        Raises
        ------
        ValueError
            If values are NaN or infinite, or labels are missing or not one per row.
        """
        checked, codes = self._learn(X, sections)
        return self._scaled(checked, self.section_means_, self.section_scales_, codes)

    def transform(self, X, *, sections=None, missing_genes=None):
        """Scale a query, by the statistics that `query` says.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression on the scale of what was passed to `fit`. It is not modified.
        sections : array-like of shape (n_samples,), default=None
            One label per row.
        missing_genes : array-like of shape (n_features,), dtype bool, default=None
            Genes that the query was not measured for. Their z-scores are 0, those of the mean.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features)
            z-scores.

        Raises
        ------
        ValueError
            If values are NaN or infinite, or labels are missing or not one per row.
        """
        check_is_fitted(self)
        checked = check_matrix(X, self)
        codes, labels = check_sections(sections, checked.shape[0])
        validate_data(self, X, reset=False, skip_check_array=True)

        if self.query == "new_section":
            moments = section_moments(checked, codes, len(labels))
            means, scales = section_tables(*moments, fallback=(self.mean_, self.scale_))
        else:
            # The last row of the tables, the pooled statistics, serves all labels not seen in fit.
            means = np.vstack([self.section_means_, self.mean_])
            scales = np.vstack([self.section_scales_, self.scale_])
            rows = np.array([-1]) if sections is None else find_labels(labels, self.sections_)
            codes = rows[codes]
        Z = self._scaled(checked, means, scales, codes)
        if missing_genes is not None:
            Z[:, check_missing_genes(missing_genes, Z.shape[1])] = 0
        return Z

    def _learn(self, X, sections):
        """Set the fitted attributes; return the validated matrix and section codes."""
        checked = check_matrix(X, self)
        codes, labels = check_sections(sections, checked.shape[0])

        means, variances, sizes = section_moments(checked, codes, len(labels))
        shares = sizes / sizes.sum()
        mean = shares @ means
        pooled = mean, usable_scale(mean, shares @ variances)

        validate_data(self, X, skip_check_array=True)
        self.mean_, self.scale_ = pooled
        self.sections_ = labels
        self.section_means_, self.section_scales_ = section_tables(
            means, variances, sizes, fallback=pooled
        )
        return checked, codes

    def _scaled(self, X, means, scales, rows):
        """Return z-scores of X; `rows` says which row of the tables a row of X is scaled by."""
        Z = np.empty(X.shape, dtype=X.dtype)
        means = means.astype(Z.dtype, copy=False)
        scales = scales.astype(Z.dtype, copy=False)
        # All of a block at once, while it is in the cache.
        for block in gen_batches(len(Z), ROWS_AT_A_TIME):
            part = Z[block]
            part[:] = X[block].toarray() if sparse.issparse(X) else X[block]
            part -= means[rows[block]]
            part /= scales[rows[block]]
            if self.clip is not None:
                np.clip(part, -self.clip, self.clip, out=part)
        return Z

    def __sklearn_is_fitted__(self):
        return hasattr(self, "section_scales_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def section_moments(X, codes, n_sections):
    """Means and variances of the genes by section, (n_sections, n_features), and section sizes."""
    parts = [X] if n_sections == 1 else (X[codes == code] for code in range(n_sections))
    means, variances = zip(*map(column_moments, parts), strict=True)
    return np.array(means), np.array(variances), np.bincount(codes, minlength=n_sections)


def section_tables(means, variances, sizes, *, fallback):
    """Means and scales by section; sections of one row take the `fallback` pair."""
    means, scales = means.copy(), usable_scale(means, variances)
    means[sizes == 1], scales[sizes == 1] = fallback
    return means, scales


def usable_scale(mean, variance):
    """Standard deviations, 1 where they are nothing but rounding of the values."""
    scale = np.sqrt(variance)
    return np.where(scale <= 10 * np.finfo(np.float64).eps * np.abs(mean), 1.0, scale)
