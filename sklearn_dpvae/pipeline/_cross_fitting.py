"""Errors of reference cells as if they were new to every step of a pipeline.

Genes, components and networks are chosen with the positions of all cells of the reference, so that
a cell that a network was not trained on still is no new cell for the chain. Here the chain is
fitted anew without a part of the cells, which it then places; each part in turn. These errors
calibrate the radii. Imports the regressor and this folder's steps.
"""

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_method_params
from tqdm.auto import tqdm

from .._fitted.evidence import (
    MIN_CELLS,
    SectionEvidence,
    learn_places,
    nearest_places,
    section_evidence,
)
from .._fitted.place_model import CELLS_FOR_WEIGHTS, PlaceTable
from .._fitted.uncertainty import N_ALIKE, scatter_of_alike
from .._regressor import DPVAESpatialRegressor
from .._utils.validation import check_sections
from ..decomposition import SpatialPCA
from ._held_out import HeldOut
from ._steps import (
    keywords_of,
    of_a_query,
    pointwise_copy,
    silence,
    transform_with,
    transformers,
)
from ._thinning import at_depths

# A single network and a third of the epochs err some 10 % more than the ensemble, at a fraction of
# its cost. Radii are that much on the safe side.
_SHARE_OF_EPOCHS = 3
_MIN_EPOCHS = 5

# Cells that a fold is fitted on. More would take memory for further copies of a large reference.
_MAX_CELLS = 50_000
# Cells that the network for places is trained on: each about five times.
_CELLS_FOR_PLACES = 10_000


