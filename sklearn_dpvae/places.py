"""Where cells may be: a probability for each of many places.

Imports nothing of the package but its checks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, QhullError
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state

from ._utils.validation import check_coords, check_level

__all__ = ["PlaceDistribution"]

Array = NDArray[np.float64]

# Places that count as neighbors where modes and patches are told apart.
_N_NEIGHBORS = 8

# Longest edge of a triangle of neighboring places, in spacings. Longer ones cross a gap.
_MAX_EDGE = 4.0

# Rows that are dense at a time.
_ROWS_PER_CHUNK = 256


@dataclass(frozen=True, eq=False)
class PlaceDistribution:
    """For every cell, the probability of each of many places.

    `predict_places` of a fitted `DPVAESpatialRegressor`, `SpatialPipeline` or `SpatialModel`
    makes it.

    Parameters
    ----------
    probabilities : csr_matrix of shape (n_cells, n_places)
        Rows sum to 1. Small probabilities are left out.
    locations : ndarray of shape (n_places, n_dims)
        The places, in tissue units.
    tolerance : float, default=0.0
        Probability of the places that were left out, at most, of each cell.
    sections : ndarray of shape (n_places,), default=None
        Section of each place, as a number; None where all belong to one. Sections have
        coordinates of their own, so that places of two sections are never neighbors.
    cell_sections : ndarray of shape (n_cells,), default=None
        The section in whose places each cell may be, as such a number.

    See Also
    --------
    sklearn_dpvae.DPVAESpatialRegressor.predict_places : What it is worked out from.
    sklearn_dpvae.metrics.place_log_score : How good it is.

    Notes
    -----
    Probabilities belong to places, not to areas. Where a density is asked for, each place
    stands for a normal distribution around it, whose standard deviation is the spacing of the
    places.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> from sklearn_dpvae.places import PlaceDistribution
    >>> grid = np.stack(np.meshgrid(range(10), range(4)), axis=-1).reshape(-1, 2)
    >>> p = csr_matrix(([0.6, 0.4], ([0, 0], [0, 9])), shape=(1, 40))
    >>> places = PlaceDistribution(p, grid)
    >>> places.mean()
    array([[3.6, 0. ]])
    >>> places.modes()[0]
    array([[0., 0.],
           [9., 0.]])
    >>> places.region(0.5).toarray().sum(axis=1), places.n_patches(0.9)
    (array([1]), array([2]))
    """

    probabilities: Any
    locations: Array
    tolerance: float = 0.0
    sections: NDArray[np.intp] | None = None
    cell_sections: NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        locations = check_coords(self.locations, name="locations")
        probabilities = sp.csr_matrix(self.probabilities, dtype=np.float64)
        if probabilities.shape[1] != len(locations):
            raise ValueError(
                f"probabilities has {probabilities.shape[1]} columns, but there are "
                f"{len(locations)} locations. Pass one column for each."
            )
        total = np.asarray(probabilities.sum(axis=1)).ravel()
        if (probabilities.data < 0).any() or not np.allclose(total, 1.0):
            raise ValueError(
                "probabilities must not be negative and must sum to 1 in each row; got sums "
                f"from {total.min():.3g} to {total.max():.3g}."
            )
        n_cells = probabilities.shape[0]
        of_places = np.zeros(len(locations), dtype=np.intp)
        of_cells = np.zeros(n_cells, dtype=np.intp)
        for name, given, default in (
            ("sections", self.sections, of_places),
            ("cell_sections", self.cell_sections, of_cells),
        ):
            codes = default if given is None else np.asarray(given, dtype=np.intp)
            if codes.shape != default.shape:
                raise ValueError(
                    f"{name} has shape {codes.shape}, but {default.shape} was expected."
                )
            object.__setattr__(self, name, codes)
        object.__setattr__(self, "locations", locations)
        object.__setattr__(self, "probabilities", probabilities)

    def __len__(self) -> int:
        return int(self.probabilities.shape[0])

    def __repr__(self) -> str:
        return f"PlaceDistribution({len(self)} cells, {len(self.locations)} places)"

    def mean(self) -> Array:
        """Mean position of each cell, in tissue units.

        Returns
        -------
        ndarray of shape (n_cells, n_dims)
        """
        return np.asarray(self.probabilities @ self.locations)

    def modes(self, *, min_probability: float = 0.05) -> list[Array]:
        """Places around which the probability of each cell heaps up.

        Each place is led uphill, to the most probable one among it and its eight nearest, until
        a summit is reached. The probability of a heap is that of all places that lead there.
        Before that, probabilities are averaged over neighbors, so that single places are none.

        Parameters
        ----------
        min_probability : float, default=0.05
            Of a heap, for its summit to be returned. The greatest is returned in any case.

        Returns
        -------
        list of ndarray of shape (n_modes, n_dims)
            For each cell its summits, in tissue units, of the most probable heap first.
        """
        smooth = self._neighbors.astype(np.float64)
        smooth = sp.diags_array(1.0 / smooth.sum(axis=1)) @ smooth
        found = []
        for rows, p in self._dense_chunks():
            heights = np.asarray((smooth @ p.T).T)
            for cell, height in zip(range(rows.start, rows.stop), heights, strict=True):
                found.append(self._summits(cell, height, min_probability))
        return found

    def _summits(self, cell: int, height: Array, min_probability: float) -> Array:
        graph = self._neighbors
        own = self.probabilities[cell]
        # Plateaus have one summit: the first of their places.
        rounded = np.round(height / height.max(), 9)
        rank = np.empty(len(height), dtype=np.intp)
        rank[np.lexsort((-np.arange(len(height)), rounded))] = np.arange(len(height))
        leads = graph.indices[_argmax_of_rows(rank[graph.indices], graph.indptr)]
        top = leads[own.indices]
        while (leads[top] != top).any():
            top = leads[top]
        summits, heap = np.unique(top, return_inverse=True)
        mass = np.bincount(heap, weights=own.data)
        order = np.argsort(-mass, kind="stable")
        kept = order[: max(1, int((mass >= min_probability).sum()))]
        return self.locations[summits[kept]]

    def region(self, level: float) -> Any:
        """The fewest places that together hold a cell with a probability.

        Parameters
        ----------
        level : float
            The probability, between 0 and 1.

        Returns
        -------
        csr_matrix of shape (n_cells, n_places), dtype bool
            True for the places of each cell's region, which need not be connected.
        """
        check_level(level)
        p = self.probabilities
        inside = np.empty(p.nnz, dtype=bool)
        for start, stop in zip(p.indptr[:-1], p.indptr[1:], strict=True):
            own = p.data[start:stop]
            order = np.argsort(-own, kind="stable")
            before = np.cumsum(own[order]) - own[order]
            inside[start:stop][order] = before < level
        region = sp.csr_matrix((inside, p.indices, p.indptr), shape=p.shape, copy=True)
        region.eliminate_zeros()
        return region

    def area(self, level: float) -> Array:
        """Area of the region of each cell, see `region`.

        The area of the tissue is shared out among the places: each triangle of neighboring
        places belongs to its corners.

        Parameters
        ----------
        level : float
            Between 0 and 1.

        Returns
        -------
        ndarray of shape (n_cells,)
            In squared tissue units; a length in one dimension, a volume in three.
        """
        return np.asarray(self.region(level) @ self._areas)

    def n_patches(self, level: float) -> NDArray[np.intp]:
        """Number of separate patches of the region of each cell, see `region`.

        Places are connected where one is among the eight nearest of the other. Patches with less
        than a tenth of the region's probability do not count.

        Parameters
        ----------
        level : float
            Between 0 and 1.

        Returns
        -------
        ndarray of shape (n_cells,)
        """
        region = self.region(level)
        counts = np.empty(len(self), dtype=np.intp)
        for cell in range(len(self)):
            inside = region.indices[region.indptr[cell] : region.indptr[cell + 1]]
            graph = self._neighbors[inside][:, inside]
            _, patch = connected_components(graph, directed=False)
            mass = np.bincount(patch, weights=self.probabilities[cell, inside].toarray().ravel())
            counts[cell] = (mass >= 0.1 * mass.sum()).sum()
        return counts

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> Array:
        """Draw places of each cell.

        Parameters
        ----------
        n_samples : int, default=1
            Of each cell.
        random_state : int, RandomState instance or None, default=None
            Seed.

        Returns
        -------
        ndarray of shape (n_cells, n_samples, n_dims)
            Places that were drawn, in tissue units.
        """
        rng = check_random_state(random_state)
        p = self.probabilities
        drawn = np.empty((len(self), n_samples), dtype=np.intp)
        for cell, (start, stop) in enumerate(zip(p.indptr[:-1], p.indptr[1:], strict=True)):
            cumulated = np.cumsum(p.data[start:stop])
            at = np.searchsorted(cumulated, rng.uniform(size=n_samples) * cumulated[-1], "right")
            drawn[cell] = p.indices[start:stop][at]
        return self.locations[drawn]

    def log_density(self, coords: ArrayLike) -> Array:
        """Logarithm of the density of each cell at a position of its own.

        Parameters
        ----------
        coords : array-like of shape (n_cells, n_dims)
            A position for each cell, in the frame of its places.

        Returns
        -------
        ndarray of shape (n_cells,)
            Per squared tissue unit, in two dimensions. What was left out of the probabilities
            counts as spread evenly over all places of the section.
        """
        return self._log_density(coords, uniform=False)

    def log_density_of_uniform(self, coords: ArrayLike) -> Array:
        """The same, of a guess for which all places of a cell's section are equally probable.

        Parameters
        ----------
        coords : array-like of shape (n_cells, n_dims)

        Returns
        -------
        ndarray of shape (n_cells,)
        """
        return self._log_density(coords, uniform=True)

    def _log_density(self, coords: ArrayLike, *, uniform: bool) -> Array:
        coords = check_coords(coords, name="coords")
        n_dims = self.locations.shape[1]
        if coords.shape != (len(self), n_dims):
            raise ValueError(
                f"coords has shape {coords.shape}, but ({len(self)}, {n_dims}) was expected: one "
                "position for each cell."
            )
        logs = np.empty(len(self))
        for code, columns, spacing in self._parts():
            rows = np.flatnonzero(self.cell_sections == code)
            for chunk in np.array_split(rows, max(1, -(-len(rows) // _ROWS_PER_CHUNK))):
                squares = np.zeros((len(chunk), len(columns)))
                for k in range(n_dims):
                    squares += (coords[chunk, k, None] - self.locations[columns, k]) ** 2
                # Relative to the nearest place: far from all of them, nothing underflows.
                nearest = squares.min(axis=1, keepdims=True)
                kernel = np.exp(-0.5 * (squares - nearest) / spacing**2)
                p = np.full(kernel.shape, 1.0 / len(columns))
                if not uniform:
                    kept = self.probabilities[chunk][:, columns].toarray()
                    p = (1 - self.tolerance) * kept + self.tolerance * p
                with np.errstate(divide="ignore"):
                    log = np.log((p * kernel).sum(axis=1)) - 0.5 * nearest[:, 0] / spacing**2
                logs[chunk] = log - 0.5 * n_dims * np.log(2 * np.pi * spacing**2)
        return logs

    def _dense_chunks(self) -> Iterator[tuple[slice, Array]]:
        for start in range(0, len(self), _ROWS_PER_CHUNK):
            rows = slice(start, min(start + _ROWS_PER_CHUNK, len(self)))
            yield rows, self.probabilities[rows].toarray()

    def _parts(self) -> Iterator[tuple[int, NDArray[np.intp], float]]:
        """Each section's number, places, and their spacing."""
        for code in np.unique(np.asarray(self.sections)):
            columns = np.flatnonzero(self.sections == code)
            yield int(code), columns, spacing_of(self.locations[columns])

    @cached_property
    def _neighbors(self) -> Any:
        """Places that are next to each other, every place to itself, too."""
        rows, cols = [], []
        for _, columns, _ in self._parts():
            k = min(_N_NEIGHBORS + 1, len(columns))
            near = NearestNeighbors(n_neighbors=k).fit(self.locations[columns])
            found = near.kneighbors(self.locations[columns], return_distance=False)
            rows += [np.repeat(columns, k), columns]
            cols += [columns[found.ravel()], columns]
        n = len(self.locations)
        pairs = np.concatenate(rows), np.concatenate(cols)
        graph = sp.csr_array((np.ones(len(pairs[0]), dtype=bool), pairs), shape=(n, n))
        return (graph + graph.T).astype(bool).tocsr()

    @cached_property
    def _areas(self) -> Array:
        areas = np.empty(len(self.locations))
        for _, columns, spacing in self._parts():
            areas[columns] = areas_of(self.locations[columns], spacing)
        return areas


