"""
More latent dimensions, and what they hold
==========================================

If the latent space has as many dimensions as the tissue, it is the map. If it has more, positions
are found by multidimensional scaling. This example looks at what the extra dimensions hold.
"""

# %%
# Distances in the latent space against distances in the tissue
# -------------------------------------------------------------
# The loss asks for points on a line through the origin, whose slope is the scale c. Pairs below
# the line are drawn together, because the model is unsure where these cells are.

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import pdist

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue

tissue = make_tissue(n_cells=700, n_genes=200, random_state=9)
reference, query = slice(0, 500), slice(500, 700)

models = {}
for n_components in [2, 8]:
    model = make_spatial_pipeline(
        n_components=n_components, n_top_genes=150, n_estimators=3, max_epochs=60, random_state=0
    )
    models[n_components] = model.fit(tissue.X[reference], tissue.coords[reference])

fig, axes = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained", sharex=True, sharey=True)
in_tissue = pdist(tissue.coords[query])
for (n_components, model), ax in zip(models.items(), axes, strict=True):
    in_latents = pdist(model.transform(tissue.X[query])) / model[-1].scale_
    image = ax.hexbin(in_tissue, in_latents, gridsize=40, cmap="viridis", mincnt=1)
    ax.axline((0, 0), slope=1, color="black", linewidth=1)
    disparity = 1 - model.score(tissue.X[query], tissue.coords[query])
    ax.set(
        title=f"{n_components} latent dimensions, disparity {disparity:.3f}",
        xlabel="distance in the tissue (µm)",
        ylabel="latent distance / c (µm)",
    )
fig.colorbar(image, ax=axes, label="pairs of held-out cells")

# %%
# What the extra dimensions hold
# ------------------------------
# The latents are rotated onto their principal axes. The distances of a flat tissue need two of the
# eight axes. The loss on distances and the prior flatten the others.

fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
for (n_components, model), style in zip(models.items(), ["s-", "o--"], strict=True):
    latents = model.transform(tissue.X[query])
    variances = np.linalg.svd(latents - latents.mean(axis=0), compute_uv=False) ** 2
    share = variances / variances.sum()
    axes[0].plot(np.arange(n_components) + 1, share, style, label=n_components, fillstyle="none")
axes[0].set(xlabel="principal axis of the latents", ylabel="share of variance")
axes[0].legend(title="latent dimensions")

latents = models[8].transform(tissue.X[query])
latents -= latents.mean(axis=0)
flat = latents @ np.linalg.svd(latents, full_matrices=False)[2][:2].T
axes[1].scatter(*flat.T, c=tissue.layers[query], cmap="viridis", s=14)
axes[1].set(xlabel="axis 1", ylabel="axis 2", title="colored by layer")
axes[1].set_aspect("equal")
