"""What comes after the position: genes, labels and cells on the tissue.

A mapping says where each cell is, and which cells are like each place. Everything else is worked
out from it. May import the models and all that they stand on.
"""

from ._genes import impute_genes, project_genes
from ._labels import LabelShares, project_labels, transfer_labels
from ._mapping import CellMapping, map_cells
from ._nearest import nearest_locations

__all__ = [
    "CellMapping",
    "LabelShares",
    "impute_genes",
    "map_cells",
    "nearest_locations",
    "project_genes",
    "project_labels",
    "transfer_labels",
]
