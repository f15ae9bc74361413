"""
Random splits flatter everyone
==============================

The choice of held-out cells decides what is measured. Held-out cells between their neighbors are
easy to place; a missing block of tissue is another matter.
"""

# %%
# Two splits of one tissue
# ------------------------
# :class:`~sklearn_dpvae.model_selection.SpatialBlockKFold` holds out contiguous pieces.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import ProcrustesScorer
from sklearn_dpvae.model_selection import SpatialBlockKFold

tissue = make_tissue(n_cells=600, n_genes=200, random_state=4)
splits = {
    "random cells": KFold(4, shuffle=True, random_state=0),
    "spatial blocks": SpatialBlockKFold(4, random_state=0),
}

fig, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
for (name, splitter), ax in zip(splits.items(), axes, strict=True):
    fold = np.empty(len(tissue.coords))
    for number, (_, held_out) in enumerate(splitter.split(tissue.X, tissue.coords)):
        fold[held_out] = number
    ax.scatter(*tissue.coords.T, c=fold, cmap="viridis", s=12)
    ax.set_title(name)
    ax.set_aspect("equal")
    ax.set_axis_off()

# %%
# Two models on each
# ------------------
# Nearest-neighbor regression averages positions that it has seen, and none of them is in the
# missing block.

model = make_spatial_pipeline(
    n_top_genes=120, n_estimators=2, max_epochs=80, n_calibration_folds=None, random_state=0
)
neighbors = make_pipeline(*model[:3], PCA(30, random_state=0), KNeighborsRegressor(15))

fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
for place, (name, estimator) in enumerate({"dp-VAE": model, "15 neighbors": neighbors}.items()):
    for row, (split, splitter) in enumerate(splits.items()):
        scores = cross_val_score(
            estimator, tissue.X, tissue.coords, cv=splitter, scoring=ProcrustesScorer()
        )
        print(f"{name:13s} {split:15s} disparity {1 - scores.mean():.3f}")
        ax.scatter(1 - scores, np.full(4, row + 0.12 * place), color=f"C{place}", s=40, alpha=0.8)
    ax.scatter([], [], color=f"C{place}", label=name)
ax.set_yticks([0, 1], splits)
ax.set(xlabel="Procrustes disparity of each fold", xlim=(0, None), ylim=(-0.5, 1.6))
ax.legend()
