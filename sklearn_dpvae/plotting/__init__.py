"""Figures in scikit-learn's Display idiom. Needs the extra ``plot``.

Each class has ways to be made (`from_estimator`, `from_predictions`, ...), all of which draw at
once; `plot` draws again, into other axes. Colors are told apart by color-blind eyes.
"""

from ._curves import LossCurvesDisplay, WeightCurveDisplay
from ._distances import DistanceDisplay
from ._genes import GeneMapDisplay, LatentDisplay
from ._maps import ErrorMapDisplay, ReconstructionDisplay
from ._transfer import TransferMatrixDisplay
from ._uncertainty import UncertaintyDisplay

__all__ = [
    "DistanceDisplay",
    "ErrorMapDisplay",
    "GeneMapDisplay",
    "LatentDisplay",
    "LossCurvesDisplay",
    "ReconstructionDisplay",
    "TransferMatrixDisplay",
    "UncertaintyDisplay",
    "WeightCurveDisplay",
]
