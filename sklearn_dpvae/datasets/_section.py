"""What a reader of a format returns, before it is cleaned. May import `_utils`."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch

from .._utils.matrix import in_memory


def raw_section(
    X: Any,
    genes: Any,
    obs_names: Any,
    *,
    gene_ids: Any = None,
    feature_types: Any = None,
    coords: Any = None,
    sections: Any = None,
    in_tissue: Any = None,
    layer: str | None = None,
    notes: list[str] | None = None,
) -> Bunch:
    """Put the parts of a section together.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
    genes, gene_ids, feature_types : array-like of shape (n_genes,)
        Names of features, other names, and of what kind they are.
    obs_names, sections, in_tissue : array-like of shape (n_cells,)
    coords : array-like of shape (n_cells, n_dims)
    layer : str, optional
        That X is from.
    notes : list of str, optional
        What is worth a warning.

    Returns
    -------
    Bunch
        With arrays, a CSR matrix, and None for what is not known.
    """

    def texts(values: Any) -> Any:
        return None if values is None else np.asarray(values).astype(str)

    X = sparse.csr_matrix(in_memory(X))
    if X.dtype.kind in "iu" and (X.nnz == 0 or X.data.max() <= np.iinfo(np.int32).max):
        X = X.astype(np.int32)
    return Bunch(
        X=X,
        genes=texts(genes),
        obs_names=texts(obs_names),
        gene_ids=texts(gene_ids),
        feature_types=texts(feature_types),
        coords=None if coords is None else np.asarray(coords, dtype=np.float64),
        sections=texts(sections),
        in_tissue=None if in_tissue is None else np.asarray(in_tissue, dtype=bool),
        layer=layer,
        notes=[] if notes is None else notes,
    )


def reason(error: BaseException) -> str:
    """The message of an error, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
