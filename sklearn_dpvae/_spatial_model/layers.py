"""Which layer of an AnnData a model takes, and a warning where it is not what it should be.

Imports the model, the layers of an AnnData, and the step that takes logarithms.
"""

import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.pipeline import Pipeline

from .._utils.counts import library_sizes
from .._utils.matrix import evenly_spaced, in_memory
from .._utils.warn import warn
from ..datasets import align_genes
from ..datasets._genes import keep_genes_of, other_names
from ..datasets._layers import (
    find_expression,
    gene_table,
    kind_of_layer,
    places_holding_counts,
    say_layer,
)
from ..preprocessing import LogNormalizer
from ..preprocessing._log_normalizer import NOT_COUNTS
from .model import SpatialModel

# Cells of a query whose depths stand for all.
_CELLS_FOR_DEPTHS = 5000


def restrict_to_query(reference: Any, query: Any) -> NDArray[np.float64] | None:
    """Restrict a reference to the genes that a query has, too, and find the depths of its cells.

    Parameters
    ----------
    reference : Bunch
        As `read_sections` returns it; changed in place.
    query : AnnData

    Returns
    -------
    ndarray of shape (n_query,) or None
        Sums of the counts of the common genes, of 5,000 cells at most, evenly spaced; None where
        the query holds no counts, or no cell has any.
    """
    counts = list(places_holding_counts(query))
    layer = counts[0] if counts else None
    names = gene_table(query, layer)
    keep_genes_of(reference, names.index, other_names(names))
    if not counts:
        return None
    X, _ = find_expression(query, "query", layer)
    rows = evenly_spaced(X.shape[0], _CELLS_FOR_DEPTHS)
    aligned = align_genes(
        sparse.csr_matrix(in_memory(X[rows])),
        names.index,
        reference.genes,
        gene_ids=other_names(names),
        reference_ids=reference.gene_ids,
    )
    depths = library_sizes(aligned)
    return depths if depths.any() else None


def layer_of_query(adata: Any, model: SpatialModel) -> str | None:
    """The layer that the model was fitted on, or another one if that should hold counts.

    Parameters
    ----------
    adata : AnnData
    model : SpatialModel

    Returns
    -------
    str or None
        As `find_expression` takes it.

    Warns
    -----
    UserWarning
        If it is another one.
    """
    layer = model.layer
    there = layer in (None, *adata.layers) or (layer == "raw" and adata.raw is not None)
    if not model.whole_counts or (there and kind_of_layer(adata, layer) == "counts"):
        return layer
    for other in places_holding_counts(adata):
        if other != layer:
            name = ".X" if layer is None else f"layer={layer!r}"
            has = "does not hold whole numbers" if there else "is absent"
            say_layer(f"the model was fitted on {name}, which {has} in adata", other)
            return other
    return layer


def warn_of_logarithms(
    adata: Any, pipeline: Any, name: str = "adata", option: str = "layer={!r}"
) -> bool:
    """Warn where .X holds no counts, the pipeline wants them, and they are elsewhere.

    Parameters
    ----------
    adata : AnnData
    pipeline : estimator
    name : str, default="adata"
        What the message calls the AnnData.
    option : str, default="layer={!r}"
        How a layer is asked for.

    Returns
    -------
    bool
        Whether there was a warning.
    """
    wants = isinstance(pipeline, Pipeline) and any(
        isinstance(step, LogNormalizer) for _, step in pipeline.steps
    )
    kind = kind_of_layer(adata, None)
    if not wants or kind == "counts":
        return False
    found = list(places_holding_counts(adata))
    logged = "log1p" in adata.uns or kind == "logarithms"
    if not found and not logged:
        return False
    state = "log-normalized already" if logged else "no counts"
    if found:
        where = f"they are in {option.format(found[0])}"
    else:
        where = f"name their layer by {option.partition('{')[0].rstrip()}"
    warn(f".X of {name} is {state}, but {type(pipeline).__name__} takes counts: {where}.")
    return True


def ignore_not_counts() -> None:
    """Silence what the step that takes logarithms says of such values: it was said before."""
    for message in NOT_COUNTS:
        warnings.filterwarnings("ignore", message=re.escape(message))
