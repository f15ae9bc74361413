"""The scores that commands print."""

from functools import partial
from typing import Any

import numpy as np

from ..metrics import distance_correlation, neighborhood_hits, procrustes_disparity

K = 10

METRICS = (procrustes_disparity, distance_correlation, partial(neighborhood_hits, k=K))
KEYS = ("disparity", "distance_correlation", f"neighborhood_hits_{K}")
COLUMNS = ("cells", "disparity", "dist. corr.", f"hits@{K}")
LEGEND = (
    "disparity: Procrustes, 0 best, 1 worst; dist. corr.: Spearman's, of pairwise distances; "
    f"hits@{K}: share of the {K} nearest neighbors kept"
)


def scores(
    y_true: np.ndarray, y_pred: np.ndarray, sections: np.ndarray | None = None
) -> tuple[Any, ...]:
    """Number of cells, disparity, distance correlation and neighborhood hits of a map.

    Instead of a score for which there are too few cells, there is text that says so.
    """
    return (
        len(y_true),
        *(_score(metric, y_true, y_pred, sections) for metric in METRICS),
    )


def _score(metric: Any, y_true: np.ndarray, y_pred: np.ndarray, sections: Any) -> Any:
    """A metric, or why there is none: a sentence of the metric itself."""
    try:
        return float(metric(y_true, y_pred, sections=sections))
    except ValueError as error:
        return str(error)


def as_json(rows: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """The table as a dict; a score that is missing is null, and there is a note that says why."""
    table = {}
    for name, (n_cells, *values) in rows.items():
        found = {k: None if isinstance(v, str) else v for k, v in zip(KEYS, values, strict=True)}
        notes = sorted({value for value in values if isinstance(value, str)})
        table[name] = {"n_cells": n_cells, **found, **({"notes": notes} if notes else {})}
    return table


def print_scores(rows: dict[str, tuple[Any, ...]]) -> None:
    """Print a table with a line for each map, and why scores are missing."""
    width = max(map(len, rows))
    print(" " * width + "".join(f"{column:>13}" for column in COLUMNS))
    for name, (n_cells, *values) in rows.items():
        numbers = "".join(
            f"{'-':>13}" if isinstance(value, str) else f"{value:>13.3f}" for value in values
        )
        print(f"{name:<{width}}{n_cells:>13,}{numbers}")
    print(LEGEND)
    for name, (_, *values) in rows.items():
        for why in dict.fromkeys(value for value in values if isinstance(value, str)):
            print(f"- for {name}: {why}")
