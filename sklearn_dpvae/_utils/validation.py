"""Checks of arguments: parameters, coordinates, labels of sections, missing genes.

Imports nothing of this package.
"""

import numbers
import re
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import validate_params
from sklearn.utils.validation import column_or_1d

from .arrays import check_array, check_container, naming

# Extents of a section whose squares, and those of distances in it, are floating-point numbers.
LARGEST_POSITION = 1e100
_EXTENTS = (1 / LARGEST_POSITION, LARGEST_POSITION)
_EXTENTS_32 = (1e-15, 1e15)

# Extent of a section relative to its distance from the origin. Below, positions are rounded to
# some hundred different ones.
_RESOLUTION = 1e-13

MIN_CELLS_PER_SECTION = 3

# scikit-learn's decorators have no types: applied as they are, they would hide the signature of
# what they decorate from type checkers. The two below keep it.
Function = TypeVar("Function", bound=Callable[..., Any])


def checks_arguments(constraints: dict[str, list]) -> Callable[[Function], Function]:
    """Decorate a function: it checks its arguments first.

    Parameters
    ----------
    constraints : dict
        Constraints on each argument, as scikit-learn writes them in ``_parameter_constraints``.

    Returns
    -------
    callable
        The decorator.
    """
    return validate_params(constraints, prefer_skip_nested_validation=True)


def checks_parameters(fit: Function) -> Function:
    """Decorate a method that fits: it checks the parameters of its estimator first.

    Parameters
    ----------
    fit : callable
        A method of an estimator with ``_parameter_constraints``.

    Returns
    -------
    callable
        A method of the same signature.
    """
    return _fit_context(prefer_skip_nested_validation=True)(fit)


def _is_missing(label: Any) -> bool:
    """Whether a section label is absent: None, NaN, or pandas' NA."""
    if label is None:
        return True
    if isinstance(label, numbers.Real):
        return bool(np.isnan(float(label)))
    return type(label).__name__ in {"NAType", "NaTType"}


def check_sections(
    sections: ArrayLike | None, n_samples: int, *, name: str = "sections"
) -> tuple[NDArray[np.int64], NDArray]:
    """Encode section labels as integers.

    Parameters
    ----------
    sections : array-like of shape (n_samples,) or None
        One label per row (strings, integers, a pandas Categorical ...). None means that
        all rows are of one section.
    n_samples : int
        Number of rows that the labels must match.
    name : str, default="sections"
        What messages call the argument.

    Returns
    -------
    codes : ndarray of shape (n_samples,), dtype int64
        Index of each row's section in `labels`.
    labels : ndarray of shape (n_sections,)
        The sorted distinct labels; ``array([0])`` where `sections` is None.

    Raises
    ------
    ValueError
        If the number of labels differs from `n_samples`, or if a label is missing.
    """
    if sections is None:
        return np.zeros(n_samples, dtype=np.int64), np.array([0])
    with naming(name):
        check_container(sections)
        values: NDArray = np.asarray(sections)
    if values.ndim == 0:
        raise ValueError(
            f"{name} must hold one label per row, got the single value {values[()]!r}. "
            "Pass an array of the length of X."
        )
    with naming(name):
        values = column_or_1d(values)
    if len(values) != n_samples:
        raise ValueError(
            f"{name} has {len(values)} labels but X has {n_samples} rows. Pass one label per row."
        )
    missing = [i for i, label in enumerate(values.tolist()) if _is_missing(label)]
    if missing:
        raise ValueError(
            f"{name} has {len(missing)} missing label(s), the first at row {missing[0]}. "
            "Label every row, or drop the rows without a label."
        )
    if values.dtype == object:
        values = np.array([label_text(label) for label in values.tolist()])
    with naming(name):
        labels, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64, copy=False), labels


def find_labels(labels: NDArray, known: NDArray) -> NDArray[np.int64]:
    """Index of each label among known ones, -1 for labels that are not known.

    Labels are compared as text, and 1 equals 1.0, as a number or as text: the same column may be
    whole numbers in one file, floats in another, and text in a third.

    Parameters
    ----------
    labels, known : ndarray
        Distinct labels, as `check_sections` returns them.

    Returns
    -------
    ndarray of shape (n_labels,), dtype int64
    """
    texts = [label_text(label) for label in known.tolist()]
    index = {_without_zeros(text): i for i, text in enumerate(texts)}
    index |= {text: i for i, text in enumerate(texts)}
    found = []
    for text in map(label_text, labels.tolist()):
        found.append(index.get(text, index.get(_without_zeros(text), -1)))
    return np.array(found, dtype=np.int64)


def label_text(label: Any) -> str:
    """A label as text, and that of 1.0 is that of 1."""
    whole = isinstance(label, float | np.floating) and float(label).is_integer()
    return str(int(label)) if whole else str(label)


def _without_zeros(text: str) -> str:
    """``"1"`` for ``"1.0"``, which is how pandas writes whole numbers of a column of floats."""
    return text.partition(".")[0] if re.fullmatch(r"-?\d+\.0+", text) else text


def check_same_order(X: Any, y: Any) -> None:
    """Refuse tables whose rows are the same, in another order.

    Parameters
    ----------
    X, y : array-like
        Only the index of two DataFrames or Series tells.

    Raises
    ------
    ValueError
        If y has the index of X in another order.
    """
    ours: Any = getattr(X, "index", None)
    theirs: Any = getattr(y, "index", None)
    if not (hasattr(ours, "equals") and hasattr(theirs, "equals")) or len(ours) != len(theirs):
        return
    if not ours.equals(theirs) and ours.is_unique and ours.isin(theirs).all():
        raise ValueError(
            f"y has the index of X in another order (it begins with {theirs[0]!r}, X with "
            f"{ours[0]!r}). Rows belong together by their place: pass y.loc[X.index]."
        )


