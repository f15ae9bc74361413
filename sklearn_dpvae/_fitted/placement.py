"""From latents to positions within a frame: the ways that `reconstruction` names.

A placement is an object with a method ``place(latents, frame)`` and an attribute `pointwise`:
whether a cell's position follows from its own latents alone. Imports the frames and the solvers
of eq. (6) and (7).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..metrics import ProcrustesTransform, procrustes_align
from ..reconstruction._landmarks import place_pointwise
from ..reconstruction._smacof import anchored_smacof
from .frames import SectionFrame, varies

# Where eq. (6) stops: steps that lower the stress by less than this share of it.
_EPS = 1e-5

PLACEMENTS = ("auto", "latent", "reference", "mds")


class Placement(Protocol):
    """A way from latents to positions."""

    @property
    def pointwise(self) -> bool:
        """Whether each cell is placed by itself."""

    def place(self, latents: NDArray[np.float64], frame: SectionFrame) -> NDArray[np.float64]:
        """Positions of cells of one section.

        Parameters
        ----------
        latents : ndarray of shape (n_cells, n_components)
        frame : SectionFrame

        Returns
        -------
        ndarray of shape (n_cells, n_dims)
            In tissue units, in the coordinates of the frame.
        """


@dataclass(frozen=True)
class LatentPlacement:
    """The latents are the map: moved by the similarity of the frame."""

    pointwise: ClassVar[bool] = True

    def place(self, latents: NDArray[np.float64], frame: SectionFrame) -> NDArray[np.float64]:
        return frame.similarity.transform(latents)


@dataclass(frozen=True)
class ReferencePlacement:
    """Eq. (6) for one cell at a time: distances to landmarks of the reference.

    Attributes
    ----------
    scale : float
        c, in latent units per tissue unit.
    """

    scale: float
    pointwise: ClassVar[bool] = True

    def place(self, latents: NDArray[np.float64], frame: SectionFrame) -> NDArray[np.float64]:
        return place_pointwise(
            latents, frame.landmark_latents, frame.landmark_coords, scale=self.scale
        )


@dataclass(frozen=True)
class JointPlacement:
    """Eq. (6) for all cells at once. It starts from, and is moved onto, their places one by one.

    Attributes
    ----------
    scale : float
        c, in latent units per tissue unit.
    seed : int
    verbose : bool, default=False
        Whether a bar shows the passes over the pairs.
    """

    scale: float
    seed: int
    verbose: bool = False
    pointwise: ClassVar[bool] = False

    def place(self, latents: NDArray[np.float64], frame: SectionFrame) -> NDArray[np.float64]:
        start = ReferencePlacement(self.scale).place(latents, frame)
        found = anchored_smacof(
            latents=latents,
            n_components=start.shape[1],
            scale=self.scale,
            init=start,
            random_state=self.seed,
            verbose=self.verbose,
        ).embedding
        # The solution is unique up to a rigid motion.
        return procrustes_align(found, start, scaling=False).transform(found)


def make_placement(
    reconstruction: str,
    *,
    n_components: int,
    n_dims: int,
    scale: float,
    seed: int,
    verbose: bool = False,
) -> Placement:
    """The placement that the parameter `reconstruction` of the regressor names.

    Parameters
    ----------
    reconstruction : {"auto", "latent", "reference", "mds"}
    n_components : int
        Size of the latent.
    n_dims : int
        Dimensions of a position.
    scale : float
        c, in latent units per tissue unit.
    seed : int
    verbose : bool, default=False
        Whether a bar shows the progress of solving for all cells at once.
    """
    if reconstruction == "auto":
        reconstruction = "latent" if n_components == n_dims else "reference"
    if reconstruction == "latent":
        return LatentPlacement()
    if reconstruction == "reference":
        return ReferencePlacement(scale)
    return JointPlacement(scale, seed, verbose)


def place_with_anchors(
    latents: NDArray[np.float64],
    start: NDArray[np.float64],
    scale: float,
    anchors: tuple[NDArray[np.intp], NDArray[Any]],
    *,
    penalty: float | None = None,
    underdetermined: str,
    seed: int,
    verbose: bool = False,
) -> NDArray[np.floating[Any]]:
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
    penalty : float, optional
        See `hold_anchors`.
    underdetermined : {"error", "allow"}
    seed : int
    verbose : bool, default=False
        Whether bars show the passes over the pairs.
    """
    indices, coords = anchors
    enough = len(indices) >= 2 * (coords.shape[1] + 1)
    own_scale = enough and varies(coords) and varies(latents[indices])
    start = pose_of(start[indices], coords).transform(start)
    return hold_anchors(
        latents,
        start,
        None if own_scale else scale,
        anchors,
        penalty=penalty,
        underdetermined=underdetermined,
        seed=seed,
        verbose=verbose,
    )


def pose_of(start: NDArray[np.float64], coords: NDArray[np.float64]) -> ProcrustesTransform:
    """The similarity that suits known positions best; a shift where they do not tell one.

    Parameters
    ----------
    start : ndarray of shape (n_known, n_dims)
    coords : ndarray of shape (n_known, n_dims)
    """
    if varies(coords):
        similarity = procrustes_align(start, coords)
        if similarity.scale > 0:
            return similarity
    middle, goal = start.mean(axis=0), coords.mean(axis=0)
    return ProcrustesTransform(np.eye(coords.shape[1]), 1.0, middle, goal, disparity=1.0)


def hold_anchors(
    latents: NDArray[np.float64],
    start: NDArray[np.float64],
    scale: float | None,
    anchors: tuple[NDArray[np.intp], NDArray[Any]],
    *,
    penalty: float | None = None,
    underdetermined: str,
    seed: int,
    verbose: bool = False,
) -> NDArray[np.floating[Any]]:
    """Eq. (6) and (7) from a start in the pose of the anchors.

    Parameters
    ----------
    latents, start, scale, anchors, underdetermined, seed, verbose
        See `anchored_smacof`.
    penalty : float, optional
        mu, which relaxes the constraint. The stress has local minima: it is solved from the
        constrained solution, which it tends to as mu grows, and from that without the
        constraint, which it tends to as mu vanishes, and the better one is taken. Where that is
        better than the constrained solution by less than the solver would have gone on for, the
        constrained one is returned.
    """

    def solve(**own: Any) -> Any:
        return anchored_smacof(
            latents=latents,
            n_components=start.shape[1],
            anchors=anchors,
            scale=scale,
            underdetermined=underdetermined,
            eps=_EPS,
            random_state=seed,
            verbose=verbose,
            **own,
        )

    held = solve(init=start)
    if penalty is None:
        return held.embedding
    free = anchored_smacof(
        latents=latents,
        n_components=start.shape[1],
        scale=held.scale,
        init=start,
        eps=_EPS,
        random_state=seed,
        verbose=verbose,
    )
    moved = procrustes_align(free.embedding[anchors[0]], anchors[1], scaling=False)
    relaxed = [
        solve(init=init, penalty=penalty)
        for init in (held.embedding, moved.transform(free.embedding))
    ]
    best = min(relaxed, key=lambda found: found.stress)
    gain = held.stress - best.stress
    return best.embedding if gain > _EPS * held.stress else held.embedding
