"""Which genes a pipeline takes, and how much each of them weighs in what it says.

Imports the readers' alignment of genes and this folder's steps.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import _safe_indexing, check_array

from .._utils.validation import check_missing_genes
from .._utils.warn import warn
from ..datasets import common_genes
from ..datasets._genes import (
    MUCH,
    check_names,
    find_columns,
    make_unique,
    report_missing,
    take_columns,
)
from ._steps import transformers


@dataclass(frozen=True, eq=False)
class GeneTable:
    """Names of the columns that a pipeline was given, and which of them it was fitted on.

    Attributes
    ----------
    names : ndarray of shape (n_given,), dtype str
    kept : ndarray of shape (n_given,), dtype bool
    """

    names: NDArray[np.str_]
    kept: NDArray[np.bool_]

    @classmethod
    def of(cls, X: Any, genes: ArrayLike | None, query_genes: ArrayLike | None) -> Self | None:
        """Read the arguments of `fit`; None if the columns have no names.

        Raises
        ------
        ValueError
            If names are repeated, are not one for each column, or none is common to both.
        """
        if genes is None:
            genes = getattr(X, "columns", None)
        if genes is None:
            if query_genes is None:
                return None
            raise ValueError(
                "query_genes was given without genes, the names of the columns of X. Pass both, "
                "or X as a DataFrame."
            )
        names = _one_per_column(genes, X)
        kept = np.ones(len(names), dtype=bool)
        if query_genes is not None:
            kept = np.isin(np.arange(len(names)), common_genes(names, query_genes))
        return cls(names, kept)

    def restrict(self, X: Any) -> Any:
        """The columns of X that the pipeline is fitted on."""
        return X if self.kept.all() else _safe_indexing(X, np.flatnonzero(self.kept), axis=1)


def query_columns(
    table: GeneTable | None, query_genes: ArrayLike | None
) -> NDArray[np.bool_] | None:
    """Which columns of a query belong to genes that the pipeline is fitted on."""
    if table is None or query_genes is None:
        return None
    names = np.asarray(query_genes).astype(str)
    columns = common_genes(make_unique(names)[0], table.names[table.kept])
    return np.isin(np.arange(len(names)), columns)


def for_steps(
    pipeline: Any, X: Any, genes: ArrayLike | None, missing: ArrayLike | None
) -> tuple[Any, NDArray[np.bool_] | None]:
    """A query as the first step takes it, and which genes were not measured in it.

    Parameters
    ----------
    pipeline : SpatialPipeline
        Fitted.
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
        With the columns that the pipeline was fitted on, or all that `fit` was given, or those
        that `genes` names.
    genes, missing
        See `SpatialPipeline.predict`.

    Raises
    ------
    ValueError
        If the query has none of the genes that the steps go by.

    Warns
    -----
    UserWarning
        If it lacks some of those that it names, or more than a third of the weight. The warning
        says how much they weigh.
    """
    table: GeneTable | None = getattr(pipeline, "gene_table_", None)
    if genes is None:
        if table is not None and np.ndim(X) == 2 and np.shape(X)[1] == len(table.kept):
            X = table.restrict(X)
            if missing is not None and len(np.asarray(missing)) == len(table.kept):
                missing = np.asarray(missing)[table.kept]
    elif missing is not None:
        raise ValueError(
            "genes and missing_genes were both given. Genes that are not among genes are missing."
        )
    elif table is None:
        raise ValueError(
            "genes was given, but the pipeline does not know the names of its own. Pass genes to "
            "fit, too."
        )
    else:
        known = table.names[table.kept]
        X = check_array(X, accept_sparse="csr", dtype=None, ensure_all_finite=False)
        names = _one_per_column(genes, X)
        columns = find_columns(names, known, weights=gene_weights(pipeline), min_share=0.0)
        X = take_columns(X, columns)
        missing = columns < 0
        return X, missing if missing.any() else None
    if missing is None:
        return X, None
    shape = np.shape(X)
    if len(shape) != 2:
        raise ValueError(f"X must be a matrix of cells and genes, got the shape {shape}.")
    mask = check_missing_genes(missing, shape[1])
    weights = gene_weights(pipeline)
    if len(weights) == len(mask) and mask.any():
        said = report_missing(mask, weights, 0.0)
        # Who passes a mask knows that genes are missing, but not what they weigh.
        if weights[mask].sum() > MUCH:
            warn(said)
    return X, mask


def _one_per_column(genes: ArrayLike, X: Any) -> NDArray[np.str_]:
    names = check_names(genes, "genes")
    if len(names) != np.shape(X)[1]:
        raise ValueError(
            f"genes has {len(names)} names but X has {np.shape(X)[1]} columns. Pass one name per "
            "column."
        )
    return names


def gene_weights(pipeline: Any, n_features: int | None = None) -> NDArray[np.float64]:
    """Share of each column of the first step in what the last step sees.

    Genes that a step does not select weigh nothing. The others weigh the sum of squares that
    components have for them, or all the same where a step makes no components.

    Parameters
    ----------
    pipeline : Pipeline
        Fitted.
    n_features : int, optional
        Number of columns, where the first step does not tell.

    Returns
    -------
    ndarray of shape (n_features,)
        Sums to 1.
    """
    steps = transformers(pipeline)
    n_columns: Any = getattr(pipeline, "n_features_in_", n_features)
    columns = np.arange(n_columns)
    of_columns = np.ones(n_columns)
    for step in steps:
        if isinstance(step, SelectorMixin):
            columns = columns[step.get_support(indices=True)]
            of_columns = of_columns[: len(columns)]
            continue
        directions = getattr(step, "directions_", getattr(step, "components_", None))
        if directions is not None and directions.shape[1:] == columns.shape:
            of_columns = np.sum(np.asarray(directions, dtype=np.float64) ** 2, axis=0)
            break
        if getattr(step, "n_features_in_", len(columns)) != len(columns):
            break
    weights = np.zeros(n_columns)
    weights[columns] = of_columns
    return weights / max(weights.sum(), np.finfo(float).tiny)
