"""
How sure is a prediction?
=========================

``predict(X, return_std=True)`` also returns a standard deviation for every cell, and
``predict_radius`` returns a radius meant to hold the true position with a given probability. This
example checks both on cells whose positions are known.
"""

# %%

import matplotlib.pyplot as plt
import numpy as np

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue

tissue = make_tissue(n_cells=1200, n_genes=200, library_size=600, random_state=8)
reference, spare, query = slice(0, 500), slice(500, 700), slice(700, 1200)
model = make_spatial_pipeline(max_epochs=60, random_state=0)
model.fit(tissue.X[reference], tissue.coords[reference])
predicted, std = model.predict(tissue.X[query], return_std=True)
error = np.linalg.norm(predicted - tissue.coords[query], axis=1)

# %%
# Does the standard deviation rank the cells?
# -------------------------------------------
# Cells are sorted by their standard deviation into five groups of equal size.

groups = np.array_split(np.argsort(std), 5)
fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
ax.boxplot([error[group] for group in groups], showfliers=False)
ax.set(xlabel="fifth of the cells, by standard deviation", ylabel="actual error (µm)")

# %%
# Are the radii right?
# --------------------
# A radius of level 0.9 should hold nine positions out of ten. ``fit`` sees to that: it leaves out
# parts of the reference in turn, chooses genes and components and trains a small network without
# them, and looks how far off the cells left out are placed. ``calibrate`` does the same with
# located cells of your own, which helps where the query differs from the reference.

levels = np.linspace(0.05, 0.95, 19)


def covered():
    radii = [model.predict_radius(tissue.X[query], level=level) for level in levels]
    return [np.mean(error <= radius) for radius in radii]


fig, ax = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
ax.plot([0, 1], [0, 1], color="0.6", linestyle=":")
ax.plot(levels, covered(), "s--", label="right after fit")
model.calibrate(tissue.X[spare], tissue.coords[spare])
ax.plot(levels, covered(), "o-", label="calibrated on 200 cells")
ax.set(xlabel="level asked for", ylabel="share of cells covered", aspect="equal")
ax.legend()

# %%
# On the map
# ----------
# The circles should hold the true positions of four cells out of five.

radius = model.predict_radius(tissue.X[query], level=0.8)
some = np.random.default_rng(0).choice(len(std), 40, replace=False)
fig, ax = plt.subplots(figsize=(5.5, 5), layout="constrained")
ax.scatter(*tissue.coords[query].T, s=6, color="0.8", label="true")
ax.scatter(*predicted[some].T, s=14, color="C0", label="predicted")
for i in some:
    ax.add_patch(plt.Circle(predicted[i], radius[i], fill=False, color="C0", alpha=0.3))
    ax.plot(*np.stack([predicted[i], tissue.coords[query][i]]).T, color="C1", linewidth=0.8)
ax.set_aspect("equal")
ax.set_axis_off()
ax.legend()