def _argmax_of_rows(values: NDArray[np.intp], indptr: NDArray[Any]) -> NDArray[np.intp]:
    """Position of the greatest of the distinct values in each row of a CSR matrix."""
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    last: NDArray[np.intp] = np.lexsort((values, rows))[indptr[1:] - 1]
    return last


def spacing_of(points: Array) -> float:
    """Median distance of points to their nearest other one; 1 where all are the same."""
    distinct = np.unique(points, axis=0)
    if len(distinct) < 2:
        return 1.0
    near = NearestNeighbors(n_neighbors=1).fit(distinct)
    return float(np.median(near.kneighbors()[0]))


def areas_of(points: Array, spacing: float) -> Array:
    """Share of each point in the area that points cover."""
    n, n_dims = points.shape
    if n_dims == 1:
        order = np.argsort(points[:, 0], kind="stable")
        gaps = np.diff(points[order, 0])
        halves = np.where(gaps <= _MAX_EDGE * spacing, gaps, 0.0) / 2
        lengths = np.empty(n)
        lengths[order] = np.append(halves, 0.0) + np.append(0.0, halves)
        return lengths
    try:
        simplices = Delaunay(points).simplices
    except (QhullError, ValueError):  # Too few points, or all on one line.
        return np.zeros(n)
    corners = points[simplices]
    edges = corners[:, 1:] - corners[:, :1]
    factorial = float(np.prod(np.arange(1, n_dims + 1)))
    sizes = np.abs(np.linalg.det(edges)) / factorial
    longest = np.max(
        [
            np.linalg.norm(corners[:, i] - corners[:, j], axis=1)
            for i in range(n_dims + 1)
            for j in range(i)
        ],
        axis=0,
    )
    sizes[longest > _MAX_EDGE * spacing] = 0.0
    shares = np.repeat(sizes / (n_dims + 1), n_dims + 1)
    return np.bincount(simplices.ravel(), weights=shares, minlength=n).astype(np.float64)
