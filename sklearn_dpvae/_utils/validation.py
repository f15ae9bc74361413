"""Checks of arguments that several estimators share: coordinates, labels, missing genes.

Imports nothing of this package.
"""

import numbers

import numpy as np
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import column_or_1d

MIN_CELLS_PER_SECTION = 3


def _is_missing(label):
    """Whether a section label is absent: None, NaN, or pandas' NA."""
    if label is None:
        return True
    if isinstance(label, numbers.Real):
        return bool(np.isnan(label))
    return type(label).__name__ in {"NAType", "NaTType"}


def check_sections(sections, n_samples, *, name="sections"):
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
    sections = np.asarray(sections)
    if sections.ndim == 0:
        raise ValueError(
            f"{name} must hold one label per row, got the single value {sections[()]!r}. "
            "Pass an array of the length of X."
        )
    sections = column_or_1d(sections)
    if len(sections) != n_samples:
        raise ValueError(
            f"{name} has {len(sections)} labels but X has {n_samples} rows. "
            "Pass one label per row."
        )
    missing = [i for i, label in enumerate(sections.tolist()) if _is_missing(label)]
    if missing:
        raise ValueError(
            f"{name} has {len(missing)} missing label(s), the first at row {missing[0]}. "
            "Label every row or drop the rows that have none."
        )
    if sections.dtype == object:
        sections = np.array([str(label) for label in sections])
    labels, codes = np.unique(sections, return_inverse=True)
    return codes.astype(np.int64, copy=False), labels


def find_labels(labels, known):
    """Where each label stands among known ones, -1 for those that do not.

    Labels are compared as text, and 1 is 1.0: the same column comes as numbers from one file
    and as text from another.

    Parameters
    ----------
    labels, known : ndarray
        Distinct labels, as `check_sections` returns them.

    Returns
    -------
    ndarray of shape (n_labels,), dtype int64
    """
    index = {_as_text(label): i for i, label in enumerate(known.tolist())}
    return np.array([index.get(_as_text(label), -1) for label in labels.tolist()], dtype=np.int64)


def _as_text(label):
    whole = isinstance(label, float) and label.is_integer()
    return str(int(label)) if whole else str(label)


def check_coords(coords, codes=None, labels=None, *, name="coords"):
    """Validate positions and, given section codes, each section's part of them.

    Parameters
    ----------
    coords : array-like of shape (n_samples,) or (n_samples, n_dims)
        Positions in tissue units.
    codes : ndarray of shape (n_samples,), optional
        Section of each row, as `check_sections` returns it. When given, every section must
        have at least three cells that do not all lie in one point.
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
        If a position is NaN or infinite, lengths do not match, or a section has too few cells
        or no extent.
    """
    coords = check_array(coords, dtype=np.float64, ensure_2d=False, input_name=name)
    if coords.ndim == 1:
        coords = coords[:, None]
    if codes is None:
        return coords
    check_consistent_length(coords, codes)
    for code in np.unique(codes):
        part = coords[codes == code]
        label = repr(labels[code].item()) if labels is not None else int(code)
        if len(part) < MIN_CELLS_PER_SECTION:
            raise ValueError(
                f"section {label} has n_samples={len(part)} cell(s) with positions; at least "
                f"{MIN_CELLS_PER_SECTION} are needed to learn from. Drop it or merge it."
            )
        if np.ptp(part, axis=0).max() == 0:
            raise ValueError(
                f"all {len(part)} positions of section {label} are the same point "
                f"{part[0].tolist()}; {name} must have an extent."
            )
    return coords


def known_rows(coords, *, name):
    """Rows of positions that are known: those of all others hold nothing but NaN.

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


def check_missing_genes(missing_genes, n_genes):
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
        If it is not one boolean for each gene.
    """
    missing = np.asarray(missing_genes)
    if missing.dtype != bool or missing.shape != (n_genes,):
        raise ValueError(
            f"missing_genes must hold True or False for each of the {n_genes} columns of X, got "
            f"an array of shape {missing.shape} and dtype {missing.dtype}. Pass "
            "~np.isin(reference_genes, query_genes)."
        )
    return missing
