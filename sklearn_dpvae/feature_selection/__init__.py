"""Selection of genes: by variability, or by how their expression clusters in space.

May import `_utils`.
"""

from ._highly_variable import HighlyVariableGenes
from ._spatially_variable import SpatiallyVariableGenes

__all__ = ["HighlyVariableGenes", "SpatiallyVariableGenes"]
