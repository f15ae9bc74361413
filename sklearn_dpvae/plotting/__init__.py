"""Figures that follow scikit-learn's Display convention. They need the extra ``plot``.

Create a display with one of its class methods (`from_estimator`, `from_predictions`, ...), which
draw at once. `plot` draws again, into other axes. Color-blind readers can tell the colors apart.
"""

from ._curves import LossCurvesDisplay, WeightCurveDisplay
from ._distances import DistanceDisplay
from ._genes import GeneMapDisplay, LatentDisplay
from ._maps import ErrorMapDisplay, ReconstructionDisplay
from ._places import PlacesDisplay
from ._transfer import TransferMatrixDisplay
from ._uncertainty import UncertaintyDisplay

__all__ = [
    "DistanceDisplay",
    "ErrorMapDisplay",
    "GeneMapDisplay",
    "LatentDisplay",
    "LossCurvesDisplay",
    "PlacesDisplay",
    "ReconstructionDisplay",
    "TransferMatrixDisplay",
    "UncertaintyDisplay",
    "WeightCurveDisplay",
]
