"""The fitted model: a value that knows how to answer.

Imports the encoding, the frames, the placements, the known cells, the novelty, the error model and
the model of places.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._network.dpvae import DPVAE
from .._training.reference import Matrix
from ..places import PlaceDistribution
from ..reconstruction._anchors import check_anchors
from .adaptation import Adaptation
from .encoding import (
    average_in_common_pose,
    encode_members,
    encoder_of,
    in_float64,
    sample_members,
)
from .frames import SectionFrames
from .known_cells import KnownCells
from .novelty import FEWEST_TO_TELL
from .place_model import PlaceModel, PlaceTable
from .placement import LatentPlacement, Placement, hold_anchors, place_with_anchors
from .uncertainty import ErrorModel
from .value import Value

# What is added to the errors of positions, twice, see `ErrorModel.with_error_added`, over the
# distance of the reference's cells from their middle, as root mean squares: in another section,
# and where the cells are of a part of the tissue that is all new. Sixteen pairs of sections, six
# parts of them and 40 missing blocks told these.
_ERROR_OF_ANOTHER_SECTION = 0.4
_ERROR_OF_A_NEW_PART = 0.65


@dataclass(frozen=True, eq=False)
class FittedModel(Value):
    """What `fit_reference` has learned.

    Nothing in it changes any more; `partial_fit` and `calibrate` make another one.

    Attributes
    ----------
    module : DPVAE
        The networks, on the CPU and in evaluation mode.
    history : list of dict
        For each epoch: loss, the terms of the objective, scale (c, in scaled units), dur
        (seconds), and valid_stress and valid_elbo with early stopping.
    frames : SectionFrames
        Where latents lie in each section.
    error_model : ErrorModel
        How far off a position may be.
    scale : float
        c of eq. (3), in latent units per tissue unit.
    unit : float
        Tissue units per unit of the positions that the networks were trained on.
    labels : ndarray of shape (n_sections,)
        Labels of the sections of the last fit.
    batches : ndarray of shape (n_batches,) or None
        Labels of the batches that the decoder is conditioned on.
    library_size : float or None
        Median library size of the counts that were explained.
    seed : int
        Of everything that was drawn, and of what prediction draws.
    one_dimensional : bool
        Whether positions were given, and are answered, as one number for each cell.
    places : PlaceModel, optional
        Where else a cell may be. Models in files of the first versions have none.
    """

    module: DPVAE
    history: list[dict[str, Any]]
    frames: SectionFrames
    error_model: ErrorModel
    scale: float
    unit: float
    labels: NDArray[Any]
    batches: NDArray[Any] | None
    library_size: float | None
    seed: int
    one_dimensional: bool = False
    places: PlaceModel | None = None

    @cached_property
    def encoder(self) -> DPVAE:
        """The networks for prediction, in float64 and without decoders."""
        return encoder_of(self.module)

    @property
    def tells_left_out(self) -> bool:
        """Whether `places` holds what networks say of cells that they were not trained on."""
        return self.error_model.calibrated_on == "left_out"

    def check_places(self) -> PlaceModel:
        """Return the model of places.

        Raises
        ------
        ValueError
            If the model does not know of places.
        """
        if self.places is None:
            raise ValueError(
                "this model comes from a file of an earlier version, which did not know of "
                "places. Fit the model again."
            )
        return self.places

    @cached_property
    def decoder(self) -> DPVAE:
        """The networks for `inverse_transform`, in float64."""
        return in_float64(self.module)

    def encode(self, X: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latents of cells, and how far apart the networks are on each.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_cells, n_features)

        Returns
        -------
        latents : ndarray of shape (n_cells, n_components)
            Posterior means, averaged over the networks in the pose of the first.
        disagreement : ndarray of shape (n_cells,)
            In latent units.

        Raises
        ------
        ValueError
            If values of X are beyond all bounds.
        """
        mean, apart = average_in_common_pose(self.encoder.pose, encode_members(self.encoder, X))
        if not np.isfinite(mean).all():
            raise ValueError(
                "X holds values so large that latents are infinite. Pass values as in the fit."
            )
        return mean, apart

    def sample(self, X: Matrix, n_samples: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Samples of the posterior of cells, each by one network that is drawn for it.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_cells, n_features)
        n_samples : int
        rng : RandomState

        Returns
        -------
        ndarray of shape (n_samples, n_cells, n_components)
        """
        members = rng.randint(self.module.n_members, size=n_samples)
        return sample_members(self.encoder, X, members, rng.randint(np.iinfo(np.int32).max))

    def place(
        self,
        latents: NDArray[np.float64],
        placement: Placement,
        sections: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Positions of cells, each section in its own frame.

        Parameters
        ----------
        latents : ndarray of shape (n_cells, n_components)
        placement : Placement
        sections : array-like of shape (n_cells,), optional
            Unknown labels, and all cells without labels, are answered in the default frame.

        Returns
        -------
        ndarray of shape (n_cells, n_dims)
        """
        coords = np.empty((len(latents), self.frames.n_dims))
        for frame, rows in self.frames.by_rows(sections, len(latents)):
            coords[rows] = placement.place(latents[rows], frame)
        return coords

    def answer(
        self,
        X: Matrix,
        placement: Placement,
        sections: ArrayLike | None = None,
        *,
        by_places: bool,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Positions of cells, what they come from, and how far apart the networks are.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_cells, n_features)
        placement : Placement
        sections : array-like of shape (n_cells,), optional
        by_places : bool
            Whether positions may be medians of where cells may be, where that is known to be
            better than what the placement says.

        Returns
        -------
        coords : ndarray of shape (n_cells, n_dims)
        latents : ndarray of shape (n_cells, n_components)
        disagreement : ndarray of shape (n_cells,)
        """
        latents, disagreement = self.encode(X)
        placed = self.place(latents, placement, sections)
        if by_places and self.places is not None and self.places.median_share:
            seen = self._seen_by_places(X, latents, disagreement, placed, sections)
            placed = self.places.positions(*seen)
        return placed, latents, disagreement

    def learn_from(
        self,
        X: Matrix,
        latents: NDArray[np.float64],
        start: NDArray[np.float64],
        anchors: Any,
        sections: ArrayLike | None = None,
        adaptation: Adaptation | None = None,
    ) -> list[KnownCells]:
        """What known positions teach, for each section that has any.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_cells, n_features)
        latents : ndarray of shape (n_cells, n_components)
        start : ndarray of shape (n_cells, n_dims)
            What `answer` says.
        anchors : tuple (indices, coords), or array-like with NaN rows
        sections : array-like of shape (n_cells,), optional
        adaptation : Adaptation, optional
            How to learn from the known ones.
        """
        indices, coords = check_anchors(anchors, *start.shape)
        # What is learned must not depend on the order in which they are given.
        order = np.argsort(indices)
        indices, coords = indices[order], coords[order]
        known = []
        for frame, rows in self.frames.by_rows(sections, len(start)):
            here = np.isin(indices, rows)
            if not here.any():
                continue
            own = np.searchsorted(rows, indices[here]), coords[here].astype(np.float64)
            adapted = None
            if adaptation is not None and adaptation.learns_from(own[1]):
                adapted = adaptation.of_section(X, latents, start, rows, own, self.seed)
            known.append(KnownCells(frame, rows, *own, adapted))
        return known

    def hold(
        self,
        latents: NDArray[np.float64],
        start: NDArray[np.float64],
        known: Sequence[KnownCells],
        *,
        penalty: float | None = None,
        underdetermined: str = "error",
        verbose: bool = False,
    ) -> NDArray[np.float64]:
        """Positions given some of them, solved for each section that has known ones.

        Parameters
        ----------
        latents : ndarray of shape (n_cells, n_components)
        start : ndarray of shape (n_cells, n_dims)
            What `answer` says. Sections without known positions stay there.
        known : sequence of KnownCells
        penalty : float, optional
        underdetermined : {"error", "allow"}
        verbose : bool, default=False
            See `hold_anchors`.

        Returns
        -------
        ndarray of shape (n_cells, n_dims)
        """
        coords = start.copy()
        how: dict[str, Any] = {
            "penalty": penalty,
            "underdetermined": underdetermined,
            "seed": self.seed,
            "verbose": verbose,
        }
        for section in known:
            rows, adapted = section.rows, section.adapted
            own = section.indices, section.coords
            if adapted is not None:
                # The corrected map is what latents would be of networks that know the section.
                coords[rows] = hold_anchors(adapted.coords, adapted.coords, 1.0, own, **how)
            else:
                scale = section.frame.scale(default=self.scale)
                coords[rows] = place_with_anchors(latents[rows], start[rows], scale, own, **how)
        return coords

    def distribution(
        self,
        X: Matrix,
        placement: Placement,
        sections: ArrayLike | None,
        locations: NDArray[np.float64] | None,
        tolerance: float,
        known: Sequence[KnownCells] = (),
    ) -> PlaceDistribution:
        """Where cells may be.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_cells, n_features)
        placement : Placement
        sections : array-like of shape (n_cells,), optional
        locations : ndarray of shape (n_locations, n_dims), optional
        tolerance : float
            See `PlaceModel.distribution`.
        known : sequence of KnownCells
            Sections of which some cells are known. They are answered in the frame of these.
        """
        places = self.check_places()
        latents, disagreement = self.encode(X)
        placed = self.place(latents, placement, sections)
        seen = self._seen_by_places(X, latents, disagreement, placed, sections)
        return places.distribution(*seen, locations, tolerance, known)

    def _seen_by_places(
        self,
        X: Matrix,
        latents: NDArray[np.float64],
        disagreement: NDArray[np.float64],
        placed: NDArray[np.float64],
        sections: ArrayLike | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Features, positions by the networks, expected errors and frames of cells."""
        assert self.places is not None
        features = self.places.features_of(X, latents)
        codes = self._frames_of(sections, len(latents))
        return features, placed, self.error_model.score(latents, disagreement, X), codes

    def _frames_of(self, sections: ArrayLike | None, n_cells: int) -> NDArray[np.int64]:
        """The number of the frame that each cell is answered in."""
        codes = np.empty(n_cells, dtype=np.int64)
        for frame, rows in self.frames.by_rows(sections, n_cells):
            codes[rows] = self.frames.frames.index(frame)
        return codes

    def with_place_net(
        self,
        features: NDArray[np.float64],
        coords: NDArray[np.float64],
        codes: NDArray[np.int64],
    ) -> Self:
        """The same model, with a network that has learned to tell places, see `PlaceModel`.

        It is trained no longer than those of the map were.
        """
        how = {"n_epochs": len(self.history), "seed": self.seed}
        return replace(self, places=self.check_places().with_net(features, coords, codes, **how))

    def with_errors_of_new_cells(
        self,
        errors: NDArray[np.float64],
        scatter: NDArray[np.float64] | None,
        tables: list[PlaceTable],
        *,
        another_section: bool,
    ) -> Self:
        """The same model, with its uncertainty calibrated on cells of the reference.

        Parameters
        ----------
        errors, scatter
            See `ErrorModel.with_errors_of_new_cells`.
        tables : list of PlaceTable
            Evidence of the places of such cells.
        another_section : bool
            Whether queries are other sections than the reference.
        """
        error_model, scores = self.error_model.with_errors_of_new_cells(errors, scatter)
        places = self.places
        if places is not None and tables:
            places = places.with_weights_from(tables, scores)
            of_medians = places.errors_of_medians(tables, scores)
            told = ~np.isnan(of_medians)
            if of_medians[told].mean() < errors[told].mean():
                errors = np.where(told, of_medians, errors)
                error_model, scores = self.error_model.with_errors_of_new_cells(errors, scatter)
                places = replace(places.with_weights_from(tables, scores), median_share=1.0)
        model = replace(self, error_model=error_model, places=places)
        return model.for_another_section() if another_section else model

    def for_another_section(self) -> Self:
        """The same model, less sure of itself: for cells of another section than the reference.

        It stays as it is where it was calibrated on such cells.
        """
        if self.places is None or self.error_model.calibrated_on == "new":
            return self
        return replace(
            self,
            error_model=self.error_model.with_error_added(
                _ERROR_OF_ANOTHER_SECTION * self.places.extent
            ),
            places=self.places.for_another_section(),
        )

    def for_query(self, X: Matrix, sections: ArrayLike | None = None) -> Self:
        """The same model, or one less sure of itself: for cells of a part that is new to it.

        They are of a part of the tissue that the reference lacks. The more of them are, the
        farther off are their positions.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_cells, n_features)
            Cells of the query, some of them if there are many.
        sections : array-like of shape (n_cells,), optional
            Labels by which their frames are found.
        """
        places = self.places
        if places is None or self.error_model.calibrated_on == "new":
            return self
        if X.shape[0] < FEWEST_TO_TELL:
            return self  # They would be encoded for nothing.
        latents = self.encode(X)[0]
        placed = self.place(latents, LatentPlacement(), sections)
        strength = places.novelty.of(
            places.features_of(X, latents), placed, self._frames_of(sections, len(latents))
        )
        if not strength:
            return self
        added = strength * _ERROR_OF_A_NEW_PART * places.extent
        return replace(
            self,
            error_model=self.error_model.with_error_added(added),
            places=places.for_new_part(strength),
        )

    def calibrated(
        self,
        X: Matrix,
        y: NDArray[np.float64],
        placement: Placement,
        sections: Any = None,
        *,
        by_places: bool,
    ) -> Self:
        """The same model, with its uncertainty calibrated on located cells.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_cells, n_features)
        y : ndarray of shape (n_cells, n_dims)
            True positions.
        placement : Placement
        sections : array-like of shape (n_cells,), optional
        by_places : bool
            See `answer`.
        """
        model = self
        if self.places is not None:
            latents, disagreement = self.encode(X)
            placed = self.place(latents, placement, sections)
            seen = self._seen_by_places(X, latents, disagreement, placed, sections)
            model = replace(self, places=self.places.calibrated(*seen, y))
        placed, latents, disagreement = model.answer(X, placement, sections, by_places=by_places)
        errors = np.linalg.norm(placed - y, axis=1)
        error_model = self.error_model.calibrated(latents, disagreement, X, errors)
        return replace(model, error_model=error_model)
