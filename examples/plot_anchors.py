"""
Fill in positions around known ones
===================================

When the positions of some cells are known, the others are arranged around them. These known cells,
the anchors, fix the pose of the map and stay exactly where they are.
"""

# %%
# A query with a few known cells
# ------------------------------

import matplotlib.pyplot as plt
import numpy as np

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue

tissue = make_tissue(n_cells=800, n_genes=200, n_sections=2, random_state=7)
reference = tissue.sections == "section_1"
query = ~reference
true = tissue.coords[query]

model = make_spatial_pipeline(n_top_genes=120, n_estimators=3, max_epochs=60, random_state=0)
model.fit(tissue.X[reference], tissue.coords[reference])

# %%
# Each of the two sections has its own coordinate frame. A prediction without anchors is therefore
# a faithful map in the wrong place: in the frame of the reference.

rng = np.random.default_rng(0)
order = rng.permutation(len(true))


def predict_with(n_anchors):
    if n_anchors == 0:
        return model.predict(tissue.X[query])
    known = order[:n_anchors]
    return model.predict(tissue.X[query], anchors=(known, true[known]))


fig, axes = plt.subplots(1, 4, figsize=(13, 3.8), layout="constrained")
style = {"c": tissue.layers[query], "cmap": "viridis", "s": 8}
axes[0].scatter(*true.T, **style)
axes[0].set_title("true")
for n_anchors, ax in zip([0, 4, 100], axes[1:], strict=True):
    coords = predict_with(n_anchors)
    known, rest = order[:n_anchors], order[100:]
    error = np.median(np.linalg.norm(coords[rest] - true[rest], axis=1))
    ax.scatter(*coords.T, **style)
    ax.scatter(*coords[known].T, marker="^", s=45, facecolor="none", edgecolor="crimson")
    ax.set_title(f"{n_anchors} anchors\nmedian error {error:.0f} µm")
for ax in axes:
    ax.set_aspect("equal")
    ax.set_axis_off()

# %%
# The errors are those of cells that are not anchors in any panel. Anchors come back exactly as
# given, as the constraint of eq. (7) demands.

known = order[:100]
assert np.array_equal(predict_with(100)[known], true[known])
