"""Where cells are on a tissue: a matrix of cells and locations.

Imports all of this folder that is not about genes or labels.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from .._spatial_model import SpatialModel
from .._utils.matrix import in_memory
from .._utils.searches import best_of
from .._utils.validation import check_coords, check_sections
from ..datasets._genes import MIN_SHARE
from ..pipeline._features import components_of, known_cells
from ..places import spacing_of
from ._capacity import assign
from ._joint import Joint
from ._likeness import (
    SHARPNESS,
    Neighbors,
    half_whitened,
    held_out_rows,
    neighbors,
    of_unit_spread,
    other_neighbors,
    scale_of,
)
from ._telling import Telling, agreement, tellings, told

Array = NDArray[np.float64]

# Of the density of a held-out cell's position, the share of a uniform guess.
_UNIFORM = 0.05
# Probability of all places that `predict_places` leaves out.
_LEFT_OUT = 0.001


@dataclass(frozen=True, eq=False)
class CellMapping:
    """Where each cell is, and what tells which cells are like each location.

    `map_cells` makes it.

    Parameters
    ----------
    matrix : csr_matrix of shape (n_cells, n_locations)
        Probability of each location. Rows sum to 1; those of cells that found no room are empty.
    locations : ndarray of shape (n_locations, n_dims)
        In tissue units.
    sections : ndarray of shape (n_locations,), default=None
        Section of each location, where there are several.
    cell_components : ndarray of shape (n_cells, n_components), default=None
        Components of the cells: those that are near to each other are alike. None where places
        are all that is known.
    location_components : ndarray of shape (n_locations, n_components), default=None
        And those of what was measured in the locations.
    tellings : pair of Telling or None, default=(None, None)
        How genes of the cells are told on locations, and those of the locations in cells. None
        is found out by `project_genes` and `impute_genes`.

    Raises
    ------
    ValueError
        If shapes do not fit together, or rows do not sum to 1.

    See Also
    --------
    map_cells : Make one.
    project_genes, impute_genes, project_labels, transfer_labels : What it is for.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> from sklearn_dpvae.mapping import CellMapping
    >>> mapping = CellMapping(csr_matrix([[0.0, 1.0], [0.5, 0.5]]), np.array([[0, 0], [0, 1]]))
    >>> mapping.best
    array([1, 0])
    >>> mapping.n_cells_per_location
    array([0.5, 1.5])
    """

    matrix: Any
    locations: Array
    sections: NDArray[Any] | None = None
    cell_components: NDArray[np.float32] | None = None
    location_components: NDArray[np.float32] | None = None
    tellings: tuple[Telling | None, Telling | None] = (None, None)

    def __post_init__(self) -> None:
        matrix = sp.csr_matrix(self.matrix, dtype=np.float64)
        locations = check_coords(self.locations, name="locations")
        if matrix.shape[1] != len(locations):
            raise ValueError(
                f"matrix has {matrix.shape[1]} columns, but there are {len(locations)} locations. "
                "Pass one column for each."
            )
        total = np.asarray(matrix.sum(axis=1)).ravel()
        if (matrix.data < 0).any() or not np.allclose(total[total > 0], 1.0):
            raise ValueError(
                "matrix must not be negative, and its rows must sum to 1 or be empty; got sums "
                f"from {total.min():.3g} to {total.max():.3g}."
            )
        if self.sections is not None:
            sections = np.asarray(self.sections)
            if sections.shape != (len(locations),):
                raise ValueError(
                    f"sections has shape {sections.shape}, but there are {len(locations)} "
                    "locations. Pass one label for each."
                )
            object.__setattr__(self, "sections", sections)
        if (self.cell_components is None) != (self.location_components is None):
            raise ValueError("pass cell_components and location_components, or neither.")
        if self.cell_components is not None and self.location_components is not None:
            shapes = np.shape(self.cell_components), np.shape(self.location_components)
            if (shapes[0][0], shapes[1][0]) != matrix.shape or shapes[0][1:] != shapes[1][1:]:
                raise ValueError(
                    f"cell_components has shape {shapes[0]} and location_components {shapes[1]}, "
                    f"which does not fit a matrix of {matrix.shape[0]} cells and "
                    f"{matrix.shape[1]} locations."
                )
            for name in ("cell_components", "location_components"):
                object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float32))
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "locations", locations)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def __repr__(self) -> str:
        return f"CellMapping({len(self)} cells, {len(self.locations)} locations)"

    @property
    def by_likeness(self) -> bool:
        """Whether genes and labels go by likeness in components, and not by places."""
        return self.cell_components is not None

    @property
    def best(self) -> NDArray[np.intp]:
        """Most probable location of each cell, -1 for cells that found no room."""
        best = np.asarray(self.matrix.argmax(axis=1)).ravel().astype(np.intp)
        best[np.diff(self.matrix.indptr) == 0] = -1
        return best

    @property
    def n_cells_per_location(self) -> Array:
        """Expected number of cells in each location."""
        return np.asarray(self.matrix.sum(axis=0)).ravel()

    @property
    def components(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of cells and of locations, where there are any."""
        assert self.cell_components is not None and self.location_components is not None
        return self.cell_components, self.location_components

    @cached_property
    def cells_of_locations(self) -> Neighbors:
        """The cells that are most like each location."""
        return neighbors(*self.components)

    @cached_property
    def locations_of_cells(self) -> Neighbors:
        """The locations that are most like each cell."""
        cells, locations = self.components
        return neighbors(locations, cells)

    @cached_property
    def other_cells(self) -> tuple[NDArray[np.intp], Neighbors]:
        """Some cells, and the other cells that are most like them."""
        cells, _ = self.components
        rows = held_out_rows(len(cells))
        return rows, other_neighbors(cells, rows)

    @cached_property
    def other_locations(self) -> tuple[NDArray[np.intp], Neighbors]:
        """Some locations, and the other locations that are most like them."""
        _, locations = self.components
        rows = held_out_rows(len(locations))
        return rows, other_neighbors(locations, rows)


