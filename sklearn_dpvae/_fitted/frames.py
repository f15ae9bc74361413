"""The frame of each section of the reference: where its latents lie, and where its cells.

Imports the metrics and the landmarks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist

from .._utils.validation import check_sections, find_labels
from ..metrics import ProcrustesTransform, procrustes_align
from ..metrics._checks import is_one_point
from ..reconstruction._anchors import estimate_scale
from ..reconstruction._landmarks import choose_landmarks


@dataclass(frozen=True, eq=False)
class SectionFrame:
    """How latents become positions of one section.

    Attributes
    ----------
    label : object
        Label of the section.
    similarity : ProcrustesTransform
        From latents to positions, fitted on the section's cells.
    landmark_latents : ndarray of shape (n_landmarks, n_components)
    landmark_coords : ndarray of shape (n_landmarks, n_dims)
        The cells that `reconstruction="reference"` measures latent distances to.
    """

    label: Any
    similarity: ProcrustesTransform
    landmark_latents: NDArray[np.float64]
    landmark_coords: NDArray[np.float64]

    def scale(self, default: float) -> float:
        """c by which latent distances of the landmarks predict those in the tissue.

        The c of the training fits cells that the nets have seen. Landmarks have the latents of
        cells that they have not: with their errors, a latent distance stands for less in the
        tissue. `default` is for landmarks that all have one position or one latent.
        """
        if not (varies(self.landmark_latents) and varies(self.landmark_coords)):
            return default
        return estimate_scale(self.landmark_coords, pdist(self.landmark_latents))


@dataclass(frozen=True, eq=False)
class SectionFrames:
    """The frames of all sections of a reference.

    Sections share one latent space, but each has coordinates of its own: its own origin,
    rotation and handedness.

    Attributes
    ----------
    frames : tuple of SectionFrame
    default : int
        Index of the frame of the section with most cells.
    """

    frames: tuple[SectionFrame, ...]
    default: int

    @classmethod
    def fit(
        cls,
        latents: NDArray[np.float64],
        coords: NDArray[np.float64],
        codes: NDArray[np.int64],
        labels: NDArray[Any],
        *,
        n_landmarks: int,
        rng: np.random.RandomState,
    ) -> Self:
        """Fit a frame for each section.

        Parameters
        ----------
        latents : ndarray of shape (n_cells, n_components)
        coords : ndarray of shape (n_cells, n_dims)
        codes : ndarray of shape (n_cells,)
            Section of each cell, as an index of `labels`.
        labels : ndarray of shape (n_sections,)
        n_landmarks : int
            Landmarks of each section.
        rng : RandomState

        Raises
        ------
        ValueError
            If all latents of a section are the same.
        """
        frames = []
        for code, label in enumerate(labels.tolist()):
            rows = np.flatnonzero(codes == code)
            z, s = latents[rows], coords[rows]
            check_latents(z, f" of section {label!r}")
            chosen = choose_landmarks(s, n_landmarks, random_state=rng)
            frames.append(SectionFrame(label, procrustes_align(z, s), z[chosen], s[chosen]))
        return cls(tuple(frames), int(np.argmax(np.bincount(codes))))

    @property
    def n_dims(self) -> int:
        """Dimensions of a position."""
        return self.frames[0].landmark_coords.shape[1]

    def by_rows(
        self, sections: ArrayLike | None, n_samples: int
    ) -> Iterator[tuple[SectionFrame, NDArray[np.intp]]]:
        """Yield each frame that rows are answered in, with those rows.

        Labels that the reference does not have are answered in the default frame.
        """
        if sections is None:
            yield self.frames[self.default], np.arange(n_samples)
            return
        codes, labels = check_sections(sections, n_samples)
        known = np.array([frame.label for frame in self.frames])
        for code, own in enumerate(find_labels(labels, known)):
            yield self.frames[own if own >= 0 else self.default], np.flatnonzero(codes == code)


def check_latents(latents: NDArray[np.float64], where: str = "") -> None:
    """Raise if latents that a network has learned are all the same.

    Parameters
    ----------
    latents : ndarray of shape (n_cells, n_components)
    where : str, default=""
        Goes into the message after "cells".
    """
    if is_one_point(latents):
        raise ValueError(
            f"the latents of all {len(latents)} cells{where} coincide: X hardly varies, or no "
            "term of the loss spreads them. Scale X, for instance by SectionScaler, or raise "
            "distance_weight."
        )


def varies(points: NDArray[np.float64]) -> bool:
    """Whether points are not all the same."""
    return bool((points != points[0]).any())
