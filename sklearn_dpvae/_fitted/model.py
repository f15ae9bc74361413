"""The fitted model: a value that knows how to answer.

Imports the encoding, the frames, the placements and the error model.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._network.dpvae import DPVAE
from .._training.reference import Matrix
from ..reconstruction._anchors import check_anchors
from .encoding import average_in_common_pose, encode_members, encoder_of, in_float64
from .frames import SectionFrames
from .placement import Placement, place_with_anchors
from .uncertainty import ErrorModel
from .value import Value


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
        (seconds), and valid_stress with early stopping.
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

    @cached_property
    def encoder(self) -> DPVAE:
        """The networks for prediction, in float64 and without decoders."""
        return encoder_of(self.module)

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

    def impute(
        self,
        latents: NDArray[np.float64],
        start: NDArray[np.float64],
        anchors: Any,
        sections: ArrayLike | None = None,
        *,
        underdetermined: str = "error",
    ) -> NDArray[np.float64]:
        """Positions given some of them, solved for each section that has known ones.

        Parameters
        ----------
        latents : ndarray of shape (n_cells, n_components)
        start : ndarray of shape (n_cells, n_dims)
            What `place` says.
        anchors : tuple (indices, coords), or array-like with NaN rows
        sections : array-like of shape (n_cells,), optional
        underdetermined : {"error", "allow"}

        Returns
        -------
        ndarray of shape (n_cells, n_dims)
            Sections without known positions stay at `start`.
        """
        indices, known = check_anchors(anchors, *start.shape)
        coords = start.copy()
        for frame, rows in self.frames.by_rows(sections, len(coords)):
            here = np.isin(indices, rows)
            if here.any():
                coords[rows] = place_with_anchors(
                    latents[rows],
                    start[rows],
                    frame.scale(default=self.scale),
                    (np.searchsorted(rows, indices[here]), known[here]),
                    underdetermined=underdetermined,
                    seed=self.seed,
                )
        return coords

    def with_errors_of_new_cells(
        self, errors: NDArray[np.float64], scatter: NDArray[np.float64] | None
    ) -> Self:
        """The same model, with its uncertainty calibrated on cells of the reference.

        See `ErrorModel.with_errors_of_new_cells`.
        """
        error_model = self.error_model.with_errors_of_new_cells(errors, scatter)
        return replace(self, error_model=error_model)

    def calibrated(
        self, X: Matrix, y: NDArray[np.float64], placement: Placement, sections: Any = None
    ) -> Self:
        """The same model, with its uncertainty calibrated on located cells.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_cells, n_features)
        y : ndarray of shape (n_cells, n_dims)
            True positions.
        placement : Placement
        sections : array-like of shape (n_cells,), optional
        """
        latents, disagreement = self.encode(X)
        errors = np.linalg.norm(self.place(latents, placement, sections) - y, axis=1)
        error_model = self.error_model.calibrated(latents, disagreement, X, errors)
        return replace(self, error_model=error_model)
