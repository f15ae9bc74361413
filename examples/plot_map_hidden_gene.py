"""
A gene that the panel lacks
===========================

Imaging measures a few hundred genes in place, sequencing all of them in cells without positions.
``project_genes`` puts a gene that only the cells have on the tissue.
"""

# %%
# A panel, and cells with all genes
# ---------------------------------
# The section has 150 genes. The cells have 50 more.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.mapping import map_cells, project_genes

tissue = make_tissue(n_cells=1600, n_genes=200, random_state=1)
section, cells = slice(0, 800), slice(800, 1600)
panel, hidden = slice(0, 150), slice(150, 200)
X, coords = tissue.X[section, panel], tissue.coords[section]

model = make_spatial_pipeline(max_epochs=40, random_state=0).fit(X, coords)
query = tissue.X[cells, panel]

# %%
# Logarithms of normalized counts make maps in which deep cells do not stand out.

depth = np.asarray(tissue.X.sum(axis=1))
logs = np.log1p(tissue.X.toarray() / depth * np.median(depth))[:, hidden]

mapping = map_cells(model, query, reference=(X, coords))
told = project_genes(mapping, logs[cells])

# %%
# What the section would have shown
# ---------------------------------
# Here the counts of the hidden genes are known. Each location is one cell, with all its noise; the
# projection is smooth.

true = logs[section]
varies = np.argsort(-told.std(axis=0))[:3]
fig, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
for column, gene in zip(axes.T, varies, strict=True):
    for ax, values, what in zip(column, (told, true), ("told", "measured"), strict=True):
        ax.scatter(*coords.T, c=values[:, gene], s=9, cmap="viridis")
        ax.set(aspect="equal", xticks=[], yticks=[])
        ax.set_title(f"{tissue.genes[hidden][gene]}, {what}")

# %%
# By expression or by place?
# --------------------------
# In this tissue, nearly all that a gene depends on is the place, and both are about as good. In
# real sections, a cell's expression says more of its other genes than its place does, since
# neighbors may be of other types. That is why mapping by expression is the default.


def correlations(told):
    """Of each hidden gene that depends on the place, over locations."""
    spatial = np.flatnonzero(tissue.spatial_genes[hidden])
    return np.array([np.corrcoef(told[:, g], true[:, g])[0, 1] for g in spatial])


by_place = map_cells(model, query, reference=(X, coords), by="place")
for name, values in {
    "by expression": told,
    "by place": np.nan_to_num(project_genes(by_place, logs[cells])),
}.items():
    print(f"{name}: median correlation {np.median(correlations(values)):.2f}")
