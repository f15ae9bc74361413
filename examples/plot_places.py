"""
Where may a cell have been?
===========================

A position is one point. In a tissue whose two halves mirror each other, as in the olfactory bulb,
expression cannot tell left from right. The best point then lies between the two places where the
cell may be, which is where it is not. ``predict_places`` gives the whole answer: a probability for
every place.
"""

# %%
# A tissue that mirrors itself
# ----------------------------
# Counts depend on the distance from the midline and on the height, and on nothing else.

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.metrics import place_coverage, place_log_score
from sklearn_dpvae.plotting import PlacesDisplay

rng = np.random.default_rng(0)
coords = rng.uniform([-1, -0.7], [1, 0.7], size=(3000, 2))
coords = 500 * coords[(coords**2).sum(axis=1) < 0.9][:1200]
folded = np.column_stack([np.abs(coords[:, 0]), coords[:, 1]]) / 500
programs = np.sin(3 * folded @ rng.normal(size=(2, 150)) + rng.uniform(0, 6, size=150))
X = rng.poisson(np.exp(0.8 * programs))
reference, query = slice(0, 800), slice(800, 1200)

model = make_spatial_pipeline(max_epochs=40, random_state=0)
model.fit(X[reference], coords[reference])

# %%
# Two patches
# -----------
# Each panel is the tissue, shaded by the probability of one cell; the line is the smallest region
# that holds it with a probability of 80 %. The cross is the position that ``predict`` returns, the
# star the true one.

true = coords[query]
some = [int(np.argmin(np.hypot(*(true - at).T))) for at in ((-350, 50), (250, -200), (0, 150))]
PlacesDisplay.from_estimator(model, X[query], true, cells=some)

# %%
# Are the probabilities right?
# ----------------------------
# The log score says how much more probable the true places are than a uniform guess, in nats. The
# regions hold the share of the cells that they should, and are far smaller than discs around the
# positions that hold the same.

places = model.predict_places(X[query])
print(f"log score: {place_log_score(true, places):.2f} nats above uniform")
for level in (0.5, 0.8, 0.95):
    disc = np.pi * np.median(model.predict_radius(X[query], level=level)) ** 2
    print(
        f"{level:.0%} regions hold {place_coverage(true, places, level):.0%} of the cells; "
        f"area {np.median(places.area(level)) / 1e4:.1f}, of the disc {disc / 1e4:.1f}"
    )

# %%
# The further a cell lies from the midline, the more often its region has two patches.

distance = np.abs(true[:, 0])
patches = places.n_patches(0.5)
edges = np.arange(0, 451, 75)
shares = [
    np.mean(patches[(distance >= low) & (distance < high)] > 1) for low, high in pairwise(edges)
]
fig, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
ax.bar(edges[:-1], shares, width=70, align="edge")
ax.set(xlabel="distance from the midline (µm)", ylabel="share of cells with two patches")

# %%
# Other places to choose from
# ---------------------------
# Probabilities can be had for any places: here, bins of 100 µm. They come as a sparse matrix of
# cells by places.

centers = np.stack(np.meshgrid(np.arange(-450, 451, 100), np.arange(-350, 351, 100)), axis=-1)
bins = model.predict_places(X[query], locations=centers.reshape(-1, 2))
print(bins.probabilities.shape, f"{bins.probabilities.nnz / bins.probabilities.shape[0]:.0f} each")
