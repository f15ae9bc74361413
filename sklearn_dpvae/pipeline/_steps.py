"""How a pipeline runs its steps: which keywords each gets, and the counts for the last one.

Imports `_utils`, and what a query says by itself.
"""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.feature_selection import SelectorMixin
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_consistent_length, indexable
from sklearn.utils.metadata_routing import process_routing

from .._utils.arrays import naming
from .._utils.matrix import evenly_spaced
from .._utils.routing import given, routing_is_on, sections_for
from .._utils.validation import check_missing_genes, known_rows
from ._query_components import learns_from_logarithms, query_components

# Rows of a query that tell where it comes from.
_ROWS_TO_LOOK_AT = 500


def transform_by(
    steps: Iterable[Any],
    X: Any,
    sections: ArrayLike | None = None,
    missing: NDArray[np.bool_] | None = None,
) -> tuple[Any, Any]:
    """Transform X by fitted steps, one after the other.

    Parameters
    ----------
    steps : iterable of transformers
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
    sections : array-like of shape (n_cells,), optional
        For the steps that take it.
    missing : ndarray of shape (n_genes,), dtype bool, optional
        Genes that were not measured, for the steps that take them.

    Returns
    -------
    X : {ndarray, sparse matrix}
    missing : ndarray or None
        The part of `missing` that belongs to the genes that the steps select.
    """
    return transform_with(
        ((step, sections_for(step, "transform", sections)) for step in steps), X, missing
    )


def transform_with(
    steps: Iterable[tuple[Any, dict[str, Any]]],
    X: Any,
    missing: NDArray[np.bool_] | None = None,
) -> tuple[Any, Any]:
    """Transform X by fitted steps, each with keywords of its own.

    Parameters
    ----------
    steps : iterable of tuples (transformer, keywords of its `transform`)
    X, missing
        See `transform_by`.

    Returns
    -------
    X, missing
        See `transform_by`.
    """
    for step, keywords in steps:
        X = step.transform(X, **keywords, **given(step, "transform", missing_genes=missing))
        if missing is not None and isinstance(step, SelectorMixin):
            missing = missing[step.get_support()]
    return X, missing


def transform_and_shift(
    steps: Iterable[tuple[Any, dict[str, Any]]], X: Any, missing: NDArray[np.bool_] | None
) -> tuple[Any, NDArray[np.bool_] | None, dict[Any, float]]:
    """`transform_with`, and how far a step that decides by the query moved each section.

    Parameters
    ----------
    steps, X, missing
        See `transform_with`.

    Returns
    -------
    X, missing
        See `transform_with`.
    shift : dict
        See `SectionScaler`; empty where no step decides.
    """
    shift: dict[Any, float] = {}
    for step, keywords in steps:
        if getattr(step, "query", None) == "auto":
            told = given(step, "for_query", missing_genes=missing)
            step = step.for_query(X, **keywords, **told)
            shift = step.query_shift_
        X, missing = transform_with([(step, keywords)], X, missing)
    return X, missing, shift


def last_for_query(
    last: Any, shift: dict[Any, float], some: Callable[[], tuple[Any, ArrayLike | None]]
) -> Any:
    """The last step for a query that was seen as a whole, if it is a `DPVAESpatialRegressor`.

    Less sure of itself for another section, which was moved; and closer to its networks for cells
    of a part of the tissue that the reference lacks.

    Parameters
    ----------
    last : estimator
        Fitted; it is not changed.
    shift : dict
        How far each section of the query was moved. It is empty where no step looks at the query,
        so that each cell is to be answered by itself.
    some : callable
        What the last step gets of the query, or of `some_rows` of it: X and, if it takes them,
        sections.
    """
    fitted: Any = getattr(last, "fitted_", None)
    if not shift or not hasattr(fitted, "for_another_section"):
        return last
    own = copy.copy(last)
    if any(shift.values()):
        own.fitted_ = fitted.for_another_section()
    else:
        own.fitted_ = fitted.for_query(*some())
    return own


def _some_of(X: Any, sections: ArrayLike | None) -> tuple[Any, ArrayLike | None]:
    rows = some_rows(np.shape(X)[0])
    return _safe_indexing(X, rows), None if sections is None else _safe_indexing(sections, rows)


def some_rows(n_rows: int) -> NDArray[np.intp]:
    """Some rows of a query, evenly spaced, by which it is told where it comes from."""
    return evenly_spaced(n_rows, _ROWS_TO_LOOK_AT)


def transformers(pipeline: Pipeline) -> list[Any]:
    """All steps but the last, without those that pass X through."""
    return [step for _, _, step in pipeline._iter(with_final=False)]