def map_cells(
    model: Any,
    query: Any,
    reference: Any = None,
    *,
    by: str = "expression",
    capacity: ArrayLike | None = None,
    genes: ArrayLike | None = None,
    gene_ids: ArrayLike | None = None,
    sections: ArrayLike | None = None,
    reference_sections: ArrayLike | None = None,
    min_share: float = MIN_SHARE,
) -> CellMapping:
    """Map cells to locations of the reference.

    Parameters
    ----------
    model : SpatialModel or estimator
        Fitted on the reference.
    query : {array-like, sparse matrix} of shape (n_cells, n_genes)
        Cells to map, with the columns that the model takes.
    reference : tuple (X, coords), default=None
        Expression, with the columns of the fit, and positions of the locations. None are the
        cells that the model keeps, 2,000 at most.
    by : {"expression", "place"}, default="expression"
        "expression": locations where expression is most like that of a cell. Take this for genes
        and for labels. "place": where the cell is, all evidence taken together, see
        `DPVAESpatialRegressor.predict_places`.
    capacity : int or array-like of shape (n_locations,), default=None
        Most cells of each location, or of all of them together: a number is shared out evenly.
        Each cell is then assigned to one location, such that the product of the probabilities is
        as large as it can be. Cells that find no room have an empty row.
    genes : array-like of shape (n_genes,), default=None
        Names of the columns of `query`, where `model` is a `SpatialModel`.
    gene_ids : array-like of shape (n_genes,), default=None
        Other names of the columns, such as identifiers of Ensembl.
    sections : array-like of shape (n_cells,), default=None
        Section of each cell.
    reference_sections : array-like of shape (n_locations,), default=None
        Section of each location.
    min_share : float, default=0.05
        Share of the genes that a `SpatialModel` selected that the query must have.

    Returns
    -------
    CellMapping

    Raises
    ------
    ValueError
        If arguments do not fit together, or the model keeps no cells and gets no reference.

    See Also
    --------
    project_genes, impute_genes : Genes on locations, and in cells.
    project_labels, transfer_labels : Labels likewise.
    nearest_locations : Spots nearest to predicted positions.

    Notes
    -----
    Likeness is nearness in two sets of components that count as much: the model's, each divided
    by the root of its standard deviation, and 30 principal components of both data sets together.
    These are of the 2,000 genes in both whose logarithms vary most in the reference, each section
    centered by itself. Without a `reference`, or with fewer than 50 genes in both, only the
    model's are left.

    The weight of a location is a normal curve of the distance. How many locations count, and how
    fast weights fall, is what gives held-out locations the highest probability of their own
    positions, with the expression of all others: each of 1,000 is left out in turn.

    Functions for genes and labels choose numbers of neighbors of their own, by what they are to
    tell. For genes, this is done here: up to 200 genes that both data sets have are hidden from
    5,000 rows of both, and told from the cells on the locations, and the other way round. So it
    is known what tells genes best between these two, however they differ. With a capacity it is
    left out, since genes are then those of the assigned cells.

    Memory is linear in cells. The assignment is exact for up to 1,500 cells and as many places in
    locations; beyond, blocks of that size are exact and the prices by which cells are shared out
    among blocks are those of entropic optimal transport [1]_.

    References
    ----------
    .. [1] Cuturi, M. (2013). Sinkhorn distances: lightspeed computation of optimal transport.
       NIPS 26. https://arxiv.org/abs/1306.0895

    Examples
    --------
    >>> from sklearn_dpvae import make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.mapping import map_cells
    >>> tissue = make_tissue(300, 60, random_state=0)
    >>> pipe = make_spatial_pipeline(max_epochs=3, random_state=0)
    >>> pipe = pipe.fit(tissue.X[:250], tissue.coords[:250])
    >>> mapping = map_cells(pipe, tissue.X[250:], (tissue.X[:250], tissue.coords[:250]))
    >>> mapping
    CellMapping(50 cells, 250 locations)

    One cell in each location at most:

    >>> from numpy import ones
    >>> mapping = map_cells(pipe, tissue.X[250:], capacity=ones(250, dtype=int))
    >>> mapping.n_cells_per_location.max()
    np.float64(1.0)
    """
    if by not in ("expression", "place"):
        raise ValueError(f"by must be 'expression' or 'place', got {by!r}.")
    query = in_memory(query)
    missing = None
    if isinstance(model, SpatialModel):
        names: Any = getattr(query, "columns", model.genes) if genes is None else genes
        query, missing = model.align(query, names, gene_ids=gene_ids, min_share=min_share)
        missing = missing if missing.any() else None
        model = model.pipeline
    elif genes is not None or gene_ids is not None:
        raise ValueError(
            "genes and gene_ids need a SpatialModel, but model is a "
            f"{type(model).__name__}. Pass SpatialModel(pipeline, genes), or a query with the "
            "columns of the fit."
        )
    X, coords = _checked(reference)
    with warnings.catch_warnings():
        # `align` has matched genes by name, and said which are missing.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        if missing is not None:
            warnings.filterwarnings("ignore", message=r".* genes.* are missing in the query")
        if by == "place":
            return _by_place(
                best_of(model), query, coords, capacity, sections, reference_sections, missing
            )
        cells = components_of(model, query, sections=sections, missing_genes=missing)
        joint: Joint | None = None
        if X is not None:
            locations = components_of(model, X, sections=reference_sections)
            joint = Joint.of(query, X, sections, reference_sections, missing)
    labels = None if reference_sections is None else np.asarray(reference_sections)
    if X is None:
        if labels is not None:
            raise ValueError("reference_sections was given without reference. Pass both.")
        locations, coords, codes = known_cells(model)
        labels = codes if codes.any() else None
    assert coords is not None
    likeness = _likeness(cells, locations, joint)
    ways: tuple[Telling | None, Telling | None] = (None, None)
    if joint is not None and capacity is None:
        ways = _best_tellings(model, joint)
    nowhere = sp.csr_matrix((len(cells), len(locations)))
    return _by_expression(CellMapping(nowhere, coords, labels, *likeness, ways), capacity)


