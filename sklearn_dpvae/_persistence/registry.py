"""Which classes a model file may name.

Classes of this package that hold learned state, and few of scikit-learn's and torch's. They are
looked up when a file names them, so this module imports none of them.
"""

import importlib
import re

# Modules of this package all of whose own classes may be built.
_OWN = {
    "_fitted.frames",
    "_network.layers",
    "_network.likelihoods",
    "_network.dpvae",
    "_training.net",
    "_regressor",
    "_fitted.uncertainty",
    "anndata",
    "decomposition",
    "feature_selection._highly_variable",
    "feature_selection._spatially_variable",
    "masks",
    "metrics._procrustes",
    "pipeline",
    "preprocessing._log_normalizer",
    "preprocessing._section_scaler",
    "reconstruction._anchored_mds",
}

# By the module that is public.
_FOREIGN = {
    "sklearn.pipeline": {"Pipeline"},
    "sklearn.preprocessing": {
        "MaxAbsScaler",
        "MinMaxScaler",
        "Normalizer",
        "RobustScaler",
        "StandardScaler",
    },
    "sklearn.decomposition": {"PCA", "TruncatedSVD"},
    "sklearn.feature_selection": {"VarianceThreshold"},
    "torch.nn": {
        "Dropout",
        "Embedding",
        "GELU",
        "Identity",
        "LayerNorm",
        "Linear",
        "ModuleDict",
        "ModuleList",
        "ReLU",
        "Sequential",
        "SiLU",
        "Tanh",
    },
}

_PACKAGE = __package__.partition(".")[0]


def is_name(name: str) -> bool:
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
    package, _, module = cls.__module__.partition(".")
    if package == _PACKAGE:
        return f"{cls.__module__}.{cls.__qualname__}" if module in _OWN else None
    for public, names in _FOREIGN.items():
        if cls.__name__ in names and getattr(importlib.import_module(public), cls.__name__) is cls:
            return f"{public}.{cls.__name__}"
    return None


def class_of(name: str) -> tuple[type, bool]:
    """Class of a name, and whether it is scikit-learn's.

    Raises
    ------
    ValueError
        If the name is not on the list.
    """
    module, _, qualname = name.rpartition(".")
    if qualname in _FOREIGN.get(module, ()):
        return getattr(importlib.import_module(module), qualname), module.startswith("sklearn.")
    package, _, own = module.partition(".")
    if package == _PACKAGE and own in _OWN:
        cls = getattr(importlib.import_module(module), qualname, None)
        if isinstance(cls, type) and cls.__module__ == module:
            return cls, False
    raise ValueError(f"{name} is not a class that a model file may name")
