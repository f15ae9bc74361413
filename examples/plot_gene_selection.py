"""
Which genes, and how many
=========================

Genes can be chosen because they vary (highly variable genes) or because they vary *smoothly over
the tissue* (spatial autocorrelation). Both choices are scikit-learn selectors. This example
compares them for several numbers of genes.
"""

# %%
# Only a quarter of the genes of this tissue say anything about place.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.feature_selection import HighlyVariableGenes, SpatiallyVariableGenes
from sklearn_dpvae.pipeline import SpatialPipeline
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler

tissue = make_tissue(n_cells=600, n_genes=600, informative=0.25, signal=0.7, random_state=2)
reference, query = slice(0, 450), slice(450, 600)

# %%
# Moran's I of every gene on the reference
# ----------------------------------------
# Genes without a spatial pattern have values around zero, as expected under independence.

expression = LogNormalizer().fit_transform(tissue.X[reference].astype(float))
selector = SpatiallyVariableGenes(n_top_genes=100).fit(expression, tissue.coords[reference])
moran = selector.morans_i_

fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
bins = np.linspace(moran.min(), moran.max(), 50)
ax.hist(moran[~tissue.spatial_genes], bins, label="not informative", color="0.7")
ax.hist(moran[tissue.spatial_genes], bins, label="informative", color="C0", alpha=0.8)
ax.set(xlabel="Moran's I", ylabel="genes")
ax.legend()

found = tissue.spatial_genes[selector.get_support()].mean()
print(f"{found:.0%} of the 100 chosen genes are informative")

# %%
# The error for each number of genes
# ----------------------------------


def held_out_error(selector):
    model = SpatialPipeline(
        [
            ("normalize", LogNormalizer()),
            ("genes", selector),
            ("scale", SectionScaler()),
            ("dpvae", DPVAESpatialRegressor(n_estimators=2, max_epochs=50, random_state=0)),
        ]
    )
    model.fit(tissue.X[reference], tissue.coords[reference])
    return 1 - model.score(tissue.X[query], tissue.coords[query])


numbers = [25, 75, 200, 600]
fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for name, kind, style in [
    ("by variance", HighlyVariableGenes, "s--"),
    ("by Moran's I", SpatiallyVariableGenes, "o-"),
]:
    ax.plot(numbers, [held_out_error(kind(n_top_genes=n)) for n in numbers], style, label=name)
ax.set(xlabel="genes kept", ylabel="Procrustes disparity, held out", xscale="log")
ax.set_xticks(numbers, [str(n) for n in numbers])
ax.minorticks_off()
ax.legend()
