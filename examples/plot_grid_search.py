"""
Tune the whole pipeline
=======================

Gene selection, the weights of the loss and the network are all parameters of one estimator, so
scikit-learn's searches can tune them together.
"""

# %%
# The scorer is 1 minus the Procrustes disparity, so larger is better, as searches expect. On real
# sections, pass ``memory=`` to the pipeline: it keeps the preprocessing of each fold on disk for
# all candidates that share it.

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
    make_spatial_pipeline(n_estimators=2, max_epochs=50, n_calibration_folds=None, random_state=0),
    grid,
    scoring=ProcrustesScorer(),
    cv=KFold(3, shuffle=True, random_state=0),
)
search.fit(tissue.X, tissue.coords)
print(search.best_params_, round(search.best_score_, 3))

# %%
# Each field of the figure shows the mean over the folds and the standard deviation. Smaller
# differences than that should not decide anything.

results = search.cv_results_
shape = [len(grid[key]) for key in sorted(grid)]
mean = results["mean_test_score"].reshape(shape)
std = results["std_test_score"].reshape(shape)

fig, ax = plt.subplots(figsize=(5.5, 4), layout="constrained")
image = ax.imshow(mean, cmap="viridis")
for (row, column), value in np.ndenumerate(mean):
    color = "white" if value < (mean.min() + mean.max()) / 2 else "black"
    text = f"{value:.3f}\n± {std[row, column]:.3f}"
    ax.text(column, row, text, ha="center", va="center", color=color)
ax.set_xticks(range(shape[1]), grid["genes__n_top_genes"])
ax.set_yticks(range(shape[0]), grid["dpvae__distance_weight"])
ax.set(xlabel="genes__n_top_genes", ylabel="dpvae__distance_weight")
fig.colorbar(image, label="1 − Procrustes disparity")
