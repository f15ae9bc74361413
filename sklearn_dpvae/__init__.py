"""Positions for cells that have none, learned from a tissue section whose cells have them.

The logger of this name and those below it say what is read and done, at the level INFO, and each
pass of SMACOF, at the level DEBUG; nothing is shown unless the caller configures logging.

What stands here is imported when it is first asked for: torch takes a second or two, which
``sklearn-dpvae --help`` need not wait for.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

logging.getLogger(__name__).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from ._persistence import load, save
    from ._regressor import DPVAESpatialRegressor
    from ._spatial_model import SpatialModel, check_query
    from .pipeline import SpatialPipeline, make_paper_pipeline, make_spatial_pipeline

__version__ = "0.1.0"

__all__ = [
    "DPVAESpatialRegressor",
    "SpatialModel",
    "SpatialPipeline",
    "check_query",
    "load",
    "make_paper_pipeline",
    "make_spatial_pipeline",
    "save",
]

_HOMES = {
    "DPVAESpatialRegressor": "_regressor",
    "SpatialModel": "_spatial_model",
    "SpatialPipeline": "pipeline",
    "check_query": "_spatial_model",
    "load": "_persistence",
    "make_paper_pipeline": "pipeline",
    "make_spatial_pipeline": "pipeline",
    "save": "_persistence",
}

_MODULES = {
    "anndata",
    "cli",
    "datasets",
    "decomposition",
    "feature_selection",
    "inspection",
    "mapping",
    "masks",
    "metrics",
    "model_selection",
    "pipeline",
    "plotting",
    "preprocessing",
    "reconstruction",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    elif name in _MODULES:
        found = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
