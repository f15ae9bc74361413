"""
Figures in one call, and a model in a file
==========================================

The displays of :mod:`sklearn_dpvae.plotting` draw the figures that one needs after a fit. They
follow scikit-learn's convention: you create them from an estimator or from predictions, they draw
at once, and they keep the figure and its axes as attributes.
"""

# %%

import tempfile
from pathlib import Path

import numpy as np

import sklearn_dpvae
from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.plotting import (
    DistanceDisplay,
    ErrorMapDisplay,
    GeneMapDisplay,
    LossCurvesDisplay,
    ReconstructionDisplay,
)

tissue = make_tissue(n_cells=800, n_genes=150, random_state=12)
reference, query = slice(0, 600), slice(600, 800)
model = make_spatial_pipeline(max_epochs=40, random_state=0)
model.fit(tissue.X[reference], tissue.coords[reference])
X, true = tissue.X[query], tissue.coords[query]

# %%
# The map
# -------
# In both panels, colors encode the true position. The triangle of three cells shows how the map is
# turned and stretched.

ReconstructionDisplay.from_estimator(model, X, true)

# %%
# Where it is wrong
# -----------------

ErrorMapDisplay.from_estimator(model, X, true)

# %%
# How well distances are preserved
# --------------------------------
# The dashed lines bound the band that the paper's Theorem 1 guarantees for 90 % of the pairs,
# given the loss alone. The dotted lines are measured and hold the same share.

DistanceDisplay.from_estimator(model, X, true)

# %%
# How the training went
# ---------------------

LossCurvesDisplay.from_estimator(model)

# %%
# The genes that place the cells
# ------------------------------

GeneMapDisplay.from_estimator(model, X, true, genes=tissue.genes)

# %%
# To a file and back
# ------------------
# ``save`` writes a format that runs no code when it is loaded. The loaded model makes the same
# predictions, bit for bit.

with tempfile.TemporaryDirectory() as folder:
    sklearn_dpvae.save(model, Path(folder) / "tissue.dpvae")
    loaded = sklearn_dpvae.load(Path(folder) / "tissue.dpvae")

print("same predictions:", np.array_equal(loaded.predict(X), model.predict(X)))
