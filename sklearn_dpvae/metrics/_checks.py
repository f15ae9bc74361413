"""Checks that every metric makes of the point sets it compares.

Imports of this package: `_validation`.
"""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._utils.validation import check_coords, check_sections


def check_points(points: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return finite points as a float64 array of shape (n_samples, n_dims).

    One-dimensional input is one coordinate per row.
    """
    return check_coords(points, name=name)


def check_two_point_sets(
    a: ArrayLike, b: ArrayLike, names: tuple[str, str], sections: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[NDArray[np.intp]], NDArray]:
    """Validate two point sets of the same rows and the section labels of these rows.

    Parameters
    ----------
    a, b : array-like of shape (n_samples,) or (n_samples, n_dims)
        The point sets; the numbers of dimensions may differ.
    names : tuple of two str
        What messages call them.
    sections : array-like of shape (n_samples,) or None
        One label per row.

    Returns
    -------
    a, b : ndarray of shape (n_samples, n_dims), dtype float64
    parts : list of ndarray of int
        The rows of each section, in the order of `labels`.
    labels : ndarray
        The sorted labels of the sections.
    """
    a = check_points(a, names[0])
    b = check_points(b, names[1])
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
    """Rows of each section, as a list of index arrays, and the sections' labels."""
    codes, labels = check_sections(sections, n_samples)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes))[:-1]), labels


def is_one_point(points):
    """Whether all points coincide, up to the rounding of float64.

    Without the tolerance a constant prediction that carries rounding noise would be aligned
    by its noise.
    """
    tolerance = 8 * np.finfo(np.float64).eps * np.abs(points).max()
    return bool(np.ptp(points, axis=0).max() <= tolerance)


def average_over_sections(parts, labels, score, *, needs):
    """Mean of a score over sections, weighted by their numbers of cells.

    Parameters
    ----------
    parts, labels
        Rows and labels of the sections, as `section_parts` returns them.
    score : callable
        Takes the rows of a section and returns its score, or None where it is undefined.
    needs : str
        What a section must have for its score to be defined, for the messages.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the score is defined for no section.
    """
    scores = [score(rows) for rows in parts]
    kept = [i for i, value in enumerate(scores) if value is not None]
    if not kept:
        where = "" if len(parts) == 1 else ", and no section has them"
        raise ValueError(f"the score needs {needs}{where}.")
    if len(kept) < len(parts):
        left_out = [labels[i].item() for i in range(len(parts)) if scores[i] is None]
        warnings.warn(
            f"section(s) {left_out} are left out of the score, which needs {needs}.",
            UserWarning,
            stacklevel=3,
        )
    return float(np.average([scores[i] for i in kept], weights=[len(parts[i]) for i in kept]))


def check_option(value, name, options):
    """Raise unless `value` is one of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {list(options)}, got {value!r}.")
