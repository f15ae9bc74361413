"""
Tune the whole pipeline
=======================

Gene selection, weights of the loss and the network are parameters of one estimator, so
scikit-learn's searches tune them together.
"""

# %%
# The scorer is 1 minus the Procrustes disparity: larger is better, as searches want it.
# ``memory`` would keep the preprocessing of each fold for all candidates that share it, which is
# worth the disk on real sections.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, KFold

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import ProcrustesScorer

tissue = make_tissue(n_cells=400, n_genes=200, random_state=3)
grid = {
    "genes__n_top_genes": [30, 120],
    "dpvae__distance_weight": [0.1, 1.0, 10.0],
}
search = GridSearchCV(
    make_spatial_pipeline(n_estimators=2, max_epochs=50, random_state=0),
    grid,
    scoring=ProcrustesScorer(),
    cv=KFold(3, shuffle=True, random_state=0),
)
search.fit(tissue.X, tissue.coords)
print(search.best_params_, round(search.best_score_, 3))

# %%
# The mean over the folds, and its standard deviation. Differences smaller than that are
# not worth a decision.

results = search.cv_results_
shape = [len(grid[key]) for key in sorted(grid)]
mean = results["mean_test_score"].reshape(shape)
spread = results["std_test_score"].reshape(shape)

fig, ax = plt.subplots(figsize=(5.5, 4), layout="constrained")
image = ax.imshow(mean, cmap="viridis")
for (row, column), value in np.ndenumerate(mean):
    color = "white" if value < (mean.min() + mean.max()) / 2 else "black"
    text = f"{value:.3f}\n± {spread[row, column]:.3f}"
    ax.text(column, row, text, ha="center", va="center", color=color)
ax.set_xticks(range(shape[1]), grid["genes__n_top_genes"])
ax.set_yticks(range(shape[0]), grid["dpvae__distance_weight"])
ax.set(xlabel="genes__n_top_genes", ylabel="dpvae__distance_weight")
fig.colorbar(image, label="1 − Procrustes disparity")
