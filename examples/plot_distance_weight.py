"""
What the weight of the distances does
=====================================

The loss weighs two aims: to describe expression, and to preserve the distances in the tissue. This
example varies the weight of the second, ``distance_weight``, which is λ in the paper.
"""

# %%
# Without distances (λ = 0) the model is a plain variational autoencoder. Its latents know only as
# much of the tissue as expression itself reveals. Vary λ over decades.
#
# The alignment term, which this package adds to the paper's loss, also pulls latents toward the
# tissue. The models are fitted with and without it.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue

tissue = make_tissue(n_cells=600, n_genes=200, random_state=1)
reference, query = slice(0, 450), slice(450, 600)
prepare = make_spatial_pipeline(n_top_genes=100)[:-1]
X = prepare.fit_transform(tissue.X[reference], tissue.coords[reference])
X_query = prepare.transform(tissue.X[query])

weights = [0.0, 0.01, 0.1, 1.0, 10.0]
models = {
    (weight, alignment): DPVAESpatialRegressor(
        distance_weight=weight,
        alignment_weight=alignment,
        n_estimators=1,
        hidden_layer_sizes=(64, 64),
        dropout=0.1,
        input_dropout=0.1,
        max_epochs=60,
        random_state=0,
    ).fit(X, tissue.coords[reference])
    for weight in weights
    for alignment in [0.0, 1.0]
}

# %%
# Errors and losses
# -----------------
# The left panel shows the error on held-out cells. The other two show two terms of the loss during
# training, for the models without the alignment term. ``history_`` records all terms.

fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
labels = [f"{weight:g}" for weight in weights]
for alignment, style in [(0.0, "o-"), (1.0, "s--")]:
    errors = [1 - models[w, alignment].score(X_query, tissue.coords[query]) for w in weights]
    axes[0].plot(labels, errors, style, label=f"alignment_weight={alignment:g}")
axes[0].set(xlabel="distance_weight (λ)", ylabel="Procrustes disparity", ylim=(0, None))
axes[0].legend()

shades = plt.cm.viridis(np.linspace(0, 0.9, len(weights)))
for term, ax in [("distance", axes[1]), ("reconstruction", axes[2])]:
    for weight, shade in zip(weights, shades, strict=True):
        curve = [epoch[term] for epoch in models[weight, 0.0].history_]
        ax.plot(np.arange(1, len(curve) + 1), curve, color=shade, label=f"{weight:g}")
    ax.set(xlabel="epoch", title=f"{term} term")
axes[2].legend(title="λ")

# %%
# With distances alone, the error falls over decades of λ, at a small cost in reconstruction. The
# alignment term does most of that work on its own, even at λ = 0. On this tissue, both terms
# together do better than distances alone.
