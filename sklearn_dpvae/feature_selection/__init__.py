"""Selection of genes: by variability, or by how their expression clusters in space.

May import `_utils`.
"""

from ._selectors import HighlyVariableGenes, SpatiallyVariableGenes

__all__ = ["HighlyVariableGenes", "SpatiallyVariableGenes"]
