"""Genes where they were not measured: on locations, and in cells.

Imports the mapping, the likeness and the telling of this folder.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from .._utils.arrays import check_array
from .._utils.matrix import evenly_spaced
from ._likeness import Neighbors, apply
from ._mapping import CellMapping
from ._telling import Telling, agreement, tellings, told

Array = NDArray[np.float64]

# Genes that numbers of neighbors are chosen by.
_N_GENES = 200


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
    nothing is moved, are those by which genes that `map_cells` hid from both data sets correlated
    best with what the other data set told, on average. Where it hid none, they are those by which
    held-out cells correlate best with what the others tell. Deviations from the mean of a gene are
    scaled by one number, with which the error of held-out cells is least. Values stay within the
    range of each gene.

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
    cells, locations = mapping.components
    near, way = mapping.cells_of_locations, mapping.tellings[0]
    return _told(X, cells, locations, *mapping.other_cells, near, way)


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
    cells, locations = mapping.components
    near, way = mapping.locations_of_cells, mapping.tellings[1]
    return _told(X, locations, cells, *mapping.other_locations, near, way)


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
    way: Telling | None,
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
    way : Telling or None
        None chooses one.
    """
    way, scale = _calibrated(X, known, rows, others, way)
    found = next(told([way], X, known, asked, near))
    mean = np.asarray(X.mean(axis=0)).ravel()
    found = mean + scale * (found - mean)
    low, high = _range(X)
    return np.clip(found, low, high, out=found)


def _calibrated(
    X: Any,
    known: NDArray[np.float32],
    rows: NDArray[np.intp],
    others: Neighbors,
    way: Telling | None,
) -> tuple[Telling, float]:
    """How values are told, and the scale of what is."""
    X = X[:, evenly_spaced(X.shape[1], _N_GENES)]
    rest = np.setdiff1d(np.arange(len(known)), rows)
    # Where all cells are held out in turn, a regression on all of them has to do.
    rest = rest if len(rest) > 2 * known.shape[1] else np.arange(len(known))
    true = X[rows].toarray() if sp.issparse(X) else X[rows]
    ways = tellings(others) if way is None else [way]
    values = told(ways, X, known, known[rows], others, rest)
    scores = [agreement(found, true) for found in values]
    best = int(np.argmax([score for score, _ in scores]))
    return ways[best], scores[best][1]


def _range(X: Any) -> tuple[Array, Array]:
    low, high = X.min(axis=0), X.max(axis=0)
    if sp.issparse(X):
        low, high = low.toarray(), high.toarray()
    return np.asarray(low).ravel(), np.asarray(high).ravel()
