"""What tells cells apart for a fitted model: components of expression.

Imports this folder's steps.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._utils.matrix import MOST_COMPONENTS
from .._utils.searches import best_of
from ._genes import for_steps
from ._steps import keywords_of, transform_with, transformers


def components_of(
    model: Any,
    X: Any,
    *,
    sections: ArrayLike | None = None,
    missing_genes: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Components of cells: what the last step of a pipeline sees, or latents.

    Parameters
    ----------
    model : estimator
        A fitted `SpatialPipeline` or any other pipeline, a regressor, or a search over one.
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
    sections : array-like of shape (n_cells,), optional
    missing_genes : array-like of shape (n_genes,), dtype bool, optional
        Genes that were not measured.

    Returns
    -------
    ndarray of shape (n_cells, n_components)
        Latents where the last step sees expression rather than components.
    """
    model = best_of(model)
    check_is_fitted(model)
    if isinstance(model, Pipeline):
        X, missing = for_steps(model, X, None, missing_genes)
        labels = {} if sections is None else {"sections": sections}
        keywords, _ = keywords_of(model, "predict", labels)
        X, _ = transform_with(zip(transformers(model), keywords, strict=True), X, missing)
    places = _places(model)
    from_inputs = np.shape(X)[1] <= MOST_COMPONENTS if places is None else places.from_inputs
    if not from_inputs:
        X = _last(model).transform(X)
    return np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=np.float64)


def known_cells(
    model: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Components, positions and numbers of the sections of the cells that a fitted model keeps.

    Parameters
    ----------
    model : estimator
        See `components_of`.

    Raises
    ------
    ValueError
        If it keeps none.
    """
    model = best_of(model)
    check_is_fitted(model)
    places = _places(model)
    if places is None:
        raise ValueError(
            f"reference is None, but this {type(_last(model)).__name__} keeps no cells of its "
            "reference. Pass reference=(X, coords)."
        )
    return places.features, places.coords, places.codes


def _last(model: Any) -> Any:
    return model.steps[-1][1] if isinstance(model, Pipeline) else model


def _places(model: Any) -> Any:
    return getattr(getattr(_last(model), "fitted_", None), "places", None)
