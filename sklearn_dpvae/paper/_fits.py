"""What is fitted: functions from data and parameters to arrays, which a cache can keep.

Imports the pipelines and what looks into them.
"""

import copy
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inspection import marker_genes
from ..metrics import procrustes_disparity
from ..pipeline import SpatialPipeline, make_paper_pipeline, make_spatial_pipeline

# The two columns of the report.
RECIPES = {"paper": "the paper's recipe", "package": "our defaults"}

# A plain VAE, in which positions play no part.
NO_POSITIONS = {
    "paper": {"distance_weight": 0.0},
    "package": {"distance_weight": 0.0, "alignment_weight": 0.0},
}


def make(recipe: str, params: dict[str, Any], *, new_section: bool = False) -> SpatialPipeline:
    """The pipeline of a recipe."""
    if recipe == "paper":
        return make_paper_pipeline(**params)
    query = "new_section" if new_section else "same_section"
    return make_spatial_pipeline(n_calibration_folds=None, query=query, **params)


def default_weight(recipe: str) -> float:
    """lambda of a recipe unless one is given."""
    weight: float = make(recipe, {})["dpvae"].distance_weight
    return weight


def fit_and_place(
    recipe: str,
    params: dict[str, Any],
    X: Any,
    coords: NDArray[np.float64],
    held_out_X: Any,
) -> dict[str, Any]:
    """Fit on some cells of a section; place them and the others.

    Returns
    -------
    dict
        "fitted" and "held_out", positions; "fitted_latents" and "held_out_latents"; "history", its
        columns; "seconds", of the processor.
    """
    start = time.process_time()
    model = make(recipe, params).fit(X, coords)
    rows = model["dpvae"].history_
    columns = [name for name in rows[0] if name not in ("epoch", "dur")]
    return {
        "fitted": model.predict(X),
        "held_out": model.predict(held_out_X),
        "fitted_latents": model.transform(X),
        "held_out_latents": model.transform(held_out_X),
        "history": {name: np.array([row[name] for row in rows]) for name in columns},
        "seconds": time.process_time() - start,
    }


def fit_and_transfer(
    recipe: str,
    params: dict[str, Any],
    X: Any,
    coords: NDArray[np.float64],
    queries: dict[str, tuple[Any, NDArray[np.float64]]],
    shares: dict[str, tuple[float, ...]],
) -> dict[str, Any]:
    """Fit on one section, and place others of the same genes.

    Parameters
    ----------
    recipe, params, X, coords
        The model and its reference.
    queries : dict of (X, coords)
        The other sections by name.
    shares : dict of tuples of float
        By name of a query, the shares of its cells whose positions are told to `partial_fit`.

    Returns
    -------
    dict
        "placed", positions of the cells of each query; "tuned", for each query and share the
        disparity of the cells that were not told, and "untuned", that of the same cells before;
        "seconds", of the processor.
    """
    start = time.process_time()
    model = make(recipe, params, new_section=True).fit(X, coords)
    placed = {name: model.predict(query) for name, (query, _) in queries.items()}
    tuned: dict[str, dict[float, float]] = {}
    untuned: dict[str, dict[float, float]] = {}
    for name, of_query in shares.items():
        query, truth = queries[name]
        order = np.random.RandomState(0).permutation(len(truth))
        tuned[name], untuned[name] = {}, {}
        for share in of_query:
            # Three cells are the least that a section can be learned from.
            told, others = np.split(order, [max(3, round(share * len(order)))])
            y = np.full_like(truth, np.nan)
            y[told] = truth[told]
            again = copy.deepcopy(model).partial_fit(query, y)
            after = again.predict(query)[others]
            tuned[name][share] = procrustes_disparity(truth[others], after)
            untuned[name][share] = procrustes_disparity(truth[others], placed[name][others])
    return {
        "placed": placed,
        "tuned": tuned,
        "untuned": untuned,
        "seconds": time.process_time() - start,
    }


def fit_and_mark(
    recipe: str,
    params: dict[str, Any],
    X: Any,
    coords: NDArray[np.float64],
    genes: NDArray[np.str_],
    n_markers: int,
) -> dict[str, Any]:
    """Fit on a section; the genes that matter most for positions, and where the cells are put."""
    start = time.process_time()
    model = make(recipe, params).fit(X, coords)
    return {
        "markers": marker_genes(model, X, n_markers, genes=genes).tolist(),
        "fitted": model.predict(X),
        "seconds": time.process_time() - start,
    }
