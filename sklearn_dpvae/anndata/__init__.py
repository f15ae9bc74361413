"""Fit, predict, map and learn more on AnnData: layers and keys by name, genes aligned by name.

Needs the extra ``anndata``. Tables of SpatialData are AnnData, so these functions take them as
they are. May import the models, the mapping and the readers.
"""

from ._mapping import impute_genes, map, project_genes, project_labels, transfer_labels
from ._positions import calibrate, check, fit, partial_fit, predict, predict_places, score

__all__ = [
    "calibrate",
    "check",
    "fit",
    "impute_genes",
    "map",
    "partial_fit",
    "predict",
    "predict_places",
    "project_genes",
    "project_labels",
    "score",
    "transfer_labels",
]