def _likeness(
    cells: Array, locations: Array, joint: Joint | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Components in which cells and locations that are alike are near to each other.

    Parameters
    ----------
    cells, locations : ndarray of shape (n_cells, n_components), (n_locations, n_components)
        The model's components.
    joint : Joint or None
        None leaves it at these.
    """
    locations, cells = of_unit_spread(*half_whitened(locations, cells))
    if joint is not None:
        of_cells, of_locations = joint.components()
        of_locations, of_cells = of_unit_spread(of_locations, of_cells)
        cells, locations = np.hstack([cells, of_cells]), np.hstack([locations, of_locations])
    return cells.astype(np.float32), locations.astype(np.float32)


def _best_tellings(model: Any, joint: Joint) -> tuple[Telling | None, Telling | None]:
    """How genes that are hidden from both data sets are told best, on locations and in cells."""
    part = joint.hide()
    if part is None:
        return None, None
    rest, hidden = part
    lacking = np.zeros(rest.cells.X.shape[1], dtype=bool)
    lacking[hidden] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of what is hidden on purpose.
        own_of_cells, own_of_locations = (
            components_of(model, some.X, sections=some.sections, missing_genes=lacking)
            for some in (rest.cells, rest.locations)
        )
    cells, locations = _likeness(own_of_cells, own_of_locations, rest)
    of_cells = joint.cells.at(hidden, joint.cells.some)
    of_locations = joint.locations.at(hidden, joint.locations.some)
    return (
        _best_telling(of_cells, cells, of_locations, locations),
        _best_telling(of_locations, locations, of_cells, cells),
    )


def _best_telling(
    X: Any, known: NDArray[np.float32], true: Any, asked: NDArray[np.float32]
) -> Telling:
    """How values of cells are told best from known ones.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_known, n_genes)
    known : ndarray of shape (n_known, n_components)
    true : {ndarray, CSR matrix} of shape (n_cells, n_genes)
    asked : ndarray of shape (n_cells, n_components)
    """
    rows = held_out_rows(len(asked))
    true = true[rows].toarray() if sp.issparse(true) else true[rows]
    near = neighbors(known, asked[rows])
    ways = tellings(near)
    scores = [agreement(found, true)[0] for found in told(ways, X, known, asked[rows], near)]
    return ways[int(np.argmax(scores))]


def _by_expression(mapping: CellMapping, capacity: ArrayLike | None) -> CellMapping:
    """With a matrix that goes by likeness."""
    n_neighbors, sharpness = _calibrated(mapping)
    near = mapping.locations_of_cells
    if capacity is None:
        return replace(mapping, matrix=near.weights(n_neighbors, sharpness))
    own, others = mapping.components
    scale = scale_of(near.distance[:, :n_neighbors])
    lengths = np.square(others).sum(axis=1)

    def costs(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        squares = np.square(own[rows]).sum(axis=1, keepdims=True) + lengths
        squares -= 2 * own[rows] @ others.T
        return np.maximum(squares, 0.0) * (sharpness / scale[rows] ** 2)

    return _assigned(costs, len(mapping), mapping.locations, mapping.sections, capacity)


def _checked(reference: Any) -> tuple[Any, Array | None]:
    """Expression and positions of a reference."""
    if reference is None:
        return None, None
    if not isinstance(reference, tuple | list) or len(reference) != 2:
        raise ValueError(
            f"reference must be a pair (X, coords), got a {type(reference).__name__}. For an "
            "AnnData, use sklearn_dpvae.anndata.map."
        )
    X, coords = in_memory(reference[0]), check_coords(reference[1], name="reference[1]")
    check_consistent_length(X, coords)
    return X, coords


def _calibrated(mapping: CellMapping) -> tuple[int, float]:
    """Number of neighbors and sharpness by which held-out locations are found best."""
    coords = mapping.locations
    codes, _ = check_sections(mapping.sections, len(coords))
    rows, near = mapping.other_locations
    spacing = np.empty(len(coords))
    n_of_section = np.bincount(codes)
    for code in np.unique(codes):
        own = codes == code
        spacing[own] = spacing_of(coords[own])
    apart = np.linalg.norm(coords[near.index] - coords[rows, None], axis=2) / spacing[rows, None]
    kernel = np.exp(-0.5 * apart**2) * (codes[near.index] == codes[rows, None])
    floor = _UNIFORM / n_of_section[codes[rows]]
    best, chosen = -np.inf, (near.sizes[-1], 2.0)
    for n in near.sizes:
        for sharpness in SHARPNESS:
            weights = near.weights(n, sharpness).data.reshape(len(rows), n)
            density = (1 - _UNIFORM) * (weights * kernel[:, :n]).sum(axis=1) + floor
            score = float(np.log(density).mean())
            if score > best:
                best, chosen = score, (n, sharpness)
    return chosen


def _by_place(
    model: Any,
    query: Any,
    coords: Array | None,
    capacity: ArrayLike | None,
    sections: ArrayLike | None,
    reference_sections: ArrayLike | None,
    missing: NDArray[np.bool_] | None,
) -> CellMapping:
    if reference_sections is not None and len(np.unique(np.asarray(reference_sections))) > 1:
        raise ValueError(
            "by='place' maps to the locations of one section, but reference_sections names "
            "several. Pass the locations of one, or reference=None."
        )
    options: dict[str, Any] = {} if sections is None else {"sections": sections}
    if missing is not None:
        options["missing_genes"] = missing
    places = model.predict_places(query, locations=coords, tolerance=_LEFT_OUT, **options)
    labels = places.sections if coords is None and places.sections.any() else None
    if capacity is None:
        return CellMapping(places.probabilities, places.locations, labels)
    p = places.probabilities
    n_locations = len(places.locations)

    def costs(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        kept = (1 - _LEFT_OUT) * p[rows].toarray() + _LEFT_OUT / n_locations
        return -np.log(kept).astype(np.float32)

    return _assigned(costs, p.shape[0], places.locations, labels, capacity)


def _assigned(
    costs: Any,
    n_cells: int,
    coords: Array,
    labels: NDArray[Any] | None,
    capacity: ArrayLike,
) -> CellMapping:
    where = assign(costs, n_cells, check_capacity(capacity, len(coords)))
    rows = np.flatnonzero(where >= 0)
    matrix = sp.csr_matrix((np.ones(len(rows)), (rows, where[rows])), shape=(n_cells, len(coords)))
    return CellMapping(matrix, coords, labels)


def check_capacity(capacity: Any, n_locations: int) -> NDArray[np.int64]:
    """Most cells of each location.

    Parameters
    ----------
    capacity : int or array-like of shape (n_locations,)
    n_locations : int

    Raises
    ------
    ValueError
        If it is not whole numbers of 0 or more, one for each location, and some above 0.
    """
    remedy = "Pass the most cells of each location, or of all of them together."
    if isinstance(capacity, Integral) and not isinstance(capacity, bool):
        if capacity < 1:
            raise ValueError(f"capacity must be 1 or more, got {capacity}. {remedy}")
        edges = np.arange(n_locations + 1) * int(capacity) // n_locations
        return np.diff(edges).astype(np.int64)
    holds = np.asarray(capacity)
    if holds.shape != (n_locations,):
        raise ValueError(
            f"capacity has shape {holds.shape}, but there are {n_locations} locations. {remedy}"
        )
    whole = holds.astype(np.float64)
    if not np.isfinite(whole).all() or (whole < 0).any() or (whole != np.floor(whole)).any():
        raise ValueError(f"capacity must hold whole numbers of 0 or more. {remedy}")
    if not whole.any():
        raise ValueError(f"capacity is 0 everywhere. {remedy}")
    return whole.astype(np.int64)
