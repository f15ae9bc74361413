"""Positions for cells that have none, learned from a tissue section whose cells have them."""

from ._persistence.archive import load, save
from ._regressor import DPVAESpatialRegressor
from .pipeline import SpatialPipeline, make_spatial_pipeline

__version__ = "0.1.0"

__all__ = ["DPVAESpatialRegressor", "SpatialPipeline", "load", "make_spatial_pipeline", "save"]
