"""
Which genes place the cells?
============================

You can ask a model how far each gene moves the cells. The genes that it relies on should make
sense. If they do not, the model has learned the slide rather than the tissue.
"""

# %%

import matplotlib.pyplot as plt
import numpy as np

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.inspection import gene_importances
from sklearn_dpvae.preprocessing import LogNormalizer

tissue = make_tissue(n_cells=800, n_genes=200, informative=0.3, random_state=11)
model = make_spatial_pipeline(max_epochs=60, random_state=0).fit(tissue.X, tissue.coords)
found = gene_importances(model, tissue.X, genes=tissue.genes)

# %%
# The generator knows which genes are informative
# -----------------------------------------------
# Importances are lengths: how far a cell moves if one gene changes by one standard deviation.

order = np.argsort(-found.importances)
informative = dict(zip(tissue.genes, tissue.spatial_genes, strict=True))
kind = np.array([informative[gene] for gene in found.genes])

fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
rank = np.arange(1, len(order) + 1)
for value, label, color in [(True, "informative", "C0"), (False, "not informative", "0.6")]:
    at = kind[order] == value
    ax.scatter(rank[at], found.importances[order][at], s=14, color=color, label=label)
ax.set(xlabel="genes, by importance", ylabel="importance (µm per s.d.)", ylim=(0, None))
ax.legend()

# %%
# The top six genes on the tissue
# -------------------------------

expression = LogNormalizer().fit_transform(tissue.X.astype(float)).toarray()
fig, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
for gene, ax in zip(found.genes[order[:6]], axes.ravel(), strict=True):
    values = expression[:, tissue.genes == gene].ravel()
    ax.scatter(*tissue.coords.T, c=values, cmap="viridis", s=8)
    ax.set_title(gene)
    ax.set_aspect("equal")
    ax.set_axis_off()
