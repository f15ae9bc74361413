"""Positions from latents of any dimension: multidimensional scaling with known positions.

Equations (6) and (7) of the paper. May import `_utils` and `metrics`.
"""

from ._anchored_mds import AnchoredMDS
from ._smacof import SmacofResult, anchored_smacof, guttman_transform

__all__ = ["AnchoredMDS", "SmacofResult", "anchored_smacof", "guttman_transform"]
