"""Errors of reference cells as if they were new to every step of a pipeline.

Genes, components and networks are chosen with the positions of all cells of the reference, so that
a cell that a network was not trained on still is no new cell for the chain. Here the chain is
fitted anew without a part of the cells, which it then places; each part in turn. These errors
calibrate the radii. Imports the regressor and this folder's steps.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_method_params

from .._fitted.uncertainty import N_ALIKE, scatter_of_alike
from .._regressor import DPVAESpatialRegressor
from .._utils.validation import check_sections
from ._steps import transform_by, transformers

# A single network and half of the steps err 5 to 15 % more than the ensemble, at a fraction of its
# cost. Radii are that much on the safe side.
_STEPS = 200
_MIN_EPOCHS = 5


def cross_fit(
    pipeline: Any,
    X: Any,
    y: Any,
    *,
    sections: ArrayLike | None,
    params: dict[str, Any],
    n_folds: int,
) -> None:
    """Calibrate a fitted pipeline on its own reference, by parts that are left out in turn.

    Parameters
    ----------
    pipeline : SpatialPipeline
        Its last step is a fitted `DPVAESpatialRegressor`, whose error model is replaced.
    X, y
        What the pipeline was fitted on.
    sections : array-like of shape (n_cells,), optional
        A section of too few cells is never left out.
    params : dict
        What `fit` was given beside them, by the names that it takes.
    n_folds : int
    """
    final: DPVAESpatialRegressor = pipeline._final_estimator
    known = final.fitted_.error_model
    n_cells = np.shape(X)[0]
    rng = np.random.RandomState(final.fitted_.seed)
    folds = deal(check_sections(sections, n_cells)[0], n_folds, rng)
    if (folds < 0).all():
        return
    coords = np.asarray(y, dtype=np.float64).reshape(n_cells, -1)
    errors = np.full(n_cells, np.nan)
    scatter = np.full(n_cells, np.nan) if known.inputs is not None else None
    for fold in range(n_folds):
        train, test = np.flatnonzero(folds != fold), known.rows[folds[known.rows] == fold]
        chain = _light_copy(pipeline, len(train), seed=rng.randint(np.iinfo(np.int32).max))
        chain.fit(
            _safe_indexing(X, train),
            _safe_indexing(y, train),
            **_check_method_params(X, params, indices=train),
        )
        labels = None if sections is None else _safe_indexing(sections, test)
        steps = transformers(chain)
        inputs, _ = transform_by(steps, _safe_indexing(X, test), labels)
        placed = chain._final_estimator.predict(inputs, sections=labels)
        errors[test] = np.linalg.norm(placed.reshape(len(test), -1) - coords[test], axis=1)
        if scatter is not None:
            assert known.places is not None  # They come together with the inputs.
            others = np.flatnonzero(folds[known.rows] != fold)
            of_others = known.rows[others]
            labels = None if sections is None else _safe_indexing(sections, of_others)
            seen, _ = transform_by(steps, _safe_indexing(X, of_others), labels)
            alike = NearestNeighbors(n_neighbors=min(N_ALIKE, len(others))).fit(seen)
            scatter[test] = scatter_of_alike(alike, known.places[others], inputs)
    final.fitted_ = final.fitted_.with_errors_of_new_cells(
        errors[known.rows], None if scatter is None else scatter[known.rows]
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


def _light_copy(pipeline: Any, n_cells: int, seed: int) -> Any:
    """An unfitted copy of a pipeline with one network that is trained for fewer steps."""
    chain = clone(pipeline).set_params(n_calibration_folds=None)
    final = chain.steps[-1][1]
    final.set_params(
        n_estimators=1,
        max_samples=1.0,
        early_stopping=False,
        warm_start=False,
        callbacks=None,
        verbose=0,
        random_state=seed,
    )
    if final.max_epochs == "auto":
        n_batches = 1 if final.batch_size is None else -(-n_cells // final.batch_size)
        final.set_params(max_epochs=max(_STEPS // n_batches, _MIN_EPOCHS))
    if hasattr(final.mask, "shape"):
        # A matrix of weights belongs to all cells of the reference.
        final.set_params(mask=None)
    for _, _, step in chain._iter(with_final=False):
        # Cells that are left out belong to the sections of the reference.
        if not getattr(step, "pointwise", True):
            step.set_params(query="same_section")
    return chain
