"""Where cells may be, by the cells of the reference that a fitted model keeps.

Imports the evidence, the known cells, the novelty, the sections asked for, the placements, the
places and the base of values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import gen_batches

from .._network.places import PlaceNet
from .._training.reference import Matrix
from .._utils.matrix import evenly_spaced
from ..places import PlaceDistribution
from .adaptation import MAX_ANCHORS
from .asked_section import AskedSection, distribution_over
from .evidence import (
    MIN_CELLS,
    N_KINDS,
    SectionEvidence,
    fit_weights,
    learn_places,
    nearest_places,
    probabilities,
    section_evidence,
    spatial_medians,
    tempered,
)
from .known_cells import KnownCells
from .novelty import Novelty
from .placement import pose_of
from .value import Value

Array = NDArray[np.float64]

# Cells of each section that the powers are fitted on.
CELLS_FOR_WEIGHTS = 300
# Where no cells tell better: the normal distribution around the position alone.
_NORMAL_ALONE = np.eye(N_KINDS)[-1]
# Cells that count as much as what was known before, where a few located ones are added.
_STRENGTH_OF_BEFORE = 5.0
_ROWS_PER_CHUNK = 256
# Of the network that tells places.
_N_MEMBERS = 2
# Of the way to the median, what is gone in another section or a part that is all new.
_SHARE_ELSEWHERE = 0.5


@dataclass(frozen=True, eq=False)
class PlaceTable:
    """Evidence of the places of cells of the reference that were left out of a fit.

    Attributes
    ----------
    cells : ndarray of shape (n_cells,)
        Indices among the cells that a model keeps.
    evidence : ndarray of shape (6, n_cells, n_places)
        With expected errors of 1.
    true : ndarray of shape (n_cells,)
        The place nearest to each cell's own.
    places : ndarray of shape (n_places, n_dims)
    some : slice
        Of the cells, those that the powers are fitted on.
    """

    cells: NDArray[np.intp]
    evidence: Array
    true: NDArray[np.intp]
    places: Array
    some: slice

    def with_errors(self, scores: Array) -> Array:
        """The evidence with expected errors of all cells that a model keeps."""
        evidence = self.evidence.copy()
        evidence[-1] /= np.square(scores[self.cells])[:, None]
        return evidence


@dataclass(frozen=True, eq=False)
class PlaceModel(Value):
    """Known cells of the reference, and how much each kind of evidence counts.

    Attributes
    ----------
    features : ndarray of shape (n_cells, n_features)
        What tells cells of the reference apart: the inputs of the networks where these are
        components, else latents.
    coords : ndarray of shape (n_cells, n_dims)
        Where they are.
    codes : ndarray of shape (n_cells,)
        In which section.
    from_inputs : bool
        Whether features are inputs.
    placed : ndarray of shape (n_cells, n_dims)
        Where they would be placed by networks that were not trained on them.
    scores : ndarray of shape (n_cells,)
        Expected errors of these positions, in tissue units.
    known_weights : ndarray of shape (6,), optional
        Powers of the kinds of evidence, see `SectionEvidence`, where cells that are new to all
        steps have told them. Else they come from the cells above, each left out in turn.
    median_share : float, default=0.0
        How far positions go from what the networks say to the median of the probabilities: all
        the way, 1, where that places cells better that are new to all steps.
    doubt : float, default=0.0
        How strongly the powers are `tempered` in `distribution`, and not in `positions`.
    net : PlaceNet, optional
        Tells how likely a cell is from each of these cells' places.
    """

    features: Array
    coords: Array
    codes: NDArray[np.int64]
    from_inputs: bool
    placed: Array
    scores: Array
    known_weights: Array | None = None
    median_share: float = 0.0
    doubt: float = 0.0
    net: PlaceNet | None = None

    @cached_property
    def weights(self) -> Array:
        """Powers of the kinds of evidence."""
        if self.known_weights is not None:
            return self.known_weights
        tables = []
        rng = np.random.RandomState(0)
        for code, evidence in self._evidence.items():
            rows = np.flatnonzero(self.codes == code)
            if len(rows) < MIN_CELLS:
                continue
            some = np.sort(rng.permutation(len(rows))[:CELLS_FOR_WEIGHTS])
            own = rows[some]
            table = evidence.of_own(some, self.placed[own], self.scores[own])
            tables.append((table, nearest_places(self.coords[own], self.coords[rows], some)))
        return fit_weights(tables) if tables else _NORMAL_ALONE

    @property
    def extent(self) -> float:
        """Root-mean-square distance of the known cells from the middle of their section."""
        squares = [
            np.square(own - own.mean(axis=0)).sum(axis=1)
            for own in (self.coords[self.codes == code] for code in np.unique(self.codes))
        ]
        return float(np.sqrt(np.mean(np.concatenate(squares))))

    @cached_property
    def _evidence(self) -> dict[int, SectionEvidence]:
        return section_evidence(self.features, self.coords, self.codes, self.net)

    def distribution(
        self,
        features: Array,
        placed: Array,
        scores: Array,
        codes: NDArray[np.int64],
        locations: Array | None,
        tolerance: float,
        known: Sequence[KnownCells] = (),
    ) -> PlaceDistribution:
        """Where new cells may be.

        Parameters
        ----------
        features : ndarray of shape (n_cells, n_features)
        placed : ndarray of shape (n_cells, n_dims)
            Their predicted positions.
        scores : ndarray of shape (n_cells,)
            Expected errors of these.
        codes : ndarray of shape (n_cells,)
            The section whose frame each cell is answered in.
        locations : ndarray of shape (n_locations, n_dims), optional
            Places; those of the reference's cells by default, and those of known cells.
        tolerance : float
            Probability that may be left out, of each cell.
        known : sequence of KnownCells
            Sections of the query of which some cells are known.
        """
        others = np.ones(len(codes), dtype=bool)
        for own in known:
            others[own.rows] = False
        asked = [
            self._like_reference(
                int(code), np.flatnonzero(others & (codes == code)), features, placed, scores
            )
            for code in np.unique(codes[others])
        ]
        asked += [
            self._with_known(own, features, placed, scores, codes, len(self._evidence) + i)
            for i, own in enumerate(known)
        ]
        return distribution_over(asked, len(codes), locations, tolerance)

    def _like_reference(
        self, code: int, rows: NDArray[np.intp], features: Array, placed: Array, scores: Array
    ) -> AskedSection:
        """Cells of which none is known, in the frame of a section of the reference."""
        evidence = self._evidence[code]
        weights = tempered(self.weights, self.doubt)
        own = features[rows], placed[rows], scores[rows]
        return AskedSection(rows, *own, evidence, weights, evidence.coords, code)

    def _with_known(
        self,
        known: KnownCells,
        features: Array,
        placed: Array,
        scores: Array,
        codes: NDArray[np.int64],
        number: int,
    ) -> AskedSection:
        """Cells of a section of which some are known, in the frame of these.

        Known cells join those of the reference. Where they have taught a map, it tells the
        predicted position, and the powers are those by which they are found best themselves,
        each without its own place.
        """
        rows, own = known.rows, known.rows[known.indices]
        reference, adapted = self._evidence[int(codes[rows[0]])], known.adapted
        pose = pose_of(placed[own], known.coords)
        there = pose.inverse_transform(known.coords)
        joined = np.arange(len(own))
        if len(own) > MAX_ANCHORS:
            joined = evenly_spaced(len(own), MAX_ANCHORS) if adapted is None else adapted.left_out
        evidence = reference.joined_by(features[own[joined]], there[joined])
        weights = tempered(self.weights, self.doubt)
        here, expected = placed[rows], scores[rows]
        if adapted is not None:
            here = pose.inverse_transform(adapted.coords)
            expected = adapted.radius(0.5) / pose.scale
            some = evenly_spaced(len(adapted.left_out), CELLS_FOR_WEIGHTS)
            left_out = adapted.left_out[some]
            as_new = pose.inverse_transform(adapted.as_new[some])
            theirs = len(reference.coords) + np.searchsorted(joined, left_out)
            errors = adapted.radius_as_new(0.5)[some] / pose.scale
            table = evidence.of_own(theirs, as_new, errors)
            true = nearest_places(there[left_out], evidence.coords, theirs)
            weights = fit_weights([(table, true)], weights, _STRENGTH_OF_BEFORE)
        places = np.vstack([pose.transform(reference.coords), known.coords[joined]])
        own_features = features[rows]
        return AskedSection(
            rows, own_features, here, expected, evidence, weights, places, number, known
        )

    def positions(
        self,
        features: Array,
        placed: Array,
        scores: Array,
        codes: NDArray[np.int64],
    ) -> Array:
        """Positions on the way to the spatial median of where each cell may be.

        Parameters
        ----------
        features, placed, scores, codes
            See `distribution`.

        Returns
        -------
        ndarray of shape (n_cells, n_dims)
            Cells of sections that are too small to say anything stay where they are `placed`.
        """
        points = placed.copy()
        for code in np.unique(codes):
            evidence = self._evidence[int(code)]
            if len(evidence.coords) < MIN_CELLS:
                continue
            own = np.flatnonzero(codes == code)
            for chunk in gen_batches(len(own), _ROWS_PER_CHUNK):
                cells = own[chunk]
                known = evidence.of(features[cells], placed[cells], scores[cells])
                p = probabilities(known, self.weights)
                medians = spatial_medians(p, evidence.coords)
                points[cells] += self.median_share * (medians - placed[cells])
        return points

    def errors_of_medians(self, tables: list[PlaceTable], scores: Array) -> Array:
        """Distances of the cells that the model keeps from the medians of where they may be.

        Parameters
        ----------
        tables : list of PlaceTable
        scores : ndarray of shape (n_cells,)
            Expected errors of the cells that the model keeps.

        Returns
        -------
        ndarray of shape (n_cells,)
            NaN for cells that no table has.
        """
        errors = np.full(len(self.coords), np.nan)
        for table in tables:
            p = probabilities(table.with_errors(scores), self.weights)
            points = spatial_medians(p, table.places)
            errors[table.cells] = np.linalg.norm(points - self.coords[table.cells], axis=1)
        return errors

    @cached_property
    def novelty(self) -> Novelty:
        """Tells whether a query is of a part that the known cells lack."""
        return Novelty(self.features, self.coords, self.codes, self.placed)

    def for_another_section(self) -> Self:
        """The same model for another section: tempered, and half as far from the networks.

        Which of networks and medians is closer there, left-out cells of the reference do not
        tell. Their errors differ, so that the middle between them is never far from the better
        one.
        """
        share = _SHARE_ELSEWHERE * self.median_share
        return self._with(median_share=share, known_weights=tempered(self.weights))

    def for_new_part(self, strength: float) -> Self:
        """The same model for a part of the tissue that the reference lacks.

        Where a cell of it may be is told less surely, but the medians do not move for that.

        Parameters
        ----------
        strength : float
            1 for a part that is all new, 0 for none of it.
        """
        share = (1 - (1 - _SHARE_ELSEWHERE) * strength) * self.median_share
        return self._with(median_share=share, doubt=strength)

    def with_net(
        self,
        features: Array,
        coords: Array,
        codes: NDArray[np.int64],
        *,
        n_epochs: int,
        seed: int,
    ) -> Self:
        """The same model, with a network that has learned to tell places.

        Parameters
        ----------
        features : ndarray of shape (n_cells, n_features)
        coords : ndarray of shape (n_cells, n_dims)
        codes : ndarray of shape (n_cells,)
            Of cells of the reference.
        n_epochs, seed : int
            See `learn_places`.
        """
        net = learn_places(
            features,
            coords,
            codes,
            self.coords,
            self.codes,
            n_members=_N_MEMBERS,
            n_epochs=n_epochs,
            seed=seed,
        )
        return replace(self, net=net)

    def with_weights(self, weights: Array) -> Self:
        """The same model, with other powers."""
        return self._with(known_weights=weights)

    def _with(self, **changes: Any) -> Self:
        """The same cells, and what has been worked out of them: a matrix is costly to invert."""
        other = replace(self, **changes)
        vars(other)["_evidence"] = self._evidence
        return other

    def features_of(self, X: Matrix, latents: Array | None) -> Array:
        """What tells cells apart, of `latents` or, where these were the features, of inputs."""
        if self.from_inputs:
            return np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)
        assert latents is not None
        return latents

    def with_weights_from(self, tables: list[PlaceTable], scores: Array) -> Self:
        """The same model, with powers by which cells that are new to all steps are found best.

        Parameters
        ----------
        tables : list of PlaceTable
        scores : ndarray of shape (n_cells,)
            Expected errors of the cells that the model keeps.
        """
        known = [
            (table.with_errors(scores)[:, table.some], table.true[table.some]) for table in tables
        ]
        return self.with_weights(fit_weights(known))

    def calibrated(
        self,
        features: Array,
        placed: Array,
        scores: Array,
        codes: NDArray[np.int64],
        coords: Array,
    ) -> Self:
        """The same model, with powers by which the cells that are given are found best.

        Parameters
        ----------
        features, placed, scores, codes
            See `distribution`.
        coords : ndarray of shape (n_cells, n_dims)
            Where they are.
        """
        tables = []
        for code, evidence in self._evidence.items():
            own = np.flatnonzero(codes == code)[:CELLS_FOR_WEIGHTS]
            if len(own):
                table = evidence.of(features[own], placed[own], scores[own])
                tables.append((table, nearest_places(coords[own], evidence.coords)))
        return self.with_weights(fit_weights(tables, self.weights, _STRENGTH_OF_BEFORE))
