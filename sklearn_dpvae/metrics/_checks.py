"""Checks of the point sets that a metric compares.

From this package it imports `_utils`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._utils.validation import check_coords, check_sections, check_unit
from .._utils.warn import warn


def check_points(points: ArrayLike, name: str, *, any_unit: bool = False) -> NDArray[np.float64]:
    """Return finite points as a float64 array of shape (n_samples, n_dims).

    A one-dimensional array holds one coordinate per row. Unless they may be in any unit, squares
    of their distances must be floating-point numbers.
    """
    checked = check_coords(points, name=name)
    if not any_unit:
        check_unit(f"{name} spans", checked, name)
    return checked


def check_two_point_sets(
    a: ArrayLike,
    b: ArrayLike,
    names: tuple[str, str],
    sections: ArrayLike | None = None,
    *,
    any_unit: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[NDArray[np.intp]], NDArray]:
    """Validate two point sets with the same rows, and the section labels of these rows.

    Parameters
    ----------
    a, b : array-like of shape (n_samples,) or (n_samples, n_dims)
        The point sets. Their numbers of dimensions may differ.
    names : tuple of two str
        Their names in error messages.
    sections : array-like of shape (n_samples,) or None
        One label per row.
    any_unit : bool, default=False
        Whether squares of distances may be 0 or infinite.

    Returns
    -------
    a, b : ndarray of shape (n_samples, n_dims), dtype float64
    parts : list of ndarray of int
        The rows of each section, in the order of `labels`.
    labels : ndarray
        The sorted labels of the sections.

    Raises
    ------
    ValueError
        If the sets differ in their numbers of rows, hold NaN or infinity, or are in a unit in
        which squares are none.
    """
    a = check_points(a, names[0], any_unit=any_unit)
    b = check_points(b, names[1], any_unit=any_unit)
    if len(a) != len(b):
        raise ValueError(
            f"{names[0]} has {len(a)} rows but {names[1]} has {len(b)}. Pass two point sets "
            "whose rows are the same cells in the same order."
        )
    parts, labels = section_parts(sections, len(a))
    return a, b, parts, labels


def section_parts(
    sections: ArrayLike | None, n_samples: int
) -> tuple[list[NDArray[np.intp]], NDArray]:
    """Return the rows of each section, as a list of index arrays, and the sections' labels."""
    codes, labels = check_sections(sections, n_samples)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes))[:-1]), labels


def is_one_point(points: NDArray[np.float64]) -> bool:
    """Return whether all points coincide, up to the rounding of float64.

    Without the tolerance, a constant prediction with rounding errors would be aligned by these
    errors.
    """
    tolerance = 8 * np.finfo(np.float64).eps * np.abs(points).max()
    return bool(np.ptp(points, axis=0).max() <= tolerance)


def average_over_sections(
    parts: Sequence[NDArray[np.intp]],
    labels: NDArray,
    score: Callable[[NDArray[np.intp]], float | None],
    *,
    needs: str,
) -> float:
    """Return the mean of a score over sections, weighted by their numbers of cells.

    Parameters
    ----------
    parts, labels
        Rows and labels of the sections, as `section_parts` returns them.
    score : callable
        Takes the rows of a section and returns its score, or None if it is undefined.
    needs : str
        What a section must have for its score to be defined, for messages.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the score is undefined for every section.
    """
    scores = [score(rows) for rows in parts]
    kept = [i for i, value in enumerate(scores) if value is not None]
    if not kept:
        where = "" if len(parts) == 1 else ", and no section has them"
        raise ValueError(f"the score needs {needs}{where}.")
    if len(kept) < len(parts):
        left_out = [labels[i].item() for i in range(len(parts)) if scores[i] is None]
        warn(f"section(s) {left_out} are left out of the score, which needs {needs}.")
    defined = np.array([scores[i] for i in kept], dtype=np.float64)
    return float(np.average(defined, weights=[len(parts[i]) for i in kept]))


def check_option(value: Any, name: str, options: Sequence[Any]) -> None:
    """Raise unless `value` is one of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {list(options)}, got {value!r}.")
