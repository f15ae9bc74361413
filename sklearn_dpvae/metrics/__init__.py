"""How good is a map? Scores that do not depend on the pose of a map, and spatial statistics."""

from ._autocorrelation import gearys_c, morans_i
from ._disparity import procrustes_disparity, procrustes_distance
from ._distances import distance_correlation, stress
from ._distortion import DistortionBounds, distortion_bounds
from ._mantel import mantel
from ._neighbors import (
    median_position_error,
    neighborhood_hits,
    radius_coverage,
    spot_spacing,
)
from ._places import energy_score, place_coverage, place_log_score
from ._procrustes import ProcrustesTransform, procrustes_align
from ._scorer import ProcrustesScorer

__all__ = [
    "DistortionBounds",
    "ProcrustesScorer",
    "ProcrustesTransform",
    "distance_correlation",
    "distortion_bounds",
    "energy_score",
    "gearys_c",
    "mantel",
    "median_position_error",
    "morans_i",
    "neighborhood_hits",
    "place_coverage",
    "place_log_score",
    "procrustes_align",
    "procrustes_disparity",
    "procrustes_distance",
    "radius_coverage",
    "spot_spacing",
    "stress",
]
