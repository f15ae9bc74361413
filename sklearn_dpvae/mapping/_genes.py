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
# Penalties of the regression, over the sum of squares of a component, to choose from.
_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)


def project_genes(mapping: CellMapping, X: ArrayLike) -> Array:
    """What genes of the cells look like on the tissue.

    Parameters
    ----------
    mapping : CellMapping
        As a rule ``by="expression"``, the default of `map_cells`.
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
    is. The number of cells, which may be all of them, and the penalty, which may be so large that
    nothing is moved, are those by which held-out cells correlate best with what the others tell,
    on average over genes. Deviations from the mean of a gene are scaled by one number, with which
    the held-out error is least. Values stay within the range of each gene.

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
    n_neighbors, penalty, scale = _calibrated(X, known, rows, others)
    weights = None if n_neighbors is None else near.weights(n_neighbors)
    found = _weighted(weights, X, len(asked))
    if penalty is not None:
        moved = asked - _weighted(weights, known, len(asked))
        found += moved @ _slopes(X, known, penalty)
    mean = np.asarray(X.mean(axis=0)).ravel()
    found = mean + scale * (found - mean)
    low, high = _range(X)
    return np.clip(found, low, high, out=found)


def _calibrated(
    X: Any, known: NDArray[np.float32], rows: NDArray[np.intp], others: Neighbors
) -> tuple[int | None, float | None, float]:
    """Number of neighbors, None for all; penalty, None for no slope; scale of what is told."""
    X = X[:, np.unique(np.linspace(0, X.shape[1] - 1, _N_GENES).astype(np.intp))]
    rest = np.setdiff1d(np.arange(len(known)), rows)
    # Where all cells are held out in turn, a regression on all of them has to do.
    rest = rest if len(rest) > 2 * known.shape[1] else np.arange(len(known))
    true = X[rows].toarray() if sp.issparse(X) else X[rows]
    slopes = {penalty: _slopes(X[rest], known[rest], penalty) for penalty in _PENALTIES}
    best = -np.inf
    chosen: tuple[int | None, float | None, float] = (others.sizes[-1], None, 1.0)
    for n in (*others.sizes, None):
        weights = None if n is None else others.weights(n)
        means = _weighted(weights, X, len(rows))
        moved = known[rows] - _weighted(weights, known, len(rows))
        told: dict[float | None, Array] = {None: means} if n is not None else {}
        told |= {penalty: means + moved @ slopes[penalty] for penalty in _PENALTIES}
        for penalty, found in told.items():
            score, scale = _agreement(found, true)
            if score > best:
                best, chosen = score, (n, penalty, scale)
    return chosen


def _agreement(found: Array, true: Array) -> tuple[float, float]:
    """Mean over genes of the correlation over cells, and the scale of what was found.

    A gene that is constant has a correlation of 0. With its deviations times the scale, what was
    found has the least squared error, relative to the variances of the genes.
    """
    spread = true.std(axis=0)
    spread[spread == 0] = np.inf
    found, true = (found - found.mean(axis=0)) / spread, (true - true.mean(axis=0)) / spread
    products = np.einsum("ij,ij->j", found, true)
    squares = np.square(found).sum(axis=0)
    lengths = np.sqrt(squares * np.square(true).sum(axis=0))
    score = np.divide(products, lengths, out=np.zeros_like(lengths), where=lengths > 0).mean()
    if squares.sum() == 0:
        return float(score), 1.0
    return float(score), max(float(products.sum() / squares.sum()), 0.0)


def _weighted(weights: Any, values: Any, n_rows: int) -> Array:
    """Weighted means of known cells; without weights, of all of them."""
    if weights is not None:
        return apply(weights, values)
    mean = np.asarray(values.mean(axis=0), dtype=np.float64).ravel()
    return np.tile(mean, (n_rows, 1))


def _slopes(X: Any, known: NDArray[np.float32], penalty: float) -> Array:
    """Slopes of a ridge regression from components to values."""
    centered = known.astype(np.float64) - known.mean(axis=0, dtype=np.float64)
    left = centered.T @ centered
    left += penalty * np.trace(left) / len(left) * np.eye(len(left))
    return np.linalg.solve(left, np.asarray(X.T @ centered).T)


def _range(X: Any) -> tuple[Array, Array]:
    low, high = X.min(axis=0), X.max(axis=0)
    if sp.issparse(X):
        low, high = low.toarray(), high.toarray()
    return np.asarray(low).ravel(), np.asarray(high).ravel()
