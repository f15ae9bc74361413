"""Parts of a training with few arguments, for tests that look inside."""

import numpy as np

from sklearn_dpvae._network.objective import ObjectiveSettings, make_objective
from sklearn_dpvae._training.loop import TrainingSettings
from sklearn_dpvae._training.reference import ReferenceData


def reference(X, coords, codes=None, **parts):
    """Reference data of one section, or of those that the codes number."""
    codes = np.zeros(len(coords), dtype=np.int64) if codes is None else np.asarray(codes)
    return ReferenceData(X, coords, codes, np.unique(codes), **parts)


def objective(n_explained=1, n_sections=1, between_groups=False, **weights):
    """The default objective, with other weights."""
    defaults = {
        "elbo_weight": 1.0,
        "kl_weight": 1.0,
        "distance_weight": 1.0,
        "alignment_weight": 3.0,
        "distance_loss": "absolute",
    }
    return make_objective(
        ObjectiveSettings(**defaults | weights),
        n_explained=n_explained,
        n_sections=n_sections,
        between_groups=between_groups,
    )


def training(**settings):
    """Plain settings of a training on the CPU."""
    defaults = {
        "max_epochs": 1,
        "lr": 1e-3,
        "lr_schedule": "constant",
        "weight_decay": 0.0,
        "batch_size": None,
        "early_stopping": False,
        "validation_fraction": 0.1,
        "patience": 10,
        "device": "cpu",
        "precision": "float32",
        "callbacks": None,
        "verbose": 0,
    }
    return TrainingSettings(**defaults | settings)
