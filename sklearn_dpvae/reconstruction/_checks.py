"""Checks of the input of a scaling problem, except for its anchors."""

import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from .._utils.arrays import check_array
from .._utils.validation import check_unit

# Entries across the diagonal may differ by this part of the largest entry.
_ASYMMETRY = 1e-6


def check_scale(scale: Any) -> float:
    """Return `scale` as a float. Raise a ValueError unless it is positive and finite."""
    if not isinstance(scale, numbers.Real) or not np.isfinite(float(scale)) or scale <= 0:
        raise ValueError(
            f"scale must be a positive number (latent units per tissue unit), got {scale!r}."
        )
    return float(scale)


def check_dissimilarities(dissimilarities: ArrayLike) -> NDArray[np.floating]:
    """Validate a square matrix: symmetric, not negative, zero on the diagonal."""
    matrix = check_array(
        dissimilarities, dtype=[np.float64, np.float32], input_name="dissimilarities"
    )
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"dissimilarities has shape {matrix.shape}, but one row and one column per point was "
            "expected. Pass points themselves as latents."
        )
    check_unit("dissimilarities span", matrix, "dissimilarities")
    largest = np.abs(matrix).max()
    if matrix.min() < 0:
        raise ValueError(
            f"dissimilarities must not be negative, found {matrix.min()}. Similarities must be "
            "turned into dissimilarities first."
        )
    diagonal = np.abs(matrix.diagonal()).max()
    if diagonal > 1e-6 * largest:
        raise ValueError(
            f"dissimilarities has {diagonal} on its diagonal, but a point is at distance 0 from "
            "itself. Similarities must be turned into dissimilarities first."
        )
    _check_symmetric(matrix, "dissimilarities", _ASYMMETRY * largest)
    return matrix


def check_weights(weights: Any, n_samples: int) -> Any:
    """Validate pair weights, dense or sparse: symmetric, not negative, not all zero."""
    weights = check_array(
        weights,
        accept_sparse="csr",
        dtype=[np.float64, np.float32],
        input_name="weights",
    )
    if weights.shape != (n_samples, n_samples):
        raise ValueError(
            f"weights has shape {weights.shape}, but one weight for each pair of the {n_samples} "
            f"rows was expected. Pass weights of shape {(n_samples, n_samples)}."
        )
    values = weights.data if sparse.issparse(weights) else weights
    if values.size and values.min() < 0:
        raise ValueError(
            f"weights must not be negative, found {values.min()}. Give a pair that should not "
            "count weight 0."
        )
    if not values.any():
        raise ValueError("weights are all zero, so no pair counts. Give some pairs weight.")
    _check_symmetric(weights, "weights", _ASYMMETRY * values.max())
    return weights


def check_init(init: ArrayLike, shape: tuple[int, int], *, dtype: Any) -> NDArray[Any]:
    """Validate starting positions of shape (n_samples, n_dims)."""
    checked = check_array(init, dtype=dtype, input_name="init")
    if checked.shape != shape:
        raise ValueError(
            f"init has shape {checked.shape}, but {shape} was expected. Pass one position per row."
        )
    return checked


def _check_symmetric(matrix: Any, name: str, tol: float) -> None:
    asymmetry = abs(matrix - matrix.T).max()
    if asymmetry > tol:
        raise ValueError(
            f"{name} must be symmetric, but entries across the diagonal differ by up to "
            f"{asymmetry:.3g}. Pass ({name} + {name}.T) / 2 if that is what you mean."
        )
