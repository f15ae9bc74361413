"""What a query's own expression says of it, beside what the steps make of it.

Imports the step that takes logarithms.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from .._utils.matrix import column_moments
from .._utils.routing import takes
from ..preprocessing import LogNormalizer

# Genes of a query whose logarithms vary most, and the principal components of these.
_N_GENES, _N_COMPONENTS = 1000, 30


def learns_from_logarithms(steps: Sequence[Any], last: Any, told: dict[str, Any]) -> bool:
    """Whether `predict` of the last step is to get the components of the first step's output.

    That is where anchors teach, and the first step takes logarithms of counts.

    Parameters
    ----------
    steps : sequence of transformers
        All but the last.
    last : estimator
    told : dict
        Keywords of its `predict`.
    """
    return (
        told.get("anchors") is not None
        and told.get("adapt", "auto") is not False
        and "covariates" not in told
        and bool(steps)
        and isinstance(steps[0], LogNormalizer)
        and takes(last, "predict", "covariates")
    )


def query_components(logs: Any) -> NDArray[np.float64]:
    """Principal components of the genes that vary most, in units of their overall spread.

    Parameters
    ----------
    logs : {ndarray, CSR matrix} of shape (n_cells, n_genes)
        Logarithms of normalized counts.

    Returns
    -------
    ndarray of shape (n_cells, n_components)
    """
    variances = column_moments(logs)[1]
    chosen = np.sort(np.argsort(-variances, kind="stable")[:_N_GENES])
    most = logs[:, chosen]
    n_components = min(_N_COMPONENTS, *most.shape)
    found = PCA(n_components, svd_solver="covariance_eigh").fit_transform(most.astype(np.float64))
    return found / (found.std() or 1.0)
