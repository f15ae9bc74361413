"""Small scaling problems, and their stress written out, for the tests of SMACOF."""

import numpy as np
from scipy.spatial.distance import pdist, squareform


def plain_stress(points, dissimilarities, weights=None):
    """Sum over pairs, written out."""
    weights = np.ones_like(dissimilarities) if weights is None else weights
    differences = squareform(pdist(points)) - dissimilarities
    return float(np.triu(weights * differences**2, 1).sum())


def random_problem(seed, n_samples=20, n_dims=2, n_anchors=5, n_latents=4):
    """Random latents, start, anchors (indices, coords) and symmetric weights."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n_samples, n_latents))
    start = rng.normal(size=(n_samples, n_dims))
    indices = rng.permutation(n_samples)[:n_anchors]
    coords = rng.normal(size=(n_anchors, n_dims))
    start[indices] = coords
    weights = np.triu(rng.uniform(size=(n_samples, n_samples)), 1)
    return latents, start, (indices, coords), weights + weights.T
