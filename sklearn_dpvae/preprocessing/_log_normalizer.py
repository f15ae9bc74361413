"""Library-size normalization of counts.

May import `_utils`.
"""

import numbers
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .._utils.counts import (
    kind_of_values,
    library_sizes,
    log_normalize,
    median_library_size,
)
from .._utils.matrix import check_matrix
from .._utils.validation import check_missing_genes, checks_parameters
from .._utils.warn import warn

REMEDY = (
    'Pass the counts, which an AnnData often has as layer="counts" or layer="raw", or use '
    "a pipeline without LogNormalizer"
)
ALREADY_LOGARITHMS = (
    "X looks log-normalized already, and LogNormalizer takes logarithms again. " + REMEDY + "."
)
FRACTIONS = (
    "X holds fractions, and LogNormalizer takes counts. Pass them, which an AnnData often has as "
    'layer="counts" or layer="raw"; counts that were corrected for something may be rounded by '
    "np.rint."
)
# What `fit` says of values that are no counts.
NOT_COUNTS = (ALREADY_LOGARITHMS, FRACTIONS)
LOGARITHMS_IN_QUERY = (
    "X looks log-normalized, but the reference was not, so that predictions are less accurate. "
    + REMEDY
    + " for both."
)
COUNTS_IN_QUERY = (
    "X holds whole numbers, but the reference looked log-normalized, so that predictions are less "
    "accurate. Fit on counts, too, or pass the query as the reference was."
)


class LogNormalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Divide counts by library size and take logarithms.

    A count :math:`x_{ij}` of a cell with library size :math:`L_i = \\sum_j x_{ij}` becomes
    :math:`\\log(1 + x_{ij} T / (L_i p))`, where T is the target sum and p the pseudocount. Up to
    a constant this is :math:`\\log(x_{ij} T / L_i + p)`. Sparse input stays sparse.

    Parameters
    ----------
    target_sum : float, default=None
        T, the counts per cell after the division. None means the median library size of the
        cells passed to `fit`, so that queries are brought to the scale of the reference.
    pseudocount : float, default=1.0
        p, in counts of a cell of the target sum. 1 is scanpy's choice. For counts of
        overdispersion a, 1 / (4 a) stabilizes the variance best [1]_: about 5 for a typical
        overdispersion of 0.05. The higher it is, the less the logarithm bends low counts.
    empty_rows : {"keep", "error"}, default="keep"
        What to do with rows without any counts, which have no library size. "keep" keeps their
        zeros and leaves them out of the median. "error" raises an error in `fit` and in
        `transform` that names the rows. An empty cell says nothing about its place, so pipelines
        that place cells should use "error".

    Attributes
    ----------
    target_sum_ : float
        The target sum in use.
    gene_shares_ : ndarray of shape (n_features_in_,)
        Share of each gene in all counts of the reference.
    input_kind_ : {"counts", "logarithms", "fractions"}
        What the values passed to `fit` look like: whole numbers, log-normalized counts, or
        anything else, such as counts corrected for ambient RNA.
    n_features_in_ : int
        Number of genes seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes, where `X` had string names.

    See Also
    --------
    SectionScaler : z-scores by section, the step after this one.

    Notes
    -----
    The library size is the sum over the genes passed: choose genes after this step, not before it.
    The types float32 and float64 are kept. Others become float32, as whole numbers do in scanpy.
    With a pseudocount of 1 the results equal those of ``scanpy.pp.normalize_total`` followed by
    ``scanpy.pp.log1p``.

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

    def __init__(
        self,
        target_sum: float | None = None,
        pseudocount: float = 1.0,
        empty_rows: str = "keep",
    ):
        self.target_sum = target_sum
        self.pseudocount = pseudocount
        self.empty_rows = empty_rows

    @checks_parameters
    def fit(self, X: ArrayLike | sparse.spmatrix, y: Any = None) -> Self:
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
            If values are negative, NaN or infinite, a row is empty and `empty_rows` is "error",
            or all rows are empty and `target_sum` is None.

        Warns
        -----
        UserWarning
            If the values look log-normalized already, or are fractions.
        """
        counts, sizes = self._counts_and_sizes(X)
        target_sum = self.target_sum
        if target_sum is None:
            if not sizes.any():
                raise ValueError(
                    "All rows of X are empty, so there is no median library size. Pass counts, or "
                    "set target_sum."
                )
            target_sum = median_library_size(counts)
        totals = np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel()
        validate_data(self, X, skip_check_array=True)
        self.input_kind_ = kind_of_values(counts)
        if self.input_kind_ == "logarithms":
            warn(ALREADY_LOGARITHMS)
        elif self.input_kind_ == "fractions":
            warn(FRACTIONS)
        self.target_sum_ = float(target_sum)
        self.gene_shares_: NDArray[np.float64] = totals / (totals.sum() or 1.0)
        return self

    def transform(
        self, X: ArrayLike | sparse.spmatrix, *, missing_genes: ArrayLike | None = None
    ) -> NDArray[np.floating[Any]] | sparse.csr_matrix:
        """Normalize counts.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Counts. They are not modified.
        missing_genes : array-like of shape (n_features,), dtype bool, default=None
            Genes that were not measured in the query; their columns are 0. The counts of a cell
            are then scaled to the share of the target sum that the measured genes have in the
            reference.

        Returns
        -------
        X_new : {ndarray, CSR matrix} of shape (n_samples, n_features)
            Natural logarithms of one plus the normalized counts over the pseudocount. Sparse if
            `X` is.

        Raises
        ------
        ValueError
            If values are negative, NaN or infinite, a row is empty and `empty_rows` is "error",
            or the reference has no counts of the measured genes.

        Warns
        -----
        UserWarning
            If the values look log-normalized and those of the reference do not, or those of the
            reference do and these are whole numbers.
        """
        check_is_fitted(self)
        counts, sizes = self._counts_and_sizes(X, copy=True)
        validate_data(self, X, reset=False, skip_check_array=True)
        self._compare_with_reference(kind_of_values(counts))
        target_sum = self.target_sum_
        if missing_genes is not None:
            missing = check_missing_genes(missing_genes, counts.shape[1])
            target_sum *= self._share_of_measured(missing)
        return log_normalize(counts, target_sum / self.pseudocount, sizes=sizes, copy=False)

    def _compare_with_reference(self, kind: str) -> None:
        """Warn if a query is on another scale than the reference."""
        # Models of files that were written before this attribute came do not have it.
        known = getattr(self, "input_kind_", None)
        if kind == "logarithms" and known in ("counts", "fractions"):
            warn(LOGARITHMS_IN_QUERY)
        elif kind == "counts" and known == "logarithms":
            warn(COUNTS_IN_QUERY)

    def _share_of_measured(self, missing: NDArray[np.bool_]) -> float:
        """Share of the reference's counts that belongs to the measured genes."""
        if not missing.any():
            return 1.0
        share = float(self.gene_shares_[~missing].sum())
        if share == 0:
            raise ValueError(
                f"missing_genes marks {missing.sum()} of {len(missing)} genes, and the reference "
                "has no counts of the others. Query and reference must share measured genes."
            )
        return share

    def _counts_and_sizes(self, X: Any, *, copy: bool = False) -> tuple[Any, NDArray[np.float64]]:
        """Return the validated counts and the library sizes of the rows."""
        hint = "Library sizes need counts: pass raw counts, neither scaled nor centered."
        X = check_matrix(X, self, dtype=[np.float32, np.float64], copy=copy, negative_hint=hint)
        sizes = library_sizes(X)
        empty = np.flatnonzero(sizes == 0)
        if len(empty) and self.empty_rows == "error":
            some = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
            raise ValueError(
                f"{len(empty)} of {len(sizes)} rows of X have no counts (rows {some}), so they "
                "have no library size. Drop them first, for example with X[X.sum(axis=1) > 0], or "
                'keep them as zeros with empty_rows="keep".'
            )
        return X, sizes

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "target_sum_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
