"""Cells of a query whose places are asked for, section by section, and the answer for all.

Imports the evidence, the known cells and the places.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

from ..places import PlaceDistribution, spacing_of
from .evidence import SectionEvidence, probabilities
from .known_cells import KnownCells

Array = NDArray[np.float64]

_ROWS_PER_CHUNK = 256


@dataclass(frozen=True, eq=False)
class AskedSection:
    """Cells of a query whose places are asked for, and what tells them.

    Attributes
    ----------
    rows : ndarray of shape (n_rows,)
        Which of the query's cells.
    features : ndarray of shape (n_rows, n_features)
        What tells these cells apart.
    placed : ndarray of shape (n_rows, n_dims)
        Their predicted positions, in the frame of the reference.
    scores : ndarray of shape (n_rows,)
        Expected errors of these.
    evidence : SectionEvidence
        In the same frame.
    weights : ndarray of shape (4,)
        Powers of the kinds of evidence.
    places : ndarray of shape (n_places, n_dims)
        The places of the evidence, in the frame of the answers.
    number : int
        Of the section of the reference; others have numbers of their own.
    known : KnownCells, optional
        Those of the rows whose places are known.
    """

    rows: NDArray[np.intp]
    features: Array
    placed: Array
    scores: Array
    evidence: SectionEvidence
    weights: Array
    places: Array
    number: int
    known: KnownCells | None = None

    def probabilities(self, chunk: slice) -> Array:
        """Probability of every place, for some of the rows."""
        own = self.features[chunk], self.placed[chunk], self.scores[chunk]
        return probabilities(self.evidence.of(*own), self.weights)

    def place_of(self, places: Array) -> NDArray[np.intp]:
        """Of cells that are known, the place that is theirs or the nearest; -1 for all others."""
        found = np.full(len(self.rows), -1)
        if self.known is not None:
            nearest = NearestNeighbors(n_neighbors=1).fit(places)
            own = nearest.kneighbors(self.known.coords, return_distance=False).ravel()
            found[self.known.indices] = own
        return found


def distribution_over(
    asked: Sequence[AskedSection], n_cells: int, locations: Array | None, tolerance: float
) -> PlaceDistribution:
    """Where the cells of all sections may be.

    Parameters
    ----------
    asked : sequence of AskedSection
        Each cell is in one of them.
    n_cells : int
    locations : ndarray of shape (n_locations, n_dims), optional
        Places for all of them; None are those of each section.
    tolerance : float
        Probability that may be left out, of each cell.
    """
    offsets = np.cumsum([0, *(len(section.places) for section in asked)])
    n_places = int(offsets[-1]) if locations is None else len(locations)
    rows, parts = [], []
    for section, offset in zip(asked, offsets, strict=False):
        move = None if locations is None else moved_to(section.places, locations)
        start = int(offset) if move is None else 0
        place_of = section.place_of(section.places if locations is None else locations)
        for chunk in gen_batches(len(section.rows), _ROWS_PER_CHUNK):
            cells = section.rows[chunk]
            p = section.probabilities(chunk)
            p = p if move is None else np.asarray(p @ move)
            known_here = np.flatnonzero(place_of[chunk] >= 0)
            p[known_here] = 0.0
            p[known_here, place_of[chunk][known_here]] = 1.0
            kept = without_small(p, tolerance)
            parts.append(
                sp.csr_matrix(
                    (kept.data, kept.indices + start, kept.indptr),
                    shape=(len(cells), n_places),
                )
            )
            rows.append(cells)
    order = np.argsort(np.concatenate(rows), kind="stable")
    together = sp.vstack(parts, format="csr")[order]
    if locations is not None:
        return PlaceDistribution(together, locations, tolerance)
    numbers = [section.number for section in asked]
    of_cells = np.empty(n_cells, dtype=np.intp)
    for section in asked:
        of_cells[section.rows] = section.number
    return PlaceDistribution(
        together,
        np.concatenate([section.places for section in asked]),
        tolerance,
        np.repeat(numbers, np.diff(offsets)),
        of_cells,
    )


def moved_to(places: Array, locations: Array) -> sp.csr_array:
    """Shares in which locations take over the probability of places, those that are near."""
    width = 0.5 * max(spacing_of(places), spacing_of(locations))
    tree = NearestNeighbors(n_neighbors=1).fit(locations)
    graph = tree.radius_neighbors_graph(places, radius=3.0 * width, mode="distance")
    graph.data = np.exp(-0.5 * (graph.data / width) ** 2)
    alone = np.flatnonzero(np.asarray(graph.sum(axis=1)).ravel() == 0)
    if len(alone):
        nearest = tree.kneighbors(places[alone], return_distance=False).ravel()
        graph = graph + sp.csr_matrix((np.ones(len(alone)), (alone, nearest)), shape=graph.shape)
    shares = sp.csr_array(graph)
    return sp.csr_array(sp.diags_array(1.0 / shares.sum(axis=1)) @ shares)


def without_small(p: Array, tolerance: float) -> sp.csr_array:
    """Rows without the smallest values, which together are at most `tolerance`, summing to 1."""
    order = np.argsort(p, axis=1)
    summed = np.cumsum(np.take_along_axis(p, order, axis=1), axis=1)
    dropped = np.empty(p.shape, dtype=bool)
    np.put_along_axis(dropped, order, summed <= tolerance, axis=1)
    kept = np.where(dropped, 0.0, p)
    return sp.csr_array(kept / kept.sum(axis=1, keepdims=True))
