"""
Put cells back into the tissue
==============================

The main task on one page: learn from cells with known positions, predict the positions of cells
from their expression alone, and see how far off the predictions are.
"""

# %%
# A tissue
# --------
# :func:`~sklearn_dpvae.datasets.make_tissue` generates a tissue with curved layers, gradients,
# cell types and negative binomial counts. We keep the positions of 600 cells and pretend that
# those of the other 200 are lost.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import neighborhood_hits, procrustes_align, procrustes_disparity

tissue = make_tissue(n_cells=800, n_genes=300, random_state=0)
reference, query = train_test_split(np.arange(800), test_size=200, random_state=0)

# %%
# Fit and predict
# ---------------
# The pipeline takes raw counts, here a sparse matrix, and positions.

model = make_spatial_pipeline(n_top_genes=200, max_epochs=60, random_state=0)
model.fit(tissue.X[reference], tissue.coords[reference])
predicted = model.predict(tissue.X[query])

# %%
# Score
# -----
# The disparity compares two maps after the best shift, rotation, reflection and scale: 0 is
# perfect, 1 means that the prediction carries no information. A fair comparison is
# nearest-neighbor regression on principal components of the same z-scored genes.

prepare = model[:3]  # normalize, select genes, scale
baseline = make_pipeline(PCA(30, random_state=0), KNeighborsRegressor(15))
baseline.fit(prepare.transform(tissue.X[reference]), tissue.coords[reference])
nearest = baseline.predict(prepare.transform(tissue.X[query]))

true = tissue.coords[query]
for name, coords in [("dp-VAE", predicted), ("15 nearest neighbors", nearest)]:
    error = np.median(np.linalg.norm(coords - true, axis=1))
    print(
        f"{name:21s} disparity {procrustes_disparity(true, coords):.3f}"
        f"   median error {error:4.0f} µm"
        f"   neighbors found {neighborhood_hits(true, coords):.0%}"
    )

# %%
# Look
# ----
# Colors show the layers of the tissue. In the right panel, a line joins each held-out cell to its
# true position.

aligned = procrustes_align(predicted, true)(predicted)
fig, axes = plt.subplots(1, 3, figsize=(11, 4), sharex=True, sharey=True, layout="constrained")
colors = {"c": tissue.layers[query], "cmap": "viridis", "s": 18}
axes[0].scatter(*true.T, **colors)
axes[0].set_title("true")
axes[1].scatter(*aligned.T, **colors)
axes[1].set_title("predicted from expression")
axes[2].plot(*np.stack([true, aligned]).transpose(2, 0, 1), color="0.6", linewidth=0.8, zorder=0)
axes[2].scatter(*aligned.T, **colors)
axes[2].set_title("lines to the true positions")
for ax in axes:
    ax.set_aspect("equal")
    ax.set_axis_off()

# %%
# Uncertain cells are drawn toward the middle of the places that they may have come from. This
# minimizes the expected error, and it makes the predicted map a little smaller than the true one.
