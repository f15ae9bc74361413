"""Genes where they were not measured: on locations, and in cells.

Imports the mapping and the likeness of this folder.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from .._utils.arrays import check_array
from ._likeness import Neighbors, apply
from ._mapping import CellMapping

Array = NDArray[np.float64]

# Genes that numbers of neighbors are chosen by.
_N_GENES = 200
# How much of a regression's slope is followed between neighbors, to choose from.
_SLOPES = (0.0, 0.5, 1.0)
# Penalty of the regression, over the number of cells.
_PENALTY = 1e-3


def project_genes(mapping: CellMapping, X: ArrayLike) -> Array:
    """What genes of the cells look like on the tissue.

    Parameters
    ----------
    mapping : CellMapping
        Take ``by="expression"``, the default of `map_cells`: predicted places are worse for
        this.
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
        Any values of the mapped cells: genes that the reference lacks, as a rule. Logarithms of
        normalized counts make maps in which deep cells do not stand out.

    Returns
    -------
    ndarray of shape (n_locations, n_genes)
        In the unit of `X`. NaN in locations that no cell is mapped to, which there are only by
        place or with a capacity.

    Raises
    ------
    ValueError
        If `X` has not one row for each cell.

    See Also
    --------
    impute_genes : The other way round.

    Notes
    -----
    By expression, the value of a location is a weighted mean of the cells most like it, moved
    along the slope of a ridge regression on components from where these are to where the location
    is. The number of cells, which may be all of them, and the share of the slope are those by
    which held-out cells are told best from the others. Values stay within the range of each gene.

    By place, or with a capacity, it is the mean of the cells that are mapped to a location.

    Examples
    --------
    >>> from sklearn_dpvae import make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.mapping import map_cells, project_genes
    >>> tissue = make_tissue(300, 60, random_state=0)
    >>> panel = tissue.X[:, :50]
    >>> pipe = make_spatial_pipeline(max_epochs=3, random_state=0)
    >>> pipe = pipe.fit(panel[:200], tissue.coords[:200])
    >>> mapping = map_cells(pipe, panel[200:], (panel[:200], tissue.coords[:200]))
    >>> project_genes(mapping, tissue.X[200:, 50:]).shape
    (200, 10)
    """
    X = _checked(X, len(mapping), "cell")
    if not mapping.by_likeness:
        return _means(mapping.matrix.T.tocsr(), X)
    cells, locations = mapping._half_whitened
    return _told(X, cells, locations, *mapping.other_cells, mapping.cells_of_locations)


def impute_genes(mapping: CellMapping, X: ArrayLike) -> Array:
    """What genes of the reference would be in the cells.

    Parameters
    ----------
    mapping : CellMapping
    X : {array-like, sparse matrix} of shape (n_locations, n_genes)
        Any values of the locations: genes that the cells were not measured for, as a rule.

    Returns
    -------
    ndarray of shape (n_cells, n_genes)
        In the unit of `X`. NaN in cells that found no room.

    Raises
    ------
    ValueError
        If `X` has not one row for each location.

    See Also
    --------
    project_genes : The other way round, with what is done.

    Examples
    --------
    >>> from sklearn_dpvae import make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.mapping import impute_genes, map_cells
    >>> tissue = make_tissue(300, 60, random_state=0)
    >>> panel = tissue.X[:, :50]
    >>> pipe = make_spatial_pipeline(max_epochs=3, random_state=0)
    >>> pipe = pipe.fit(panel[:200], tissue.coords[:200])
    >>> mapping = map_cells(pipe, panel[200:], (panel[:200], tissue.coords[:200]))
    >>> impute_genes(mapping, tissue.X[:200, 50:]).shape
    (100, 10)
    """
    X = _checked(X, len(mapping.locations), "location")
    if not mapping.by_likeness:
        return _means(mapping.matrix, X)
    cells, locations = mapping._half_whitened
    return _told(X, locations, cells, *mapping.other_locations, mapping.locations_of_cells)


def _checked(X: Any, n_rows: int, what: str) -> Any:
    X = check_array(X, accept_sparse="csr", dtype="numeric", input_name="X")
    if X.shape[0] != n_rows:
        raise ValueError(
            f"X has {X.shape[0]} rows, but the mapping has {n_rows} {what}s. Pass one row for "
            f"each {what}."
        )
    return X


def _means(matrix: sp.csr_matrix, X: Any) -> Array:
    """Means of what is mapped to each row, NaN where that is nothing."""
    total = np.asarray(matrix.sum(axis=1)).ravel()
    found = apply(matrix, X)
    with np.errstate(invalid="ignore"):
        return found / np.where(total > 0, total, np.nan)[:, None]


def _told(
    X: Any,
    known: NDArray[np.float32],
    asked: NDArray[np.float32],
    rows: NDArray[np.intp],
    others: Neighbors,
    near: Neighbors,
) -> Array:
    """Values of cells, told from known ones that are like them.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_known, n_genes)
    known : ndarray of shape (n_known, n_components)
    asked : ndarray of shape (n_cells, n_components)
    rows : ndarray of int
        Known cells to choose by.
    others : Neighbors
        Of these, among all others.
    near : Neighbors
        Of the cells that are asked for.
    """
    n_neighbors, slope = _calibrated(X, known, rows, others)
    if n_neighbors is None:
        weights = _everyone(len(asked), len(known))
    else:
        weights = near.weights(n_neighbors)
    found = apply(weights, X)
    if slope:
        found += slope * (asked - apply(weights, known)) @ _slopes(X, known)
    low, high = _range(X)
    return np.clip(found, low, high, out=found)


def _calibrated(
    X: Any, known: NDArray[np.float32], rows: NDArray[np.intp], others: Neighbors
) -> tuple[int | None, float]:
    """Number of neighbors, None for all, and share of the slope that tell held-out cells best."""
    X = X[:, np.unique(np.linspace(0, X.shape[1] - 1, _N_GENES).astype(np.intp))]
    rest = np.setdiff1d(np.arange(len(known)), rows)
    # Of few cells, the regression saw those that are told, in one of very many dimensions' worth.
    rest = rest if len(rest) > 2 * known.shape[1] else np.arange(len(known))
    slopes = _slopes(X[rest], known[rest])
    true = X[rows].toarray() if sp.issparse(X) else X[rows]
    varies = true.std(axis=0) > 0
    if not varies.any():
        return others.sizes[-1], 0.0
    variance = true[:, varies].var(axis=0)

    def error(found: Array) -> float:
        return float((np.square(found - true)[:, varies].mean(axis=0) / variance).mean())

    tried: dict[tuple[int | None, float], float] = {}
    everyone = _everyone(len(rows), len(known))
    for n_neighbors, weights in (
        *((n, others.weights(n)) for n in others.sizes),
        (None, everyone),
    ):
        found = apply(weights, X)
        moves = (known[rows] - apply(weights, known)) @ slopes
        for slope in _SLOPES:
            tried[n_neighbors, slope] = error(found + slope * moves)
    return min(tried, key=lambda choice: tried[choice])


def _everyone(n_rows: int, n_known: int) -> Any:
    return np.broadcast_to(1.0 / n_known, (n_rows, n_known))


def _slopes(X: Any, known: NDArray[np.float32]) -> Array:
    """Slopes of a ridge regression from components to values."""
    centered = known.astype(np.float64) - known.mean(axis=0, dtype=np.float64)
    penalty = _PENALTY * len(known) * np.square(centered).mean()
    left = centered.T @ centered + penalty * np.eye(known.shape[1])
    right = X.T @ centered
    return np.linalg.solve(left, np.asarray(right).T)


def _range(X: Any) -> tuple[Array, Array]:
    low, high = X.min(axis=0), X.max(axis=0)
    if sp.issparse(X):
        low, high = low.toarray(), high.toarray()
    return np.asarray(low).ravel(), np.asarray(high).ravel()
