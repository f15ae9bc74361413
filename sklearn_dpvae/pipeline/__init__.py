"""From counts to positions in one estimator: the pipeline and the recommended steps.

May import the regressor and all that it stands on.
"""

from ._paper import make_paper_pipeline
from ._pipeline import SpatialPipeline
from ._recommended import make_spatial_pipeline

__all__ = ["SpatialPipeline", "make_paper_pipeline", "make_spatial_pipeline"]
