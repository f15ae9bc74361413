"""What latents of more dimensions hold beside the position."""

import numpy as np
from scipy.spatial.distance import pdist

from sklearn_dpvae.metrics import procrustes_disparity

from .real import fitted


def dimensions(folder, problem, d):
    """What latents hold beyond the plane, on the training's cells and on the query's.

    residual: mean absolute difference of latent distance over c and tissue distance, over the
    mean tissue distance, with the c that makes it smallest: what the distance term trains.
    off plane: share of the variance of latents that no linear function of the position gives.
    """
    for kl_weight in (1.0, 0.0):
        placed = fitted(folder, problem, n_components=d, kl_weight=kl_weight)
        model = placed.model
        row = {"kl_weight": kl_weight}
        for part, z, s in [
            ("training", model.transform(placed.reference_features), placed.reference_coords),
            ("query", model.transform(placed.features), placed.truth),
        ]:
            row[f"residual, {part}"] = float(distance_residual(z, s))
            row[f"off plane, {part}"] = float(off_plane(z, s))
        placed_map = model.predict(placed.features)
        yield row | {"disparity": float(procrustes_disparity(placed.truth, placed_map))}


def distance_residual(latents, coords, n_samples=1000):
    some = np.random.default_rng(0).permutation(len(coords))[:n_samples]
    found, true = pdist(latents[some]), pdist(coords[some])
    scales = np.quantile(found, 0.5) / np.quantile(true, 0.5) * np.geomspace(0.5, 2, 81)
    return min(np.abs(found / c - true).mean() for c in scales) / true.mean()


def off_plane(latents, coords):
    centered = latents - latents.mean(axis=0)
    axes = np.linalg.svd(coords - coords.mean(axis=0), full_matrices=False)[0]
    return 1 - np.sum((axes.T @ centered) ** 2) / np.sum(centered**2)
