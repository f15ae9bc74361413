"""
Which cells share a spot
========================

A spot of a capture array holds several cells, and an image of nuclei says how many. With a
``capacity``, ``map_cells`` assigns each cell to one spot, such that none holds more than that and
the whole is as probable as can be.
"""

# %%
# Spots, and how many cells each holds
# ------------------------------------
# Cells of one half of the data are summed in the squares of a grid, which makes spots. The other
# half are single cells of the same tissue.

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import csr_matrix

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.mapping import map_cells, project_labels

tissue = make_tissue(n_cells=2400, n_genes=200, random_state=0)
in_spots, cells = slice(0, 1200), slice(1200, 2400)
squares = np.floor(tissue.coords[in_spots] / 55.0)
corners, spot, n_nuclei = np.unique(squares, axis=0, return_inverse=True, return_counts=True)
spots = (corners + 0.5) * 55.0
sums = csr_matrix((np.ones(1200), (spot.ravel(), np.arange(1200)))) @ tissue.X[in_spots]
print(f"{len(spots)} spots of {n_nuclei.min()} to {n_nuclei.max()} cells")

# %%
# Without and with a capacity
# ---------------------------
# Which spot a cell comes from is a question of the place. Without a capacity, cells crowd in a few
# spots, and others stay empty.

model = make_spatial_pipeline(max_epochs=40, random_state=0).fit(sums, spots)
free = map_cells(model, tissue.X[cells], reference=(sums, spots), by="place")
full = map_cells(model, tissue.X[cells], reference=(sums, spots), by="place", capacity=n_nuclei)

fig, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
crowds = {
    "nuclei in the image": n_nuclei,
    "most probable spot": np.bincount(free.best, minlength=len(spots)),
    "with a capacity": np.bincount(full.best, minlength=len(spots)),
}
for ax, (title, n) in zip(axes, crowds.items(), strict=True):
    points = ax.scatter(*spots.T, c=n, s=28, marker="s", cmap="magma_r", vmin=0, vmax=15)
    ax.set(title=f"{title}: {n.min()} to {n.max()}")
    ax.set(aspect="equal", xticks=[], yticks=[])
fig.colorbar(points, ax=axes, label="cells in a spot")

# %%
# Who shares a spot?
# ------------------
# ``best`` is the spot of each cell. How often do two types share one, compared with what their
# numbers alone would give? Beside it the same of the cells that the spots were made of. What is
# known of a place comes from expression, so that types are sorted more strictly than they are.


def sharing(counts):
    """Log2 of how often types share a spot, over what their numbers give."""
    together = counts.T @ counts / len(counts)
    expected = np.outer(counts.mean(axis=0), counts.mean(axis=0))
    return np.log2(np.maximum(together / expected, 2**-4))


found = project_labels(full, tissue.cell_types[cells], counts=True)
certain = (tissue.cell_types[in_spots][:, None] == found.classes).astype(float)
true = csr_matrix((np.ones(1200), (spot.ravel(), np.arange(1200)))) @ certain

fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for ax, title, counts in zip(axes, ("assigned", "true"), (found.values, true), strict=True):
    image = ax.imshow(sharing(counts), cmap="RdBu_r", vmin=-4, vmax=4)
    ax.set_xticks(range(len(found.classes)), found.classes, rotation=45)
    ax.set_yticks(range(len(found.classes)), found.classes)
    ax.set_title(f"types that share a spot, {title}")
fig.colorbar(image, ax=axes, label="log2 of observed over expected")

# %%
# Are the cells near their true places? A random assignment is as far off as the tissue is wide.

true_places = tissue.coords[cells]
shuffled = np.random.default_rng(0).permutation(full.best)
for name, where in {"assigned": full.best, "shuffled": shuffled}.items():
    apart = np.linalg.norm(spots[where] - true_places, axis=1)
    print(f"{name}: median distance to the true place {np.median(apart):.0f} µm")
