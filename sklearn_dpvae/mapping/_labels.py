"""Labels where there are none: on locations, and in cells.

Imports the mapping and the likeness of this folder.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from .._utils.validation import check_sections
from ._likeness import SHARPNESS, Neighbors, apply
from ._mapping import CellMapping

Array = NDArray[np.float64]

# Neighbors' worth of the overall shares that are added to those of the neighbors.
_ADDED = (0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True, eq=False)
class LabelShares:
    """Share of each label: the composition of locations, or the probabilities of a cell.

    `project_labels` and `transfer_labels` make it.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_classes)
        Shares, whose rows sum to 1, or numbers of cells.
    std : ndarray of shape (n_rows, n_classes)
        Standard deviation of each, given the number of cells that it comes from: of shares as in
        a Dirichlet distribution, of numbers as of independent cells. It knows nothing of kinds
        that are in neither data set.
    classes : ndarray of shape (n_classes,)
        The labels, sorted.
    accuracy : float, optional
        Share of held-out labels that were told right, each from the others of the same data set.
        Expect less where the two data sets differ.
    log_loss : float, optional
        Mean of -log(probability of the true label), in nats, of the same ones.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.mapping import LabelShares
    >>> shares = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> LabelShares(shares, np.full((2, 2), 0.1), np.array(["glia", "neuron"])).best
    array(['glia', 'neuron'], dtype='<U6')
    """

    values: Array
    std: Array
    classes: NDArray[Any]
    accuracy: float | None = None
    log_loss: float | None = None

    @property
    def best(self) -> NDArray[Any]:
        """The label with the largest share of each row."""
        return self.classes[self.values.argmax(axis=1)]


def project_labels(
    mapping: CellMapping, labels: ArrayLike, *, counts: bool = False
) -> LabelShares:
    """Which kinds of cells there are in each location.

    Parameters
    ----------
    mapping : CellMapping
        Take ``by="expression"``, the default of `map_cells`.
    labels : array-like of shape (n_cells,)
        Label of each mapped cell, such as its type.
    counts : bool, default=False
        Whether to count the cells that `mapping.matrix` puts in each location, rather than to
        say which share each kind has. With a capacity, these are whole numbers.

    Returns
    -------
    LabelShares
        Of shape (n_locations, n_classes).

    Raises
    ------
    ValueError
        If there is not one label for each cell, or one is missing.

    See Also
    --------
    transfer_labels : The other way round.

    Notes
    -----
    By expression, shares are those of the cells most like a location, and a little of the overall
    shares. The number of cells, how fast their weights fall with the distance, and how much is
    added are those by which labels of held-out cells are told best. By place, or with a capacity,
    they are those of the cells that are mapped to a location; without any, the overall ones.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae import make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.mapping import map_cells, project_labels
    >>> tissue = make_tissue(300, 60, random_state=0)
    >>> kinds = np.where(tissue.coords[:, 0] > np.median(tissue.coords[:, 0]), "east", "west")
    >>> pipe = make_spatial_pipeline(max_epochs=3, random_state=0)
    >>> pipe = pipe.fit(tissue.X[:200], tissue.coords[:200])
    >>> mapping = map_cells(pipe, tissue.X[200:], (tissue.X[:200], tissue.coords[:200]))
    >>> found = project_labels(mapping, kinds[200:])
    >>> found.values.shape, found.classes
    ((200, 2), array(['east', 'west'], dtype='<U4'))
    """
    codes, classes = _checked(labels, len(mapping), "cell")
    if counts:
        matrix = mapping.matrix
        certain = _one_hot(codes, len(classes))
        numbers = apply(matrix.T.tocsr(), certain)
        squares = apply(matrix.multiply(matrix).T.tocsr(), certain)
        return LabelShares(numbers, np.sqrt(np.maximum(numbers - squares, 0.0)), classes)
    if not mapping.by_likeness:
        return _shares(mapping.matrix.T.tocsr(), codes, classes)
    return _told(codes, classes, *mapping.other_cells, mapping.cells_of_locations)


def transfer_labels(mapping: CellMapping, labels: ArrayLike) -> LabelShares:
    """Which layer, domain or type of the reference each cell belongs to.

    Parameters
    ----------
    mapping : CellMapping
    labels : array-like of shape (n_locations,)
        Label of each location.

    Returns
    -------
    LabelShares
        Probabilities, of shape (n_cells, n_classes).

    Raises
    ------
    ValueError
        If there is not one label for each location, or one is missing.

    See Also
    --------
    project_labels : The other way round, with what is done.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae import make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.mapping import map_cells, transfer_labels
    >>> tissue = make_tissue(300, 60, random_state=0)
    >>> domains = np.where(tissue.coords[:, 0] > np.median(tissue.coords[:, 0]), "east", "west")
    >>> pipe = make_spatial_pipeline(max_epochs=3, random_state=0)
    >>> pipe = pipe.fit(tissue.X[:200], tissue.coords[:200])
    >>> mapping = map_cells(pipe, tissue.X[200:], (tissue.X[:200], tissue.coords[:200]))
    >>> transfer_labels(mapping, domains[:200]).best.shape
    (100,)
    """
    codes, classes = _checked(labels, len(mapping.locations), "location")
    if not mapping.by_likeness:
        return _shares(mapping.matrix, codes, classes)
    return _told(codes, classes, *mapping.other_locations, mapping.locations_of_cells)


def _checked(labels: Any, n_rows: int, what: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    if labels is None or np.ndim(labels) != 1 or len(labels) != n_rows:
        raise ValueError(
            f"labels has shape {np.shape(labels)}, but the mapping has {n_rows} {what}s. Pass one "
            f"label for each {what}."
        )
    return check_sections(labels, n_rows, name="labels")


def _one_hot(codes: NDArray[np.int64], n_classes: int) -> sp.csr_matrix:
    rows = np.arange(len(codes))
    return sp.csr_matrix((np.ones(len(codes)), (rows, codes)), shape=(len(codes), n_classes))


def _shares(
    weights: sp.csr_matrix,
    codes: NDArray[np.int64],
    classes: NDArray[Any],
    added: float = _ADDED[0],
) -> LabelShares:
    """Shares in weighted neighbors, and a little of the overall ones."""
    certain = _one_hot(codes, len(classes))
    overall = np.asarray(certain.mean(axis=0)).ravel()
    total = np.asarray(weights.sum(axis=1)).ravel()
    # Kish's number of neighbors that say as much with equal weights.
    squares = np.asarray(weights.multiply(weights).sum(axis=1)).ravel()
    n_worth = np.divide(total**2, squares, out=np.zeros(len(total)), where=squares > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_neighbors = np.nan_to_num(apply(weights, certain) / total[:, None])
    sums = n_worth[:, None] * of_neighbors + added * overall
    n_all = n_worth + added
    values = sums / n_all[:, None]
    std = np.sqrt(values * (1 - values) / (n_all[:, None] + 1))
    return LabelShares(values, std, classes)


def _told(
    codes: NDArray[np.int64],
    classes: NDArray[Any],
    rows: NDArray[np.intp],
    others: Neighbors,
    near: Neighbors,
) -> LabelShares:
    """Shares in the neighbors, as many as tell held-out labels best."""
    best, chosen, accuracy = np.inf, (others.sizes[-1], SHARPNESS[-1], _ADDED[-1]), 0.0
    own = np.arange(len(rows)), codes[rows]
    for n, sharpness in product(others.sizes, SHARPNESS):
        weights = others.weights(n, sharpness)
        for added in _ADDED:
            values = _shares(weights, codes, classes, added).values
            loss = -float(np.log(values[own]).mean())
            if loss < best:
                best, chosen = loss, (n, sharpness, added)
                accuracy = float((values.argmax(axis=1) == codes[rows]).mean())
    n, sharpness, added = chosen
    found = _shares(near.weights(n, sharpness), codes, classes, added)
    return LabelShares(found.values, found.std, classes, accuracy, best)
