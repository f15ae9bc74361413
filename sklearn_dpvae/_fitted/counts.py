"""Counts: their check, and how the encoder sees them where it is given nothing else.

Imports the network and what the package shares.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils.sparsefuncs import mean_variance_axis

from .._network.inputs import StandardizedCounts
from .._utils.arrays import check_array
from .._utils.counts import log_normalize, median_library_size


def check_counts(counts: Any, n_samples: int, *, name: str = "counts") -> Any:
    """Validate a matrix of counts.

    Parameters
    ----------
    counts : {array-like, sparse matrix} of shape (n_samples, n_genes)
        They need not be whole numbers: counts corrected for background are not.
    n_samples : int
    name : str, default="counts"
        What messages call the matrix.

    Returns
    -------
    ndarray or csr_matrix

    Raises
    ------
    ValueError
        If a count is negative, NaN or infinite, all are zero, or the number of rows differs.
    """
    counts = check_array(
        counts, accept_sparse="csr", dtype=[np.float32, np.float64], input_name=name
    )
    if counts.shape[0] != n_samples:
        raise ValueError(
            f"{name} has {counts.shape[0]} rows but X has {n_samples}. Pass the counts of the "
            "same cells in the same order."
        )
    values = counts.data if sp.issparse(counts) else counts
    lowest = values.min() if values.size else 0
    if lowest < 0:
        raise ValueError(
            f"Negative values in data passed to {name}: the lowest is {lowest}, and a likelihood "
            "of counts cannot explain it. Pass raw counts (as counts= if X itself is scaled), "
            "or use likelihood='gaussian'."
        )
    if not values.any():
        raise ValueError(
            f"{name} has no count above 0. Pass counts, or use likelihood='gaussian'."
        )
    return counts


def standardize_like(inputs: StandardizedCounts, counts: Any) -> None:
    """Fit the layer that turns counts into z-scores of log-normalized values.

    Constant genes become 0.

    Parameters
    ----------
    inputs : StandardizedCounts
        Changed in place.
    counts : {ndarray, CSR matrix} of shape (n_cells, n_genes)
        Of the reference.
    """
    logs = log_normalize(counts)
    if sp.issparse(logs):
        mean, variance = mean_variance_axis(logs, axis=0)
    else:
        mean, variance = logs.mean(axis=0, dtype=np.float64), logs.var(axis=0, dtype=np.float64)
    std = np.sqrt(variance)
    inputs.start_at(median_library_size(counts), mean, np.where(std > 1e-6, std, 1.0))
