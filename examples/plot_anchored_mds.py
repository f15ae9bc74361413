"""
Positions from distances, with some positions known
===================================================

:class:`~sklearn_dpvae.reconstruction.AnchoredMDS` knows nothing of genes or networks. It finds
points whose distances match the given ones, and keeps known points where they are. This example
shows equations (6) and (7) on their own.
"""

# %%
# Noisy distances
# ---------------
# A ring of points with a gap, and distances with a random error of a tenth of their length.

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import pdist, squareform

from sklearn_dpvae.reconstruction import AnchoredMDS

rng = np.random.default_rng(0)
angle = np.sort(rng.uniform(0.3, 2 * np.pi - 0.3, 120))
points = np.column_stack([np.cos(angle), np.sin(angle)]) * rng.uniform(0.8, 1, (120, 1))
distances = squareform(pdist(points) * rng.normal(1, 0.1, 120 * 119 // 2))

# %%
# Without anchors the answer is right up to a rotation, a reflection and a shift. Three anchors
# that are not on a line determine the pose.

known = np.array([5, 60, 100])
free = AnchoredMDS(dissimilarity="precomputed", random_state=0).fit_transform(distances)
held = AnchoredMDS(dissimilarity="precomputed", random_state=0, scale=1.0).fit_transform(
    distances, anchors=(known, points[known])
)

fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.8), layout="constrained", sharex=True, sharey=True)
for ax, coords, title in zip(
    axes, [points, free, held], ["true", "no anchors", "three anchors"], strict=True
):
    ax.scatter(*coords.T, c=angle, cmap="viridis", s=16)
    ax.set_title(title)
    ax.set_aspect("equal")
axes[2].scatter(*points[known].T, marker="^", s=90, facecolor="none", edgecolor="crimson")
print(f"largest error with anchors: {np.linalg.norm(held - points, axis=1).max():.3f}")

# %%
# When the scale is unknown
# -------------------------
# Latent distances are not in tissue units. With ``scale=None``, the factor between the two is
# estimated from the anchors.

model = AnchoredMDS(dissimilarity="precomputed", scale=None, random_state=0)
model.fit(5 * distances, anchors=(known, points[known]))
print(f"distances times five: scale {model.scale_:.2f}, stress {model.stress_:.2f}")
