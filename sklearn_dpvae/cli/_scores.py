"""The scores that commands print."""

import math
from functools import partial
from typing import Any

import numpy as np

from ..metrics import distance_correlation, neighborhood_hits, procrustes_disparity

K = 10

METRICS = (procrustes_disparity, distance_correlation, partial(neighborhood_hits, k=K))
COLUMNS = ("cells", "disparity", "dist. corr.", f"hits@{K}")
LEGEND = (
    "disparity: Procrustes, 0 best, 1 worst; dist. corr.: Spearman's, of pairwise distances; "
    f"hits@{K}: share of the {K} nearest neighbors kept"
)


def scores(
    y_true: np.ndarray, y_pred: np.ndarray, sections: np.ndarray | None = None
) -> tuple[float, ...]:
    """Number of cells, disparity, distance correlation and neighborhood hits of a map."""
    return (
        len(y_true),
        *(_score(metric, y_true, y_pred, sections) for metric in METRICS),
    )


def _score(metric: Any, y_true: np.ndarray, y_pred: np.ndarray, sections: Any) -> float:
    """A metric, or NaN where the cells are too few for it."""
    try:
        return float(metric(y_true, y_pred, sections=sections))
    except ValueError:
        return math.nan


def print_scores(rows: dict[str, tuple[float, ...]]) -> None:
    """Print a table with a line for each map."""
    width = max(map(len, rows))
    print(" " * width + "".join(f"{column:>13}" for column in COLUMNS))
    for name, (n_cells, *values) in rows.items():
        numbers = "".join(
            f"{'-':>13}" if math.isnan(value) else f"{value:>13.3f}" for value in values
        )
        print(f"{name:<{width}}{n_cells:>13,}{numbers}")
    print(LEGEND)
