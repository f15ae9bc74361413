"""z-scores of genes, section by section.

May import `_utils` and the shift of queries beside it.
"""

import copy
import logging
import numbers
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .._utils.matrix import ROWS_AT_A_TIME, check_matrix, column_moments, evenly_spaced
from .._utils.validation import (
    check_missing_genes,
    check_sections,
    checks_parameters,
    find_labels,
)
from ._query_shift import (
    MAX_CELLS,
    MIN_CELLS,
    SHARES,
    choose_share,
    differs,
    learn_likeness,
    log_likeness,
    project,
)

logger = logging.getLogger(__name__)


class SectionScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Center and scale every gene within each section.

    Sections differ in depth, staining and chemistry. Each section of the reference is z-scored by
    its own means and standard deviations, so that a value says how high a gene is for its section.

    Parameters
    ----------
    query : {"same_section", "new_section", "auto"}, default="same_section"
        Which statistics `transform` scales by.

        - "same_section": those learned in `fit`. A row whose label in `sections` was seen in `fit`
          is scaled by that section, any other row by the pooled statistics. A row's result does
          not depend on the other rows.
        - "new_section": those of the rows passed to `transform`, section by section if labels are
          given, otherwise as one section. Use it to bring a query from another section to the
          scale of the reference. The query must cover similar tissue. A section of one row has no
          spread and is scaled by the pooled statistics of `fit`.
        - "auto": statistics between these two, section by section. They are as near to those of
          the rows as it takes for the rows to resemble cells of the reference; `query_shift`
          tells how near. A query of another slide moves, one that is a part of the tissue stays.
          So does a section of fewer than 20 rows, whose own statistics say too little.
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
    section_sizes_ : ndarray of shape (n_sections,)
        Numbers of rows by section.
    likeness_directions_ : ndarray of shape (n_directions, n_features_in_), dtype float32
        Principal directions of the reference's z-scores, at most 20; with ``query="auto"``.
    likeness_points_ : ndarray of shape (n_points, n_directions), dtype float32
        Where at most 1,000 cells of the reference, drawn evenly, are along these; with
        ``query="auto"``.
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

    "auto" tries 0, 1/4, 1/2, 3/4 and the whole of the way from the statistics of the reference to
    those of the query. After each, cells have a likeness: minus the logarithm of their mean
    distance to the 15 nearest cells of the reference along `likeness_directions_`. The shortest
    way that is within a standard error of the best mean is taken, or none if the best is not
    better than none by two standard errors and by half a percent. Nothing is tried where the means
    of the query differ from those of the reference as those of a sample would: by less than twice
    the mean square that sampling leads to.

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
        "query": [StrOptions({"same_section", "new_section", "auto"})],
        "clip": [None, Interval(numbers.Real, 0, None, closed="neither")],
    }

    def __init__(self, query: str = "same_section", clip: float | None = 10.0):
        self.query = query
        self.clip = clip

    @property
    def pointwise(self) -> bool:
        """Whether a row's result of `transform` depends on that row alone.

        False if statistics of the query matter, so that its rows belong together.
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

        missing = self._missing(missing_genes)
        means, scales, _ = self._tables_for(
            checked, codes, labels if sections is not None else None, missing
        )
        Z = self._scaled(checked, means, scales, codes)
        Z[:, missing] = 0
        return Z

    def query_shift(
        self,
        X: ArrayLike | sparse.spmatrix,
        *,
        sections: ArrayLike | None = None,
        missing_genes: ArrayLike | None = None,
    ) -> dict[Any, float]:
        """Say how far `transform` would move a query towards its own statistics.

        Parameters
        ----------
        X, sections, missing_genes
            See `transform`.

        Returns
        -------
        dict
            For each label of a section, the share of the way from the statistics of the reference
            to those of the query: 0 for "same_section", 1 for "new_section".
        """
        own = self.for_query(X, sections=sections, missing_genes=missing_genes)
        shift: dict[Any, float] = own.query_shift_
        return shift

    def for_query(
        self,
        X: ArrayLike | sparse.spmatrix,
        *,
        sections: ArrayLike | None = None,
        missing_genes: ArrayLike | None = None,
    ) -> "SectionScaler":
        """A scaler that transforms the rows of a query one by one as `transform` does together.

        Parameters
        ----------
        X, sections, missing_genes
            The whole query; see `transform`.

        Returns
        -------
        SectionScaler
            Fitted, with ``query="same_section"`` and the statistics that `transform` would use.
            Its attribute `query_shift_` is what `query_shift` returns.
        """
        check_is_fitted(self)
        checked = check_matrix(X, self)
        codes, labels = check_sections(sections, checked.shape[0])
        means, scales, shares = self._tables_for(
            checked, codes, labels if sections is not None else None, self._missing(missing_genes)
        )
        own = copy.copy(self)
        own.query = "same_section"
        own.query_shift_ = dict(zip(labels.tolist(), shares.tolist(), strict=True))
        own.sections_, own.section_means_, own.section_scales_ = labels, means, scales
        if sections is None:
            own.mean_, own.scale_ = means[0], scales[0]
        return own

    def _missing(self, missing_genes: ArrayLike | None) -> NDArray[np.bool_]:
        if missing_genes is None:
            return np.zeros(self.n_features_in_, dtype=bool)
        return check_missing_genes(missing_genes, self.n_features_in_)

    def _tables_for(
        self,
        X: Any,
        codes: NDArray[np.int64],
        labels: NDArray[Any] | None,
        missing: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Means and scales for each section of a query, and its share of its own statistics.

        `labels` is None where the query has none.
        """
        # The last row of the tables, the pooled statistics, serves all labels not seen in fit.
        rows = np.array([-1]) if labels is None else find_labels(labels, self.sections_)
        of_reference = (
            np.vstack([self.section_means_, self.mean_])[rows],
            np.vstack([self.section_scales_, self.scale_])[rows],
        )
        if self.query == "same_section":
            return *of_reference, np.zeros(len(rows))
        moments = section_moments(X, codes, len(rows))
        of_query = section_tables(*moments, fallback=(self.mean_, self.scale_))
        if self.query == "new_section":
            return *of_query, np.ones(len(rows))
        if not hasattr(self, "likeness_points_"):
            raise ValueError(
                'query="auto" must be set before fit, which then learns what cells look like. Fit '
                'again, or choose "same_section" or "new_section".'
            )
        # Models of files that were written before this attribute came do not have it.
        sizes = getattr(self, "section_sizes_", np.full(len(self.sections_), np.inf))
        sizes = np.append(sizes, sizes.sum())[rows]
        shares = np.zeros(len(rows))
        for code in range(len(rows)):
            own = np.flatnonzero(codes == code)
            tables = [
                (values[code], others[code])
                for values, others in zip(of_reference, of_query, strict=True)
            ]
            (mean, own_mean), (scale, _) = tables
            away = ((own_mean - mean) / scale)[~missing]
            if len(own) >= MIN_CELLS and differs(away, len(own), sizes[code]):
                some = own[evenly_spaced(len(own), MAX_CELLS)]
                shares[code] = self._share(X[some], missing, *tables)
            label = "the query" if labels is None else f"section {labels[code]!r}"
            logger.info("%s is scaled by %.0f %% of its own statistics", label, 100 * shares[code])
        means, scales = (
            between(values, others, shares[:, None])
            for values, others in zip(of_reference, of_query, strict=True)
        )
        return means, scales, shares

    def _share(
        self, X: Any, missing: NDArray[np.bool_], means: tuple[Any, Any], scales: tuple[Any, Any]
    ) -> float:
        """How far to go from the first of two means and scales to the second."""
        rows = np.zeros(X.shape[0], dtype=np.int64)
        likeness = []
        for share in SHARES:
            mean, scale = between(*means, share), between(*scales, share)
            Z = self._scaled(X, mean[None], scale[None], rows)
            points = project(Z, self.likeness_directions_, missing)
            likeness.append(log_likeness(points, self.likeness_points_))
        return SHARES[choose_share(np.array(likeness))]

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
        self.section_sizes_: NDArray[np.intp] = sizes
        self.section_means_, self.section_scales_ = section_tables(
            means, variances, sizes, fallback=(mean, scale)
        )
        if self.query == "auto":
            rows = evenly_spaced(checked.shape[0], MAX_CELLS)
            Z = self._scaled(checked[rows], self.section_means_, self.section_scales_, codes[rows])
            self.likeness_directions_, self.likeness_points_ = learn_likeness(Z)
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


def between(first: Any, second: Any, share: Any) -> NDArray[np.float64]:
    """The first at a share of 0, the second at 1; both to the last bit."""
    return np.where(share == 1, second, first + share * (second - first))


def usable_scale(mean: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations, or 1 where they are only rounding errors of the values."""
    scale = np.sqrt(variance)
    return np.where(scale <= 10 * np.finfo(np.float64).eps * np.abs(mean), 1.0, scale)
