"""Library sizes of cells, and counts on a logarithmic scale without them.

Dense and CSR; nothing here makes a sparse matrix dense. Imports nothing of this package.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


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
