"""What a fitted pipeline says of cells, as much as possible block by block.

A query that does not fit into memory is read by blocks of rows. Imports the pipeline.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import gen_batches

from .._utils.matrix import below_each_other
from .._utils.routing import sections_for
from .._utils.searches import best_of
from ..pipeline._query_components import learns_from_logarithms, query_components
from ..pipeline._steps import last_for_query, some_rows, transform_by


@dataclass(frozen=True, eq=False)
class Answers:
    """What is said of the cells of a query.

    Attributes
    ----------
    coords : ndarray of shape (n_cells, n_dims)
        Positions, in tissue units.
    std : ndarray of shape (n_cells,), optional
        Standard deviation along each axis, where the estimator has one.
    latents : ndarray of shape (n_cells, n_components), optional
        Latent means, where they are asked for and the estimator has `transform`.
    missing : ndarray of shape (n_genes,), dtype bool, optional
        Genes of the model that the query was not measured for.
    query_shift : dict, optional
        How far each section was moved towards its own statistics, from 0 to 1, where the pipeline
        decides on that.
    """

    coords: NDArray[Any]
    std: NDArray[Any] | None = None
    latents: NDArray[Any] | None = None
    missing: NDArray[np.bool_] | None = None
    query_shift: dict[Any, float] | None = None


def answer(
    pipeline: Any,
    blocks: Iterator[tuple[slice, Any]],
    missing: NDArray[np.bool_],
    *,
    sections: NDArray[Any] | None,
    anchors: Any,
    adapt: Any = "auto",
    latents: bool,
) -> Answers:
    """Ask a fitted pipeline, or the best one of a search, about the cells of a query.

    A step that looks at all cells of the query needs them at once, but after the steps before
    it, which as a rule have left few columns.

    Parameters
    ----------
    pipeline : estimator
        Fitted.
    blocks : iterator of (slice, {ndarray, sparse matrix})
        Consecutive rows of the query, with the columns of the pipeline.
    missing : ndarray of shape (n_genes,), dtype bool
        Genes that the query was not measured for.
    sections : ndarray of shape (n_cells,) or None
    anchors : tuple (indices, coords), array with NaN rows, or None
        See `DPVAESpatialRegressor.predict`. With them, the query's logarithms are kept in memory.
    adapt : {"auto"} or bool
        See there, too.
    latents : bool
        Whether latents are asked for.
    """
    pipeline = best_of(pipeline)
    steps = [step for _, step in pipeline.steps] if isinstance(pipeline, Pipeline) else [pipeline]
    *transformers, final = (step for step in steps if step not in (None, "passthrough"))
    alone = [getattr(step, "pointwise", True) for step in transformers]
    n_alone = alone.index(False) if False in alone else len(alone)
    others = transformers[n_alone:]
    placement = getattr(final, "placement_", None)
    jointly = anchors is not None or not getattr(placement, "pointwise", True)

    def labels(rows: slice | NDArray[np.intp]) -> NDArray[Any] | None:
        return None if sections is None else sections[rows]

    options: dict[str, Any] = {}
    if anchors is not None:
        options["anchors"] = anchors
        if "adapt" in inspect.signature(final.predict).parameters:
            options["adapt"] = adapt
    n_logarithms = int(learns_from_logarithms(transformers, final, options))

    def finish(X: Any, rows: slice, missing: NDArray[np.bool_]) -> Answers:
        X, _ = transform_by(others, X, labels(rows), missing)
        return _ask(final, X, labels(rows), options, latents)

    shift = None
    left = missing
    parts: list[Any] = []
    logs = []
    for rows, X in blocks:
        X, left = transform_by(transformers[:n_logarithms], X, labels(rows), missing)
        if n_logarithms:
            logs.append(X)
        X, left = transform_by(transformers[n_logarithms:n_alone], X, labels(rows), left)
        parts.append(X if jointly or others else finish(X, rows, left))
    if isinstance(parts[0], Answers):
        return _joined(parts)
    together = below_each_other(parts)
    if logs:
        options["covariates"] = query_components(below_each_other(logs))
    if others and hasattr(others[0], "for_query"):
        keywords = sections_for(others[0], "transform", sections)
        decides = others[0].query == "auto"
        others[0] = others[0].for_query(together, missing_genes=left, **keywords)
        shift = others[0].query_shift_ if decides else None
        if shift:

            def some() -> tuple[Any, NDArray[Any] | None]:
                rows = some_rows(together.shape[0])
                seen = transform_by(others, together[rows], labels(rows), left)[0]
                return seen, sections_for(final, "predict", labels(rows)).get("sections")

            final = last_for_query(final, shift, some)
        if not jointly and all(getattr(step, "pointwise", True) for step in others):
            # What it makes of sparse rows may be dense.
            batches = gen_batches(together.shape[0], parts[0].shape[0])
            answers = _joined([finish(together[rows], rows, left) for rows in batches])
            return replace(answers, query_shift=shift)
    return replace(finish(together, slice(None), left), query_shift=shift)


def _ask(
    final: Any,
    X: Any,
    sections: NDArray[Any] | None,
    options: dict[str, Any],
    latents: bool,
) -> Answers:
    """What the last step says: positions, and latents and standard deviations if it has them."""
    options = options | sections_for(final, "predict", sections)
    if "return_std" in inspect.signature(final.predict).parameters:
        options["return_std"] = True
    placed = final.predict(X, **options)
    placed, std = placed if isinstance(placed, tuple) else (placed, None)
    return Answers(
        coords=np.asarray(placed).reshape(len(placed), -1),
        std=std,
        latents=final.transform(X) if latents and hasattr(final, "transform") else None,
    )


def _joined(parts: list[Answers]) -> Answers:
    """The answers about consecutive blocks, as one."""

    def join(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    return Answers(join("coords"), join("std"), join("latents"))
