"""Which layer of an AnnData a model takes, and a warning where it is not what it should be.

Imports the model, the layers of an AnnData, and the step that takes logarithms.
"""

from typing import Any

from sklearn.pipeline import Pipeline

from .._utils.warn import warn
from ..datasets._layers import kind_of_layer, places_of_counts, say_layer
from ..preprocessing import LogNormalizer
from .model import SpatialModel


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
    for other in places_of_counts(adata):
        if other != layer and kind_of_layer(adata, other) == "counts":
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
    found = [
        layer for layer in places_of_counts(adata)[1:] if kind_of_layer(adata, layer) == "counts"
    ]
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
