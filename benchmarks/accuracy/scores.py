"""Scores of predicted positions."""

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from sklearn_dpvae.metrics import (
    distance_correlation,
    median_position_error,
    neighborhood_hits,
    procrustes_disparity,
)

SCORES = (
    "disparity",
    "spearman",
    "hits10",
    "hits20",
    "median_error",
    "frame_error",
    "coverage",
    "fit_seconds",
    "predict_seconds",
    "pooled_disparity",
)


def score(true, predicted, sections, spacing):
    """Scores of one split.

    Cells that were not placed count against coverage, and are put into the middle of those
    that were for all other scores.
    """
    predicted = np.array(predicted, dtype=np.float64)
    placed = np.isfinite(predicted).all(axis=1)
    predicted[~placed] = predicted[placed].mean(axis=0) if placed.any() else 0.0
    hits = {k: _hits(true, predicted, k, sections) for k in (10, 20)}
    return {
        "disparity": procrustes_disparity(true, predicted, sections=sections),
        "spearman": distance_correlation(true, predicted, sections=sections),
        "hits10": hits[10],
        "hits20": hits[20],
        # Each section is aligned by a similarity of its own, so that units are free.
        "median_error": median_position_error(
            true / spacing[:, None], predicted, unit=1.0, sections=sections
        ),
        "coverage": float(placed.mean()),
    }


def frame_error(places, predicted, reference_coords):
    """Median distance to the true place over the diameter of the reference's tissue.

    In the frame of the reference, without any alignment: what is shifted or collapsed counts.
    None if there is no such frame.
    """
    if places is None:
        return None
    hull = reference_coords[ConvexHull(reference_coords).vertices]
    middle = reference_coords.mean(axis=0)
    errors = np.linalg.norm(np.where(np.isfinite(predicted), predicted, middle) - places, axis=1)
    return float(np.median(errors) / pdist(hull).max())


def _hits(true, predicted, k, sections):
    if np.unique(sections, return_counts=True)[1].min() <= k:
        return None
    return neighborhood_hits(true, predicted, k, sections=sections)


def mean_over_folds(records):
    """Mean of each score over folds; None where a fold has none."""
    names = records[0].keys()
    return {
        name: None
        if any(r[name] is None for r in records)
        else float(np.mean([r[name] for r in records]))
        for name in names
    }


def pooled_disparity(true, predicted, sections):
    """Disparity of all folds together, each of which predicts in the frame of its section.

    Where a block is placed, this also asks whether the block is put into its place.
    """
    return procrustes_disparity(
        np.vstack(true), np.nan_to_num(np.vstack(predicted)), sections=np.concatenate(sections)
    )
