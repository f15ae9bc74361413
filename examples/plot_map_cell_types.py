"""
Cell types back on the tissue
=============================

Single cells have types, but no positions. A section has positions, but each of its locations was
not sorted into types. ``map_cells`` finds which cells are like which locations, and
``project_labels`` says which types of cells there are in each of them.
"""

# %%
# A section, and cells of the same tissue
# ---------------------------------------
# The cells come from another section, whose positions nobody knows here.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.mapping import map_cells, project_labels, transfer_labels

tissue = make_tissue(n_cells=1600, n_genes=200, n_sections=2, random_state=0)
section, cells = tissue.sections == "section_1", tissue.sections == "section_2"
X, coords = tissue.X[section], tissue.coords[section]

model = make_spatial_pipeline(max_epochs=40, random_state=0).fit(X, coords)
mapping = map_cells(model, tissue.X[cells], reference=(X, coords))
print(mapping)

# %%
# Types in each location
# ----------------------
# Shares sum to 1 in each location. The first five types live in bands, the sixth everywhere.

shares = project_labels(mapping, tissue.cell_types[cells])
fig, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
for ax, label, share in zip(axes.flat, shares.classes, shares.values.T, strict=True):
    points = ax.scatter(*coords.T, c=share, s=9, vmin=0, vmax=1, cmap="magma_r")
    ax.set(title=label, aspect="equal", xticks=[], yticks=[])
fig.colorbar(points, ax=axes, label="share of the cells", shrink=0.6)

# %%
# The true types of the section's own cells, which the mapping has never seen:

agreement = np.mean(shares.best == tissue.cell_types[section])
print(f"the largest share is the true type in {agreement:.0%} of the locations")
print(f"in cells that were left out it would be in {shares.accuracy:.0%}")

# %%
# How sure is it?
# ---------------
# A share comes from a number of cells, and so has a standard deviation. It is large where cells of
# two types are about equally like a location.

fig, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
points = ax.scatter(*coords.T, c=shares.std.max(axis=1), s=9, cmap="viridis")
ax.set(aspect="equal", xticks=[], yticks=[], title="standard deviation of shares")
fig.colorbar(points, ax=ax)

# %%
# The other way round
# -------------------
# If the section has layers, drawn by an anatomist, cells get a probability of each.

layers = transfer_labels(mapping, tissue.layers[section])
right = layers.best == tissue.layers[cells]
print(f"{right.mean():.0%} of the cells get the right layer; left out: {layers.accuracy:.0%}")
sure = layers.values.max(axis=1) > 0.9
print(f"of those whose layer is surer than 90 %: {right[sure].mean():.0%}")