def check_coords(
    coords: ArrayLike,
    codes: NDArray[np.int64] | None = None,
    labels: NDArray | None = None,
    *,
    name: str = "coords",
) -> NDArray[np.float64]:
    """Validate positions and, if section codes are given, the positions of each section.

    Parameters
    ----------
    coords : array-like of shape (n_samples,) or (n_samples, n_dims)
        Positions in tissue units.
    codes : ndarray of shape (n_samples,), optional
        Section of each row, as `check_sections` returns it. If given, every section must have
        at least three cells, and they must not all lie at one point.
    labels : ndarray of shape (n_sections,), optional
        Labels of the sections, for the messages.
    name : str, default="coords"
        What messages call the argument.

    Returns
    -------
    coords : ndarray of shape (n_samples, n_dims), dtype float64

    Raises
    ------
    ValueError
        If a position is NaN or infinite, lengths do not match, or a section has too few cells,
        no extent, or one that floating point cannot hold.
    """
    points: NDArray[np.float64] = check_array(
        coords, dtype=np.float64, ensure_2d=False, input_name=name
    )
    if points.ndim == 1:
        points = points[:, None]
    if codes is None:
        return points
    check_consistent_length(points, codes)
    for code in np.unique(codes):
        part = points[codes == code]
        label = repr(labels[code].item()) if labels is not None else int(code)
        if len(part) < MIN_CELLS_PER_SECTION:
            raise ValueError(
                f"section {label} has n_samples={len(part)} cell(s) with positions; at least "
                f"{MIN_CELLS_PER_SECTION} are needed. Drop the section or merge it with another."
            )
        extent = _extent_of(part)
        if extent == 0:
            raise ValueError(
                f"all {len(part)} positions of section {label} are the same point "
                f"{part[0].tolist()}. Pass {name} that differ, or drop the section."
            )
        check_unit(f"the positions of section {label} span", part, name)
        check_resolution(f"the positions of section {label} span", part, name)
    return points


def _extent_of(points: NDArray[Any]) -> float:
    return float((points.max(axis=0) - points.min(axis=0)).max())


def check_unit(what: str, points: NDArray[Any], name: str) -> None:
    """Raise if points differ, but the square of their extent is 0 or infinite.

    Parameters
    ----------
    what : str
        Begins the message: whose positions they are, and a verb.
    points : ndarray of shape (n_samples, n_dims)
    name : str
        What messages call the argument.
    """
    extent = _extent_of(points)
    smallest, largest = _EXTENTS_32 if points.dtype == np.float32 else _EXTENTS
    if extent and not smallest < extent < largest:
        raise ValueError(
            f"{what} {extent:g}, and squares of such numbers are no floating-point numbers. Pass "
            f"{name} in another unit."
        )


def check_resolution(what: str, points: NDArray[Any], name: str) -> None:
    """Raise if points differ, but lie so far out that their differences are rounding.

    Parameters
    ----------
    what : str
        Begins the message: whose positions they are, and a verb.
    points : ndarray of shape (n_samples, n_dims)
    name : str
        What messages call the argument.
    """
    extent, largest = _extent_of(points), np.abs(points).max()
    if 0 < extent < _RESOLUTION * largest:
        raise ValueError(
            f"{what} {extent:g} but lie as far from the origin as {largest:g}, so that float64 "
            f"hardly tells them apart. Subtract an origin from {name}."
        )


def known_rows(coords: NDArray[np.float64], *, name: str) -> NDArray[np.intp]:
    """Rows whose position is known. An unknown position is NaN in every column.

    Parameters
    ----------
    coords : ndarray of shape (n_samples, n_dims)
    name : str
        What messages call the argument.

    Returns
    -------
    ndarray of shape (n_known,), dtype intp

    Raises
    ------
    ValueError
        If a row is NaN in some columns only.
    """
    missing = np.isnan(coords)
    partly = np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))
    if len(partly):
        raise ValueError(
            f"row {partly[0]} of {name} is {coords[partly[0]].tolist()}: known in part. Give "
            "every coordinate of a known position, and NaN in all columns of an unknown one."
        )
    return np.flatnonzero(~missing.any(axis=1))


def check_missing_genes(missing_genes: ArrayLike, n_genes: int) -> NDArray[np.bool_]:
    """Validate which genes a query was not measured for.

    Parameters
    ----------
    missing_genes : array-like of shape (n_genes,), dtype bool
    n_genes : int

    Returns
    -------
    ndarray of shape (n_genes,), dtype bool

    Raises
    ------
    ValueError
        If it is not one boolean per gene.
    """
    missing = np.asarray(missing_genes)
    if missing.dtype != bool or missing.shape != (n_genes,):
        raise ValueError(
            f"missing_genes must hold True or False for each of the {n_genes} columns of X, got "
            f"an array of shape {missing.shape} and dtype {missing.dtype}. Pass "
            "~np.isin(reference_genes, query_genes)."
        )
    return missing


def check_level(level: Any) -> None:
    """Raise unless a level is a probability between 0 and 1, both excluded."""
    if not isinstance(level, Real) or not 0 < float(level) < 1:
        raise ValueError(f"level must be a probability between 0 and 1, got {level!r}.")
