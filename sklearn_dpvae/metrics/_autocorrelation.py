"""Moran's I and Geary's C of genes or latents, section by section.

May import `_utils`.
"""

from collections.abc import Callable
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils import check_scalar

from .._utils import autocorrelation
from .._utils.arrays import check_array
from .._utils.warn import warn
from ._checks import check_points, is_one_point, section_parts


def _per_section(
    statistic: Callable[..., NDArray[np.float64]],
    X: ArrayLike | sparse.spmatrix,
    coords: ArrayLike,
    n_neighbors: int,
    sections: ArrayLike | None,
) -> NDArray[np.float64]:
    """Mean over sections of a statistic of each feature, weighted by cells; NaN if undefined."""
    check_scalar(n_neighbors, "n_neighbors", Integral, min_val=1)
    coords = check_points(coords, "coords")
    X = check_array(X, accept_sparse="csr", ensure_2d=False, dtype="numeric", input_name="X")
    if X.ndim == 1:
        X = X[:, None]
    if X.shape[0] != len(coords):
        raise ValueError(
            f"X has {X.shape[0]} rows but coords has {len(coords)}. Pass the values and the "
            "positions of the same cells in the same order."
        )
    parts, labels = section_parts(sections, len(coords))

    total, cells, left_out = np.zeros(X.shape[1]), np.zeros(X.shape[1]), []
    for rows, label in zip(parts, labels.tolist(), strict=True):
        if len(rows) < 3 or is_one_point(coords[rows]):
            left_out.append(label)
            continue
        weights = autocorrelation.knn_weights(coords[rows], n_neighbors)
        values = statistic(X[rows], weights)
        defined = np.isfinite(values)
        total[defined] += len(rows) * values[defined]
        cells[defined] += len(rows)
    if len(left_out) == len(parts):
        raise ValueError(
            f"coords has no section with three cells that are not all at one point, in "
            f"{len(coords)} row(s). Pass more cells."
        )
    if left_out:
        warn(
            f"section(s) {left_out} are left out: they have fewer than three cells, or all their "
            "cells are at one point."
        )
    return np.divide(total, cells, out=np.full(X.shape[1], np.nan), where=cells > 0)


def morans_i(
    X: ArrayLike | sparse.spmatrix,
    coords: ArrayLike,
    *,
    n_neighbors: int = 5,
    sections: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Moran's I of genes or latents: is a value like those of its neighbors?

    .. math::
        I = \frac{n}{\sum_{ij} w_{ij}}
            \frac{\sum_{ij} w_{ij} (x_i - \bar x)(x_j - \bar x)}{\sum_i (x_i - \bar x)^2}

    with :math:`w_{ij} = 1 / k` if j is one of the k cells nearest to i, and 0 otherwise.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples,) or (n_samples, n_features)
        Values: expression, latents. Sparse input is made dense a few columns at a time.
    coords : array-like of shape (n_samples,) or (n_samples, n_dims)
        Positions; their unit does not matter.
    n_neighbors : int, default=5
        k, the number of neighbors of a cell (5 as in the paper's appendix). In a section of
        fewer cells all the others are neighbors.
    sections : array-like of shape (n_samples,), default=None
        One label per row. The statistic is computed within each section, about the section's
        own mean, so that differences between sections are not taken for patterns in space.
        The result is the mean over sections, weighted by cells. Sections of fewer than three
        cells are left out with a warning.

    Returns
    -------
    ndarray of shape (n_features,), dtype float64
        Near 1 for values that resemble their neighbors', ``-1 / (n - 1)`` on average for
        values placed at random, negative for values unlike their neighbors'. NaN for features
        that are constant in every section.

    Raises
    ------
    ValueError
        If lengths do not match, anything is NaN or infinite, or no section has three cells.

    See Also
    --------
    gearys_c : A statistic of differences of neighbors.

    References
    ----------
    P. A. P. Moran (1950), "Notes on continuous stochastic phenomena", Biometrika 37.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import morans_i
    >>> coords = np.arange(6.0)
    >>> step, alternating = [0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1]
    >>> morans_i(np.column_stack([step, alternating]), coords, n_neighbors=2).round(2)
    array([ 0.67, -0.67])
    """
    return _per_section(autocorrelation.morans_i, X, coords, n_neighbors, sections)


def gearys_c(
    X: ArrayLike | sparse.spmatrix,
    coords: ArrayLike,
    *,
    n_neighbors: int = 5,
    sections: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Geary's C of genes or latents: how different is a value from those of its neighbors?

    .. math::
        C = \frac{n - 1}{2 \sum_{ij} w_{ij}}
            \frac{\sum_{ij} w_{ij} (x_i - x_j)^2}{\sum_i (x_i - \bar x)^2}

    with :math:`w_{ij} = 1 / k` if j is one of the k cells nearest to i, and 0 otherwise.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples,) or (n_samples, n_features)
        Values: expression, latents. Sparse input is made dense a few columns at a time.
    coords : array-like of shape (n_samples,) or (n_samples, n_dims)
        Positions; their unit does not matter.
    n_neighbors : int, default=5
        k, the number of neighbors of a cell (5 as in the paper's appendix). In a section of
        fewer cells all the others are neighbors.
    sections : array-like of shape (n_samples,), default=None
        One label per row. The statistic is computed within each section. The result is the
        mean over sections, weighted by cells. Sections of fewer than three cells are left out
        with a warning.

    Returns
    -------
    ndarray of shape (n_features,), dtype float64
        Near 0 for values that resemble their neighbors', 1 on average for values placed at
        random, above 1 for values unlike their neighbors'. NaN for features that are constant
        in every section.

    Raises
    ------
    ValueError
        If lengths do not match, anything is NaN or infinite, or no section has three cells.

    See Also
    --------
    morans_i : A statistic of products of neighbors.

    References
    ----------
    R. C. Geary (1954), "The contiguity ratio and statistical mapping", The Incorporated
    Statistician 5.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import gearys_c
    >>> coords = np.arange(6.0)
    >>> step, alternating = [0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1]
    >>> gearys_c(np.column_stack([step, alternating]), coords, n_neighbors=2).round(2)
    array([0.28, 1.39])
    """
    return _per_section(autocorrelation.gearys_c, X, coords, n_neighbors, sections)
