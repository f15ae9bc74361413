"""Which classes a model file may name, and under which names.

A class goes by a public name, wherever its module is: move the module and change the right-hand
side here, and files written before load as they did. A name, once released, stays. Classes are
looked up when a file names them, so this module imports none of them.
"""

import importlib
import re

_PACKAGE = __package__.partition(".")[0]

# Of this package: the name in a file, and where the class is now.
_OWN = {
    "sklearn_dpvae.DPVAESpatialRegressor": "_regressor.DPVAESpatialRegressor",
    "sklearn_dpvae.SpatialModel": "_spatial_model.model.SpatialModel",
    "sklearn_dpvae.decomposition.SpatialPCA": "decomposition.SpatialPCA",
    "sklearn_dpvae.feature_selection.HighlyVariableGenes": (
        "feature_selection._highly_variable.HighlyVariableGenes"
    ),
    "sklearn_dpvae.feature_selection.SpatiallyVariableGenes": (
        "feature_selection._spatially_variable.SpatiallyVariableGenes"
    ),
    "sklearn_dpvae.masks.ClusterMask": "masks.ClusterMask",
    "sklearn_dpvae.masks.KNNMask": "masks.KNNMask",
    "sklearn_dpvae.masks.RadiusMask": "masks.RadiusMask",
    "sklearn_dpvae.metrics.ProcrustesTransform": "metrics._procrustes.ProcrustesTransform",
    "sklearn_dpvae.pipeline.SpatialPipeline": "pipeline._pipeline.SpatialPipeline",
    "sklearn_dpvae.preprocessing.LogNormalizer": "preprocessing._log_normalizer.LogNormalizer",
    "sklearn_dpvae.preprocessing.SectionScaler": "preprocessing._section_scaler.SectionScaler",
    "sklearn_dpvae.reconstruction.AnchoredMDS": "reconstruction._anchored_mds.AnchoredMDS",
    # Parts of fitted estimators.
    "DPVAE": "_network.dpvae.DPVAE",
    "ErrorModel": "_fitted.uncertainty.ErrorModel",
    "FittedModel": "_fitted.model.FittedModel",
    "GeneTable": "pipeline._genes.GeneTable",
    "HeldOut": "pipeline._held_out.HeldOut",
    "PlaceModel": "_fitted.place_model.PlaceModel",
    "PlaceNet": "_network.places.PlaceNet",
    "SectionFrame": "_fitted.frames.SectionFrame",
    "SectionFrames": "_fitted.frames.SectionFrames",
}

# Of scikit-learn, where users import them from.
_FOREIGN = (
    "sklearn.decomposition.PCA",
    "sklearn.decomposition.TruncatedSVD",
    "sklearn.feature_selection.VarianceThreshold",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing.MaxAbsScaler",
    "sklearn.preprocessing.MinMaxScaler",
    "sklearn.preprocessing.Normalizer",
    "sklearn.preprocessing.RobustScaler",
    "sklearn.preprocessing.StandardScaler",
)

NAMES = (*_OWN, *_FOREIGN)


def is_foreign(name: str) -> bool:
    """Whether a name is that of a class of scikit-learn."""
    return name in _FOREIGN


def is_attribute(name: str) -> bool:
    """Whether an attribute may have this name: one that Python gives no meaning of its own."""
    return re.fullmatch(r"(?!__)[^\W\d]\w*", name) is not None


def name_of(cls: type) -> str | None:
    """Name that a file gives to a class; None if it may not name it.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_dpvae._persistence.registry import name_of
    >>> name_of(StandardScaler), name_of(property)
    ('sklearn.preprocessing.StandardScaler', None)
    """
    for name in NAMES:
        if _path_of(name).rpartition(".")[2] == cls.__name__ and class_of(name) is cls:
            return name
    return None


def class_of(name: str) -> type:
    """Class of a name.

    Raises
    ------
    ValueError
        If the name is not on the list.
    """
    if name not in NAMES:
        raise ValueError(f"{name} is not a class that this version knows")
    module, _, attribute = _path_of(name).rpartition(".")
    cls: type = getattr(importlib.import_module(module), attribute)
    return cls


def _path_of(name: str) -> str:
    return f"{_PACKAGE}.{_OWN[name]}" if name in _OWN else name
