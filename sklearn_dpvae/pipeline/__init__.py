"""From counts to positions in one estimator: the pipeline and the recommended steps.

May import the regressor and all that it stands on.
"""

from ._pipeline import SpatialPipeline
from ._recommended import PAPER_SETTINGS, make_spatial_pipeline

__all__ = ["PAPER_SETTINGS", "SpatialPipeline", "make_spatial_pipeline"]
