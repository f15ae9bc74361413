"""
Learn from several sections, apply to another one
=================================================

Sections lie on their slides turned, shifted or mirrored. Only distances within a section enter the
loss, so sections need no registration. A section that the model has not seen is placed correctly
up to its pose.
"""

# %%
# Three sections, each in its own frame
# -------------------------------------
# They are samples of one tissue, with batch effects between them.

import matplotlib.pyplot as plt

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import procrustes_align

tissue = make_tissue(n_cells=1200, n_genes=200, n_sections=3, batch_effect=1.5, random_state=5)
labels = sorted(set(tissue.sections))

fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for label, ax in zip(labels, axes, strict=True):
    rows = tissue.sections == label
    ax.scatter(*tissue.coords[rows].T, c=tissue.layers[rows], cmap="viridis", s=8)
    ax.set_title(label)
    ax.set_aspect("equal")
    ax.set_axis_off()

# %%
# Hold the last section out
# -------------------------
# Its cells must be z-scored before they can be encoded, either by the statistics of the reference
# or by their own. Here only the batch effect separates the sections. The section's own means and
# standard deviations remove it. The default, "auto", moves a query only if its cells then resemble
# the reference more, beyond doubt, in the directions in which the reference varies most. Here the
# batch effect is drawn for each gene by itself. It lies across these directions and escapes the
# comparison. If you know that a query is another section of the same tissue, say so.

query = tissue.sections == labels[-1]
true = tissue.coords[query]
predicted = {}
for scaling in ["same_section", "new_section", "auto"]:
    model = make_spatial_pipeline(
        query=scaling, n_top_genes=120, n_estimators=3, max_epochs=60, random_state=0
    )
    model.fit(tissue.X[~query], tissue.coords[~query], sections=tissue.sections[~query])
    predicted[scaling] = model.predict(tissue.X[query])

fig, axes = plt.subplots(1, 4, figsize=(11, 3.4), layout="constrained")
style = {"c": tissue.layers[query], "cmap": "viridis", "s": 8}
axes[0].scatter(*true.T, **style)
axes[0].set_title("true")
for (scaling, coords), ax in zip(predicted.items(), axes[1:], strict=True):
    fit = procrustes_align(coords, true)
    ax.scatter(*fit(coords).T, **style)
    ax.set_title(f'query="{scaling}"\ndisparity {fit.disparity:.2f}')
for ax in axes:
    ax.set_aspect("equal")
    ax.set_axis_off()
