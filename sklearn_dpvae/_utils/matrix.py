"""Expression matrices: validation, blocks of rows, means and variances of genes.

Dense and CSR. Nothing here makes a sparse matrix dense. Imports the arrays.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .arrays import check_array, check_container, naming

ROWS_AT_A_TIME = 1024

# Columns up to which distances of rows say how alike cells are: components, not genes.
MOST_COMPONENTS = 64


def check_matrix(
    X: Any,
    estimator: Any,
    *,
    dtype: Any = (np.float64, np.float32),
    copy: bool = False,
    min_samples: int = 1,
    negative_hint: str | None = None,
) -> Any:
    """Validate an expression matrix.

    No attribute of the estimator is set. Call
    ``validate_data(estimator, X, skip_check_array=True)`` for that once all input is known to be
    good, so that bad input leaves an estimator as it was.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The matrix.
    estimator : estimator
        Named in messages.
    dtype : list of types or "numeric", default=(float64, float32)
        As in :func:`sklearn.utils.check_array`: a matrix of another type is converted to the
        first of them.
    copy : bool, default=False
        Whether the result must not share memory with `X`, because the caller writes into it.
    min_samples : int, default=1
        Smallest number of rows allowed.
    negative_hint : str, optional
        If given, negative values are an error, and this text says what to pass instead.

    Returns
    -------
    X : {ndarray, CSR matrix} of shape (n_samples, n_features)
        Sparse matrices have no duplicate entries.

    Raises
    ------
    ValueError
        If values are NaN, infinite or, with `negative_hint`, negative, or the shape is wrong.
    """
    try:
        checked = check_array(
            X,
            accept_sparse="csr",
            dtype=dtype,
            copy=copy,
            ensure_min_samples=min_samples,
            estimator=estimator,
            input_name="X",
        )
    except ValueError as error:
        if str(error).startswith("Input X contains"):
            _raise_for_rows(X, error)
        raise
    X = checked
    if sparse.issparse(X) and not X.has_canonical_format:
        # Entries stored twice add up. Functions that are applied to each of them would miss it.
        X = X.copy()
        X.sum_duplicates()
    if negative_hint is not None:
        values = X.data if sparse.issparse(X) else X
        lowest = values.min(initial=0)
        if lowest < 0:
            raise ValueError(
                f"Negative values in data passed to X in {type(estimator).__name__}: the lowest "
                f"is {lowest:.6g}. {negative_hint}"
            )
    return X


def _raise_for_rows(X: Any, error: ValueError) -> None:
    """Say which rows are not finite, where they can be told; scikit-learn does not."""
    try:
        if sparse.issparse(X):
            entries = X.tocoo()
            rows = np.unique(entries.row[~np.isfinite(entries.data)])
        else:
            rows = np.flatnonzero(~np.isfinite(np.asarray(X, dtype=np.float64)).all(axis=1))
    except (TypeError, ValueError):
        return
    if len(rows) == 0:  # Numbers that are too large for the type.
        return
    what = "NaN" if str(error).startswith("Input X contains NaN") else "NaN or infinity"
    some = ", ".join(map(str, rows[:3].tolist())) + (", ..." if len(rows) > 3 else "")
    raise ValueError(
        f"Input X contains {what} in {len(rows)} of {X.shape[0]} rows ({some}). Tables that were "
        "joined have NaN for genes of each other: keep the genes that all of them have, or drop "
        "these rows."
    ) from error


def evenly_spaced(n_rows: int, most: int) -> NDArray[np.intp]:
    """At most so many of the rows, evenly over all of them, in order."""
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, most)).astype(np.intp))


def in_memory(X: Any) -> Any:
    """What a dask array, a backed matrix or a sparse matrix of any format holds.

    Parameters
    ----------
    X : {array-like, sparse matrix, dask array}

    Returns
    -------
    {ndarray, CSR matrix}
        float16, which sparse matrices cannot hold, becomes float32.

    Raises
    ------
    ValueError
        See `check_container`.
    """
    if hasattr(X, "compute"):  # dask
        X = X.compute()
    with naming("X"):
        check_container(X)
    X = X.tocsr() if sparse.issparse(X) else np.asarray(X)
    return X.astype(np.float32) if X.dtype == np.float16 else X


def below_each_other(matrices: Sequence[Any]) -> Any:
    """Dense or CSR matrices as one, the rows of each after those of the one before."""
    if len(matrices) == 1:
        return matrices[0]
    if sparse.issparse(matrices[0]):
        return sparse.vstack(matrices, format="csr")
    return np.concatenate(matrices)


def row_blocks(X: Any, size: int = ROWS_AT_A_TIME) -> Iterator[Any]:
    """Yield successive blocks of rows: CSR matrices of sparse input, views of dense input."""
    for start in range(0, X.shape[0], size):
        yield X[start : start + size]


def column_moments(X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of every column, accumulated in float64 in two passes.

    The second pass sums squared deviations from the mean. The difference of the mean square and
    the squared mean would lose digits in columns of large mean and small spread.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_samples, n_features)
        Values. No entry of a sparse matrix may be stored twice.

    Returns
    -------
    mean : ndarray of shape (n_features,), dtype float64
    variance : ndarray of shape (n_features,), dtype float64
        Population variance (divided by n_samples). Exactly zero for a constant column.

    Examples
    --------
    >>> from scipy import sparse
    >>> from sklearn_dpvae._utils.matrix import column_moments
    >>> mean, variance = column_moments(sparse.csr_matrix([[0.0, 2.0], [4.0, 2.0]]))
    >>> mean, variance
    (array([2., 2.]), array([4., 0.]))
    """
    n_samples, n_features = X.shape
    total = np.zeros(n_features)
    low = np.full(n_features, np.inf)
    high = np.full(n_features, -np.inf)
    for block in row_blocks(X):
        total += np.asarray(block.sum(axis=0, dtype=np.float64)).ravel()
        low = np.minimum(low, _as_row(block.min(axis=0)))
        high = np.maximum(high, _as_row(block.max(axis=0)))
    mean = total / n_samples

    squares = np.zeros(n_features)
    for block in row_blocks(X):
        if sparse.issparse(block):
            deviation = block.data - mean[block.indices]
            squares += np.bincount(block.indices, deviation * deviation, minlength=n_features)
            stored = np.bincount(block.indices, minlength=n_features)
            squares += (block.shape[0] - stored) * mean**2
        else:
            deviation = block - mean
            squares += np.einsum("ij,ij->j", deviation, deviation)

    # Rounding of the mean would give a constant column a tiny variance.
    constant = low == high
    mean[constant] = low[constant]
    squares[constant] = 0.0
    return mean, squares / n_samples


def _as_row(values: Any) -> NDArray:
    return values.toarray().ravel() if sparse.issparse(values) else values
