"""Tissues to learn from: a generator, readers of sections on disk, public Visium sections.

May import `_utils`.
"""

from ._genes import align_genes, common_genes
from ._readers import read_sections
from ._tissue import make_tissue
from ._visium import VISIUM_SECTIONS, fetch_visium, get_data_home

__all__ = [
    "VISIUM_SECTIONS",
    "align_genes",
    "common_genes",
    "fetch_visium",
    "get_data_home",
    "make_tissue",
    "read_sections",
]
