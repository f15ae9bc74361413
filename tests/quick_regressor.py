"""A small regressor and a section to fit it on, for tests of its contract on any device."""

import numpy as np
from read_only import read_only

from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler


def quick(**params):
    return DPVAESpatialRegressor(
        **{
            "n_estimators": 2,
            "hidden_layer_sizes": (32,),
            "max_epochs": 15,
            "random_state": 0,
        }
        | params
    )


def z_scored_section():
    """One section, z-scored: X float32 of shape (240, 60), coords."""
    tissue = make_tissue(n_cells=240, n_genes=60, random_state=1)
    X = SectionScaler().fit_transform(LogNormalizer().fit_transform(tissue.X))
    return read_only(np.asarray(X, dtype=np.float32), tissue.coords)
