"""A fitted pipeline together with what it must know of its data, and how it is asked.

`SpatialModel` is public as `sklearn_dpvae.SpatialModel`. May import everything up to the pipeline.
"""

from .answers import Answers
from .model import CHUNK_SIZE, SpatialModel, as_spatial_model
from .query_check import QueryCheck, check_query

__all__ = [
    "CHUNK_SIZE",
    "Answers",
    "QueryCheck",
    "SpatialModel",
    "as_spatial_model",
    "check_query",
]
