"""From latents to positions: the frame of each section of the reference.

Imports the metrics and the solvers of eq. (6) and (7).
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist

from .._utils.validation import check_sections, find_labels
from ..metrics import ProcrustesTransform, procrustes_align
from ..reconstruction._anchors import estimate_scale
from ..reconstruction._landmarks import choose_landmarks, place_pointwise
from ..reconstruction._smacof import anchored_smacof


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

    label: object
    similarity: ProcrustesTransform
    landmark_latents: np.ndarray
    landmark_coords: np.ndarray

    def scale(self, default):
        """c by which latent distances of the landmarks predict those in the tissue.

        The c of the training fits cells that the nets have seen. Landmarks have the latents of
        cells that they have not: with their errors, a latent distance stands for less in the
        tissue. `default` is for landmarks that all have one position or one latent.
        """
        if not (_varies(self.landmark_latents) and _varies(self.landmark_coords)):
            return default
        return estimate_scale(self.landmark_coords, pdist(self.landmark_latents))


class SectionFrames:
    """The frames of all sections of a reference.

    Sections share one latent space, but each has coordinates of its own: its own origin,
    rotation and handedness. `default` is the frame of the section with most cells.

    Parameters
    ----------
    latents : ndarray of shape (n_cells, n_components)
    coords : ndarray of shape (n_cells, n_dims)
    codes : ndarray of shape (n_cells,)
    labels : ndarray of shape (n_sections,)
    n_landmarks : int
        Landmarks of each section.
    rng : RandomState
    """

    def __init__(self, latents, coords, codes, labels, *, n_landmarks, rng):
        self.n_dims = coords.shape[1]
        self.frames = {}
        for code, label in enumerate(labels.tolist()):
            rows = np.flatnonzero(codes == code)
            z, s = latents[rows], coords[rows]
            chosen = choose_landmarks(s, n_landmarks, random_state=rng)
            self.frames[label] = SectionFrame(label, procrustes_align(z, s), z[chosen], s[chosen])
        self.default = self.frames[labels[np.argmax(np.bincount(codes))].item()]

    def by_rows(self, sections, n_samples):
        """Yield each frame that rows are answered in, with those rows.

        Labels that the reference does not have are answered in the default frame.
        """
        if sections is None:
            yield self.default, np.arange(n_samples)
            return
        codes, labels = check_sections(sections, n_samples)
        # The last one is what -1, an unknown label, reaches.
        frames = [*self.frames.values(), self.default]
        for code, own in enumerate(find_labels(labels, np.array(list(self.frames)))):
            yield frames[own], np.flatnonzero(codes == code)

    def place_by_similarity(self, latents, sections=None):
        """Positions as each frame's similarity maps the latents."""
        coords = np.empty((len(latents), self.n_dims))
        for frame, rows in self.by_rows(sections, len(latents)):
            coords[rows] = frame.similarity.transform(latents[rows])
        return coords

    def place_by_landmarks(self, latents, scale, sections=None):
        """Positions that fit the latent distances to the landmarks, eq. (6) row by row."""
        coords = np.empty((len(latents), self.n_dims))
        for frame, rows in self.by_rows(sections, len(latents)):
            coords[rows] = place_pointwise(
                latents[rows], frame.landmark_latents, frame.landmark_coords, scale=scale
            )
        return coords


def solve_jointly(latents, start, scale, *, seed):
    """Positions of all cells at once, eq. (6), in the frame of a first guess.

    The solution is unique up to a similarity only, so it is moved to fit `start` best.
    """
    found = anchored_smacof(
        latents=latents, n_components=start.shape[1], scale=scale, init=start, random_state=seed
    ).embedding
    return procrustes_align(found, start, scaling=False).transform(found)


def solve_with_anchors(latents, start, scale, anchors, *, underdetermined, seed):
    """Positions of all cells of a section of which some are known, eq. (6) and (7).

    Parameters
    ----------
    latents : ndarray of shape (n_cells, n_components)
    start : ndarray of shape (n_cells, n_dims)
        First guess, in any pose.
    scale : float
        c, in latent units per tissue unit. From ``2 * (n_dims + 1)`` anchors on, the number
        that `estimate_scale` needs for its regression, their own pairs tell c better.
    anchors : tuple (indices, coords)
    underdetermined : {"error", "allow"}
    seed : int
    """
    indices, coords = anchors
    enough = len(indices) >= 2 * (coords.shape[1] + 1)
    if enough and _varies(coords) and _varies(latents[indices]):
        scale = None
    if _varies(coords):
        start = procrustes_align(start[indices], coords).transform(start)
    else:
        start = start + (coords[0] - start[indices[0]])
    return anchored_smacof(
        latents=latents,
        n_components=start.shape[1],
        anchors=anchors,
        scale=scale,
        underdetermined=underdetermined,
        init=start,
        random_state=seed,
    ).embedding


def _varies(points):
    return bool((points != points[0]).any())
