"""z-scores of genes, section by section.

May import `_utils`.
"""

import numbers
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .._utils.matrix import ROWS_AT_A_TIME, check_matrix, column_moments
from .._utils.validation import (
    check_missing_genes,
    check_sections,
    checks_parameters,
    find_labels,
)


class SectionScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Center and scale every gene within each section.

    Sections differ in depth, staining and chemistry. Each section of the reference is z-scored by
    its own means and standard deviations, so that a value says how high a gene is for its section.

    Parameters
    ----------
    query : {"same_section", "new_section"}, default="same_section"
        Which statistics `transform` scales by.

        - "same_section": those learned in `fit`. A row whose label in `sections` was seen in `fit`
          is scaled by that section, any other row by the pooled statistics. A row's result does
          not depend on the other rows.
        - "new_section": those of the rows passed to `transform`, section by section if labels are
          given, otherwise as one section. Use it to bring a query from another section to the
          scale of the reference. The query must cover similar tissue. A section of one row has no
          spread and is scaled by the pooled statistics of `fit`.
    clip : float, default=10.0
        z-scores beyond plus or minus this value are set to it. None means no limit. Clipping
        keeps a few counts of a rare gene from dominating.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features_in_,), dtype float64
        Pooled means: means over all rows.
    scale_ : ndarray of shape (n_features_in_,), dtype float64
        Pooled scales: root mean square deviations of all rows from the mean of their own section,
        so that differences between sections do not widen them.
    sections_ : ndarray of shape (n_sections,)
        Labels of the sections; ``array([0])`` if none were given.
    section_means_ : ndarray of shape (n_sections, n_features_in_), dtype float64
        Means by section.
    section_scales_ : ndarray of shape (n_sections, n_features_in_), dtype float64
        Population standard deviations by section; 1 for genes that are constant there.
    pointwise : bool
        Whether a row's result of `transform` depends on that row alone.
    n_features_in_ : int
        Number of genes seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes, where `X` had string names.

    See Also
    --------
    LogNormalizer : The step before this one.

    Notes
    -----
    Sparse input is accepted, but the result is dense, since z-scores of zeros are not zeros.
    Choose genes first. Floating-point types are kept, others become float64.

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

    def __init__(self, query: str = "same_section", clip: float | None = 10.0):
        self.query = query
        self.clip = clip

    @property
    def pointwise(self) -> bool:
        """Whether a row's result of `transform` depends on that row alone.

        False if a query is scaled by its own statistics, so that its rows belong together.
        """
        return self.query == "same_section"

    @checks_parameters
    def fit(
        self,
        X: ArrayLike | sparse.spmatrix,
        y: Any = None,
        *,
        sections: ArrayLike | None = None,
    ) -> Self:
        """Learn the statistics of the reference.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression, usually log-normalized.
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

    @checks_parameters
    def fit_transform(
        self,
        X: ArrayLike | sparse.spmatrix,
        y: Any = None,
        *,
        sections: ArrayLike | None = None,
    ) -> NDArray[np.floating[Any]]:
        """Learn the statistics of the reference and scale it by section, whatever `query` is.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression, usually log-normalized. It is not modified.
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

    def transform(
        self,
        X: ArrayLike | sparse.spmatrix,
        *,
        sections: ArrayLike | None = None,
        missing_genes: ArrayLike | None = None,
    ) -> NDArray[np.floating[Any]]:
        """Scale a query by the statistics that `query` names.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression on the scale of what was passed to `fit`. It is not modified.
        sections : array-like of shape (n_samples,), default=None
            One label per row.
        missing_genes : array-like of shape (n_features,), dtype bool, default=None
            Genes that were not measured in the query. Their z-scores are 0, as of the mean.

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

        if self.pointwise:
            # The last row of the tables, the pooled statistics, serves all labels not seen in fit.
            means = np.vstack([self.section_means_, self.mean_])
            scales = np.vstack([self.section_scales_, self.scale_])
            rows = np.array([-1]) if sections is None else find_labels(labels, self.sections_)
            codes = rows[codes]
        else:
            moments = section_moments(checked, codes, len(labels))
            means, scales = section_tables(*moments, fallback=(self.mean_, self.scale_))
        Z = self._scaled(checked, means, scales, codes)
        if missing_genes is not None:
            Z[:, check_missing_genes(missing_genes, Z.shape[1])] = 0
        return Z

    def _learn(self, X: Any, sections: ArrayLike | None) -> tuple[Any, NDArray[np.int64]]:
        """Set the fitted attributes. Return the validated matrix and the section codes."""
        checked = check_matrix(X, self)
        codes, labels = check_sections(sections, checked.shape[0])

        means, variances, sizes = section_moments(checked, codes, len(labels))
        shares = sizes / sizes.sum()
        mean = shares @ means
        scale = usable_scale(mean, shares @ variances)

        validate_data(self, X, skip_check_array=True)
        self.mean_: NDArray[np.float64] = mean
        self.scale_: NDArray[np.float64] = scale
        self.sections_ = labels
        self.section_means_, self.section_scales_ = section_tables(
            means, variances, sizes, fallback=(mean, scale)
        )
        return checked, codes

    def _scaled(
        self,
        X: Any,
        means: NDArray[np.float64],
        scales: NDArray[np.float64],
        rows: NDArray[np.int64],
    ) -> NDArray[np.floating[Any]]:
        """Return z-scores of X. `rows` names the row of the tables that scales each row of X."""
        Z = np.empty(X.shape, dtype=X.dtype)
        means = means.astype(Z.dtype, copy=False)
        scales = scales.astype(Z.dtype, copy=False)
        # One block of rows at a time, so that it stays in the cache.
        for block in gen_batches(len(Z), ROWS_AT_A_TIME):
            part = Z[block]
            part[:] = X[block].toarray() if sparse.issparse(X) else X[block]
            part -= means[rows[block]]
            part /= scales[rows[block]]
            if self.clip is not None:
                np.clip(part, -self.clip, self.clip, out=part)
        return Z

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "section_scales_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def section_moments(
    X: Any, codes: NDArray[np.int64], n_sections: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Means and variances of the genes by section, (n_sections, n_features), and section sizes."""
    parts = [X] if n_sections == 1 else (X[codes == code] for code in range(n_sections))
    means, variances = zip(*map(column_moments, parts), strict=True)
    return np.array(means), np.array(variances), np.bincount(codes, minlength=n_sections)


def section_tables(
    means: NDArray[np.float64],
    variances: NDArray[np.float64],
    sizes: NDArray[np.intp],
    *,
    fallback: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and scales by section. Sections of one row take the `fallback` pair."""
    means, scales = means.copy(), usable_scale(means, variances)
    means[sizes == 1], scales[sizes == 1] = fallback
    return means, scales


def usable_scale(mean: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations, or 1 where they are only rounding errors of the values."""
    scale = np.sqrt(variance)
    return np.where(scale <= 10 * np.finfo(np.float64).eps * np.abs(mean), 1.0, scale)
