"""A fitted pipeline together with what it must know of its data, and how it is asked.

`SpatialModel` is public as `sklearn_dpvae.SpatialModel`. May import everything up to the pipeline.
"""

from .answers import Answers
from .model import CHUNK_SIZE, SpatialModel, as_spatial_model

__all__ = ["CHUNK_SIZE", "Answers", "SpatialModel", "as_spatial_model"]