def cross_fit(
    pipeline: Any,
    X: Any,
    y: Any,
    params: dict[str, Any],
    n_folds: int,
    depths: NDArray[np.float64] | None = None,
) -> None:
    """Calibrate a fitted pipeline on its own reference, by parts that are left out in turn.

    Parameters
    ----------
    pipeline : SpatialPipeline
        Its last step is a fitted `DPVAESpatialRegressor`, whose error model is replaced.
    X, y
        What the pipeline was fitted on.
    params : dict
        What `fit` was given beside them, by the names that it takes.
    n_folds : int
    depths : ndarray of shape (n_query,), optional
        Library sizes of queries: cells are placed as if they were as shallow.
    """
    final: DPVAESpatialRegressor = pipeline._final_estimator
    known = final.fitted_.error_model
    n_cells = np.shape(X)[0]
    rng = np.random.RandomState(final.fitted_.seed)
    labels = of_a_query(pipeline, params)
    sections = keywords_of(pipeline, "predict", labels)[1].get("sections")
    codes, _ = check_sections(sections, n_cells)
    folds = deal(codes, n_folds, rng)
    if (folds < 0).all():
        return
    as_queries = X
    if depths is not None:
        as_queries = at_depths(X, depths, np.random.default_rng(final.fitted_.seed))
    coords = np.asarray(y, dtype=np.float64).reshape(n_cells, -1)
    errors = np.full(n_cells, np.nan)
    scatter = None if known.inputs is None else np.full(n_cells, np.nan)
    tables: list[PlaceTable] = []
    for fold in tqdm(range(n_folds), "calibration", unit="fold", disable=not final.verbose):
        train = np.flatnonzero(folds != fold)
        if len(train) > _MAX_CELLS:
            n_parts = -(-len(train) // _MAX_CELLS)
            train = train[deal(codes[train], n_parts, rng) <= 0]
        left_out = folds[known.rows] == fold
        test, others = known.rows[left_out], known.rows[~left_out]
        chain = _light_copy(pipeline, seed=rng.randint(np.iinfo(np.int32).max))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The fit of the whole has said it.
            chain.fit(
                _safe_indexing(X, train),
                _safe_indexing(y, train),
                query_counts=depths,
                **_rows(X, params, train),
            )
        for step in transformers(chain):
            # Cells that are left out belong to the sections of the reference.
            if not getattr(step, "pointwise", True):
                step.set_params(query="same_section")

        inputs, keywords = _seen_by_the_last(chain, as_queries, labels, test)
        placed = chain._final_estimator.predict(inputs, **keywords).reshape(len(test), -1)
        errors[test] = np.linalg.norm(placed - coords[test], axis=1)
        known_features = _features(chain, X, labels, others)
        if scatter is not None:
            assert known.places is not None  # They come together with the inputs.
            alike = NearestNeighbors(n_neighbors=min(N_ALIKE, len(others))).fit(known_features)
            scatter[test] = scatter_of_alike(alike, known.places[~left_out], inputs)
        else:
            inputs = chain._final_estimator.transform(inputs)
        some = rng.permutation(train)[:_CELLS_FOR_PLACES]
        net = learn_places(
            _features(chain, X, labels, some),
            coords[some],
            codes[some],
            coords[others],
            codes[others],
            n_members=1,
            n_epochs=len(final.fitted_.history),
            seed=chain._final_estimator.fitted_.seed,
        )
        tables += _tables_of(
            np.flatnonzero(left_out),
            # Steps may return DataFrames.
            (np.asarray(inputs, dtype=np.float64), placed, coords[test], codes[test]),
            section_evidence(known_features, coords[others], codes[others], net),
            CELLS_FOR_WEIGHTS // n_folds,
        )
    if tables:  # Else nothing tells how much the network's word counts.
        some = rng.permutation(n_cells)[:_CELLS_FOR_PLACES]
        final.fitted_ = final.fitted_.with_place_net(
            _features(pipeline, X, labels, some), coords[some], codes[some]
        )
    final.fitted_ = final.fitted_.with_errors_of_new_cells(
        errors[known.rows],
        None if scatter is None else scatter[known.rows],
        tables,
        another_section=any(
            getattr(step, "query", None) == "new_section" for step in transformers(pipeline)
        ),
    )
    # The last fold also tells what queries unlike the reference may expect.
    left_out = np.setdiff1d(np.flatnonzero(folds == n_folds - 1), train)
    of_cells = labels.get("sections")
    of_chain = float(np.nanmedian(errors))
    pipeline.held_out_ = HeldOut.of(
        chain,
        X,
        coords,
        None if of_cells is None else np.asarray(of_cells),
        train,
        left_out,
        gain=float(np.median(final.fitted_.error_model.errors)) / of_chain if of_chain else 1.0,
    )


def _tables_of(
    cells: NDArray[np.intp],
    new: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]],
    known: dict[int, SectionEvidence],
    n_cells: int,
) -> list[PlaceTable]:
    """What the known cells of each section say of the places of its new ones."""
    features, placed, coords, codes = new
    tables = []
    for code in np.unique(codes):
        evidence = known.get(int(code))
        if evidence is None or len(evidence.coords) < MIN_CELLS:
            continue
        # The new cells are in an order that is drawn, as far as it matters: by fold.
        own = np.flatnonzero(codes == code)
        table = evidence.of(features[own], placed[own], np.ones(len(own)))
        nearest = nearest_places(coords[own], evidence.coords)
        some = slice(None, None, max(1, len(own) // n_cells))
        tables.append(PlaceTable(cells[own], table, nearest, evidence.coords, some))
    return tables


def _rows(X: Any, params: dict[str, Any], rows: NDArray[np.intp]) -> dict[str, Any]:
    return _check_method_params(X, params, indices=rows)


def _seen_by_the_last(
    chain: Any, X: Any, labels: dict[str, Any], rows: NDArray[np.intp]
) -> tuple[Any, dict[str, Any]]:
    """What the last step gets of some cells, and with which keywords."""
    of_steps, of_last = keywords_of(chain, "predict", _rows(X, labels, rows))
    # Cells of the reference are compared with the reference.
    steps = zip(map(pointwise_copy, transformers(chain)), of_steps, strict=True)
    return transform_with(steps, _safe_indexing(X, rows))[0], of_last


def _features(
    chain: Any, X: Any, labels: dict[str, Any], rows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """What tells some cells apart, see `PlaceModel`."""
    inputs, _ = _seen_by_the_last(chain, X, labels, rows)
    final: DPVAESpatialRegressor = chain._final_estimator
    if not final.fitted_.check_places().from_inputs:
        inputs = final.transform(inputs)
    return np.asarray(inputs, dtype=np.float64)


def check_n_folds(n_folds: Any, final: Any) -> None:
    """Check the parameter `n_calibration_folds` before anything is fitted."""
    if not isinstance(n_folds, Integral) or n_folds < 2:
        raise ValueError(f"n_calibration_folds must be 2 or more, or None, got {n_folds!r}.")
    if not isinstance(final, DPVAESpatialRegressor):
        raise ValueError(
            f"n_calibration_folds={n_folds} calibrates a DPVAESpatialRegressor, but the last step "
            f"is {final!r}. Pass n_calibration_folds=None."
        )


def deal(codes: NDArray[np.int64], n_folds: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """Deal the cells of each section to folds.

    Parameters
    ----------
    codes : ndarray of shape (n_cells,)
        Section of each cell.
    n_folds : int
    rng : RandomState

    Returns
    -------
    ndarray of shape (n_cells,)
        Fold of each cell; -1 in sections of fewer than five cells for each fold.
    """
    folds = np.full(len(codes), -1, dtype=np.int64)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        if len(rows) >= 5 * n_folds:
            folds[rng.permutation(rows)] = np.arange(len(rows)) % n_folds
    return folds


def _light_copy(pipeline: Any, seed: int) -> Any:
    """An unfitted copy of a pipeline with one network that is trained for fewer steps."""
    chain = clone(pipeline).set_params(n_calibration_folds=None)
    final = chain.steps[-1][1]
    final.set_params(
        n_estimators=1,
        max_samples=1.0,
        early_stopping=False,
        warm_start=False,
        callbacks=None,
        checkpoint=None,
        on_interrupt="raise",
        random_state=seed,
    )
    silence(chain)
    if final.max_epochs == "auto":
        n_epochs = len(pipeline._final_estimator.fitted_.history)
        final.set_params(max_epochs=max(n_epochs // _SHARE_OF_EPOCHS, _MIN_EPOCHS))
    if hasattr(final.mask, "shape"):
        # A matrix of weights belongs to all cells of the reference.
        final.set_params(mask=None)
    for step, fitted in zip(transformers(chain), transformers(pipeline), strict=True):
        # What was counted once need not be counted again, unless all genes were passed on.
        if isinstance(step, SpatialPCA) and step.n_components == "auto":
            n_components, n_genes = fitted.components_.shape
            step.set_params(n_components=n_components if n_components < n_genes else "auto")
    return chain