def call_last_step(
    pipeline: Pipeline,
    method: str,
    X: Any,
    *args: Any,
    params: dict[str, Any],
    defaults: dict[str, Any] | None = None,
    missing: ArrayLike | None = None,
    rows: NDArray[np.intp] | None = None,
) -> Any:
    """Transform X by all steps but the last, then call a method of the last.

    Parameters
    ----------
    pipeline : Pipeline
    method : str
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
    *args : array-like of shape (n_cells, ...)
        Passed to the method after the transformed `X`.
    params : dict
        What the caller passed by keyword.
    defaults : dict, optional
        Keywords of the method, unless `params` has them.
    missing : array-like of shape (n_genes,), dtype bool, optional
        Genes that were not measured.
    rows : ndarray of int, optional
        Call the method on these rows alone.

    Returns
    -------
    object
        What the method returns; the pipeline where that is the last step.
    """
    keywords, of_last = keywords_of(pipeline, method, params)
    of_last = {**(defaults or {}), **of_last}
    X = with_rows(X)
    mask = None
    if missing is not None:
        shape = np.shape(X)
        if len(shape) != 2:
            raise ValueError(f"X must be a matrix of cells and genes, got the shape {shape}.")
        mask = check_missing_genes(missing, shape[1])
    steps = list(zip(transformers(pipeline), keywords, strict=True))
    last = pipeline._final_estimator
    placing = method in ("predict", "predict_places", "predict_radius")
    if placing and learns_from_logarithms([s for s, _ in steps], last, of_last):
        X, mask = transform_with(steps[:1], X, mask)
        steps = steps[1:]
        of_last["covariates"] = query_components(X)
    if placing or method == "score":
        X, _, shift = transform_and_shift(steps, X, mask)
        last = last_for_query(last, shift, partial(_some_of, X, of_last.get("sections")))
    else:
        X, _ = transform_with(steps, X, mask)
    if last == "passthrough":
        return X
    if rows is not None:
        check_consistent_length(X, *args)
        X = _safe_indexing(X, rows)
        args = tuple(_safe_indexing(values, rows) for values in args)
        of_last = {key: _safe_indexing(values, rows) for key, values in of_last.items()}
    result = getattr(last, method)(X, *args, **of_last)
    return pipeline if result is last else result


def keywords_of(
    pipeline: Pipeline, method: str, params: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Keywords of `transform` for each transformer, and of a method of the last step."""
    last = pipeline._final_estimator
    if not routing_is_on():
        sections = params.get("sections")
        others = {key: values for key, values in params.items() if key != "sections"}
        of_steps = [sections_for(s, "transform", sections) for s in transformers(pipeline)]
        return of_steps, others | sections_for(last, method, sections)
    # scikit-learn knows no requests for these.
    own = ("calibrate", "predict_places", "predict_radius", "sample_latents")
    known = "predict" if method in own else method
    routed = process_routing(pipeline, known, **params)
    of_steps = [dict(routed[name]["transform"]) for _, name, _ in pipeline._iter(with_final=False)]
    of_last = dict(routed.get(pipeline.steps[-1][0], {}).get(known, {}))
    return of_steps, of_last if known == method else given(last, method, **of_last)


def with_rows(X: Any) -> Any:
    """X in memory, in a format whose rows can be taken: not of dask, and CSR for COO and others.

    Parameters
    ----------
    X : {array-like, sparse matrix, dask array}
    """
    with naming("X"):
        return indexable(X.compute() if hasattr(X, "compute") else X)[0]


def select_genes(steps: Iterable[Any], X: Any) -> Any:
    """Columns of X that fitted steps select, up to the first step that makes new columns."""
    columns = np.arange(np.shape(X)[1])
    for step in steps:
        if getattr(step, "n_features_in_", len(columns)) != len(columns):
            break
        if isinstance(step, SelectorMixin):
            columns = columns[step.get_support(indices=True)]
    return _safe_indexing(X, columns, axis=1)


def located_rows(y: ArrayLike) -> NDArray[np.intp] | None:
    """Rows of `y` that hold a position.

    Parameters
    ----------
    y : array-like of shape (n_cells, n_dims)
        Positions, with NaN in the rows of cells that are not located.

    Returns
    -------
    ndarray of shape (n_located,), or None
        None where every cell is located, and where `y` is not numeric: the last step checks it
        and says what is wrong.

    Raises
    ------
    ValueError
        If no cell is located, or if a row is NaN in some columns only.
    """
    try:
        coords = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        return None
    if coords.ndim == 0 or not np.isnan(coords).any():
        return None
    located = known_rows(coords.reshape(len(coords), -1), name="y")
    if not len(located):
        raise ValueError(
            "y has no located cell: all positions are NaN. Give the positions of some cells."
        )
    return located


def of_a_query(pipeline: Any, params: dict[str, Any]) -> dict[str, Any]:
    """What of the parameters of `fit` a query would be given, too: as a rule its sections."""
    if routing_is_on():
        consumed = pipeline.get_metadata_routing().consumes("predict", params.keys())
        return {name: params[name] for name in consumed}
    of_last = f"{pipeline.steps[-1][0]}__sections"
    sections = params.get("sections", params.get(of_last))
    return {} if sections is None else {"sections": sections}


def pointwise_copy(step: Any) -> Any:
    """A fitted step that transforms each row by what it learned of the reference."""
    return step if getattr(step, "pointwise", True) else with_query(step, "same_section")


def with_query(step: Any, query: str) -> Any:
    """A fitted step that is told something else of queries."""
    own = copy.copy(step)
    own.query = query
    return own


def silence(pipeline: Pipeline) -> None:
    """Set `verbose` to 0 in all steps that have it."""
    loud = [name for name in pipeline.get_params() if name.endswith("__verbose")]
    pipeline.set_params(**dict.fromkeys(loud, 0))


class GivenMore:
    """The last step during a fit: itself, but given what depends on the steps before it.

    That is made when the last step is fitted, and not before.

    Parameters
    ----------
    step : estimator
    **makers : callable
        Make keywords of `fit` by these names, unless the caller gives them.
    """

    def __init__(self, step: Any, **makers: Callable[[], Any]):
        self.step = step
        self.makers = makers

    def fit(self, X: Any, y: Any = None, **keywords: Any) -> Any:
        return self.step.fit(X, y, **self._with_more(keywords))

    def fit_transform(self, X: Any, y: Any = None, **keywords: Any) -> Any:
        return self.step.fit_transform(X, y, **self._with_more(keywords))

    def _with_more(self, keywords: dict[str, Any]) -> dict[str, Any]:
        made = {name: make() for name, make in self.makers.items() if name not in keywords}
        return made | keywords

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)
