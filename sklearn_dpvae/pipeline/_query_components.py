"""What a query's own expression says of it, beside what the steps make of it.

Imports this folder's steps and the step that takes logarithms.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.utils.sparsefuncs import mean_variance_axis

from .._utils.routing import takes
from ..preprocessing import LogNormalizer
from ._steps import transform_with, transformers

# Genes of a query whose logarithms vary most, and the principal components of these.
_N_GENES, _N_COMPONENTS = 1000, 30


def logarithms_of(pipeline: Pipeline) -> Any:
    """The fitted step that takes logarithms of counts, if it is the first of a pipeline.

    None where the last step has no use for more than the steps make of a query.
    """
    steps = transformers(pipeline)
    if not steps or not isinstance(steps[0], LogNormalizer):
        return None
    return steps[0] if takes(pipeline._final_estimator, "predict", "covariates") else None


def query_covariates(
    pipeline: Pipeline, X: Any, missing: NDArray[np.bool_] | None
) -> NDArray[np.float64] | None:
    """Principal components of a query by itself, for `covariates` of the last step's `predict`.

    Parameters
    ----------
    pipeline : Pipeline
        Fitted.
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
    missing : ndarray of shape (n_genes,), dtype bool, optional

    Returns
    -------
    ndarray of shape (n_cells, n_components), or None
        None where the first step does not take logarithms.
    """
    step = logarithms_of(pipeline)
    return None if step is None else components(transform_with([(step, {})], X, missing)[0])


def components(logs: Any) -> NDArray[np.float64]:
    """Principal components of the genes that vary most, in units of their overall spread.

    Parameters
    ----------
    logs : {ndarray, sparse matrix} of shape (n_cells, n_genes)
        Logarithms of normalized counts.
    """
    if sparse.issparse(logs):
        variances = mean_variance_axis(logs.tocsr(), axis=0)[1]
    else:
        logs = np.asarray(logs)
        variances = logs.var(axis=0)
    chosen = np.sort(np.argsort(-variances, kind="stable")[:_N_GENES])
    most = logs[:, chosen]
    n_components = min(_N_COMPONENTS, *most.shape)
    found = PCA(n_components, svd_solver="covariance_eigh").fit_transform(most.astype(np.float64))
    return found / (found.std() or 1.0)
