"""Scores of predicted positions."""

import numpy as np

from sklearn_dpvae.metrics import (
    distance_correlation,
    median_position_error,
    neighborhood_hits,
    procrustes_disparity,
)

# Name: (heading, whether higher is better).
SCORES = {
    "disparity": ("disparity", False),
    "spearman": ("distance Spearman", True),
    "hits10": ("hits@10", True),
    "hits20": ("hits@20", True),
    "median_error": ("median error (spots)", False),
    "coverage": ("coverage", True),
    "fit_seconds": ("fit (CPU s)", False),
    "predict_seconds": ("predict (CPU s)", False),
}


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
