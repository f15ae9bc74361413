"""Library sizes of cells, and counts on a logarithmic scale without them.

Dense and CSR; nothing here makes a sparse matrix dense. Imports the matrices.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .matrix import evenly_spaced


def library_sizes(counts: Any) -> NDArray[np.float64]:
    """Sum of the counts of each cell.

    Parameters
    ----------
    counts : {ndarray, CSR matrix} of shape (n_cells, n_genes)

    Returns
    -------
    ndarray of shape (n_cells,), dtype float64
    """
    return np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()


def median_library_size(counts: Any) -> float:
    """Median of the library sizes of all cells that have any counts.

    Parameters
    ----------
    counts : {ndarray, CSR matrix} of shape (n_cells, n_genes)
        At least one count is positive.

    Returns
    -------
    float
    """
    sizes = library_sizes(counts)
    return float(np.median(sizes[sizes > 0]))


def log_normalize(
    counts: Any,
    target_sum: float | None = None,
    *,
    sizes: NDArray[np.float64] | None = None,
    copy: bool = True,
) -> Any:
    """Divide counts by library size and take logarithms: log(1 + x * target_sum / size).

    Parameters
    ----------
    counts : {ndarray, CSR matrix} of shape (n_cells, n_genes), dtype float32 or float64
        Not negative. Rows of zeros stay zero.
    target_sum : float, default=None
        Library size to scale each cell to. None is the median library size.
    sizes : ndarray of shape (n_cells,), default=None
        Library sizes, to save computing them again.
    copy : bool, default=True
        Whether to leave `counts` as they are. False writes the result into them.

    Returns
    -------
    {ndarray, CSR matrix} of shape (n_cells, n_genes), in the dtype of `counts`

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae._utils.counts import log_normalize
    >>> np.expm1(log_normalize(np.array([[1.0, 3.0], [4.0, 4.0], [0.0, 0.0]]), 8.0))
    array([[2., 6.],
           [4., 4.],
           [0., 0.]])
    """
    if target_sum is None:
        target_sum = median_library_size(counts)
    if sizes is None:
        sizes = library_sizes(counts)
    factors = (target_sum / np.where(sizes > 0, sizes, 1.0)).astype(counts.dtype)
    if sparse.issparse(counts):
        counts = counts.copy() if copy else counts
        # The logarithm of a sum is not the sum of logarithms.
        counts.sum_duplicates()
        counts.data *= np.repeat(factors, np.diff(counts.indptr))
        np.log1p(counts.data, out=counts.data)
    else:
        # A new array has the memory layout of `counts`, so that sums over it have the same bits.
        counts = np.multiply(counts, factors[:, None], out=None if copy else counts)
        np.log1p(counts, out=counts)
    return counts


# A log-normalized value beyond this would stand for 500 million counts.
_HIGHEST_LOGARITHM = 20.0
_ROWS_TO_LOOK_AT = 200
_LEAST_EVIDENCE = 10


def kind_of_values(X: Any) -> str:
    """Say what expression values look like: counts, their logarithms, or other numbers.

    Log-normalized counts are log(1 + c f) with a factor f for each cell. They are recognized in
    two ways. The lowest value of a cell is as a rule that of a single count, so that exp(x) - 1
    is a multiple of it for the others. And these have the same sum in all cells, as long as no
    genes were left out. Neither holds for corrected counts, which are fractions.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_cells, n_genes)
        Not negative. Up to 200 rows, evenly spaced, are looked at.

    Returns
    -------
    {"counts", "logarithms", "fractions"}
        Whole numbers, logarithms of normalized counts, and anything else.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae._utils.counts import kind_of_values, log_normalize
    >>> counts = np.random.default_rng(0).poisson(1.0, size=(20, 30)).astype(float)
    >>> kind_of_values(counts), kind_of_values(log_normalize(counts)), kind_of_values(counts * 0.9)
    ('counts', 'logarithms', 'fractions')
    """
    some = X[evenly_spaced(X.shape[0], _ROWS_TO_LOOK_AT)]
    rows = [np.asarray(row, dtype=np.float64) for row in _nonzero_values(some)]
    rows = [row for row in rows if len(row)]
    values = np.concatenate([np.zeros(0), *rows])
    if (values == np.floor(values)).all():
        return "counts"
    if not np.isfinite(values).all() or values.max() > _HIGHEST_LOGARITHM:
        return "fractions"
    normalized = [np.expm1(row) for row in rows]
    ratios = np.concatenate([row / row.min() for row in normalized])
    # The lowest values themselves say nothing.
    ratios = ratios[ratios > 1.01]
    if len(ratios) >= _LEAST_EVIDENCE and np.mean(np.abs(ratios - np.rint(ratios)) < 0.02) > 0.9:
        return "logarithms"
    sums = np.array([row.sum() for row in normalized])
    varied = min(len(sums), len(np.unique(values))) >= _LEAST_EVIDENCE
    alike = varied and np.ptp(sums) < 1e-3 * sums.mean()
    return "logarithms" if alike else "fractions"


def _nonzero_values(X: Any) -> list[NDArray[Any]]:
    """The values of each row that are not 0."""
    parts = np.split(X.data, X.indptr[1:-1]) if sparse.issparse(X) else list(X)
    return [part[part != 0] for part in parts]
