"""
AnnData in, AnnData out
=======================

Fit a model to one AnnData object, place the cells of another, and continue with scanpy. This needs
the extra ``anndata``, and scanpy for the last step.
"""

# %%
# Two sections as AnnData
# -----------------------
# Raw counts are in ``X``, positions in ``obsm["spatial"]``. The query has its genes in another
# order, and no positions that the model could use.

import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc
from anndata import AnnData

import sklearn_dpvae.anndata as dpa
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import procrustes_disparity

tissue = make_tissue(n_cells=1000, n_genes=200, n_sections=2, random_state=10)
cells = AnnData(
    tissue.X.astype(np.float32),
    obs={"cell_type": tissue.cell_types, "section": tissue.sections},
    var={"informative": tissue.spatial_genes},
    obsm={"spatial": tissue.coords},
)
cells.obs_names, cells.var_names = tissue.obs_names, tissue.genes

reference = cells[tissue.sections == "section_1"].copy()
query = cells[tissue.sections == "section_2", tissue.genes[::-1]].copy()
true = query.obsm.pop("spatial")

# %%
# Fit, predict
# ------------
# Genes are matched by name. The model is fitted for the query: on its genes, and for its depth.

model = dpa.fit(reference, query=query, max_epochs=60, random_state=0)
dpa.predict(model, query)
print(query)
print(f"disparity {procrustes_disparity(true, query.obsm['spatial_dpvae']):.3f}")

# %%
# Continue with scanpy
# --------------------

fig, axes = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained")
shown = {"color": "cell_type", "palette": "viridis", "show": False, "s": 40}
sc.pl.embedding(
    query,
    "spatial_dpvae",
    ax=axes[0],
    title="placed, in the reference's frame",
    legend_loc="none",
    **shown,
)
query.obsm["spatial_true"] = true
sc.pl.embedding(query, "spatial_true", ax=axes[1], title="true, in its own frame", **shown)
for ax in axes:
    ax.set_aspect("equal")
