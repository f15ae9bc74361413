"""Preprocessing of expression: library-size normalization, and z-scores by section.

May import `_utils`.
"""

from ._log_normalizer import LogNormalizer
from ._section_scaler import SectionScaler

__all__ = ["LogNormalizer", "SectionScaler"]
