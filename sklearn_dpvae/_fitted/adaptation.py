"""A map that has learned from known positions of its own section.

Imports the field of residuals, the error model, the metrics and the checks of anchors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .._training.reference import Matrix
from .._utils.matrix import MOST_COMPONENTS
from ..metrics import procrustes_align
from ..reconstruction._anchors import affine_rank
from .residual_field import ResidualField
from .uncertainty import conformal_quantile

Array = NDArray[np.float64]

# Anchors for each dimension of a pose (a shift and a direction for each axis), from which on they
# can teach more than the pose.
_ANCHORS_PER_DIMENSION = 4
# Anchors that the field of residuals is learned from; it costs their square.
MAX_ANCHORS = 2000
# Anchors that the two maps must differ on before they get other weights than one half.
_STRENGTH_OF_EQUAL_WEIGHTS = 30


@dataclass(frozen=True, eq=False)
class AdaptedMap:
    """Positions of the cells of a section, corrected by what its anchors say.

    Attributes
    ----------
    coords : ndarray of shape (n_cells, n_dims)
        Of all cells. Anchors are where the map sees them, not where they are.
    spread : ndarray of shape (n_cells,)
        How sure the field of residuals is of each cell, up to a factor.
    ratios : ndarray of shape (n_left_out,)
        Errors of the anchors, each predicted without itself, over their spread; sorted.
    left_out : ndarray of shape (n_left_out,)
        Which anchors these are, by their number.
    as_new : ndarray of shape (n_left_out, n_dims)
        Their positions, each predicted without itself.
    spread_as_new : ndarray of shape (n_left_out,)
        How sure the field was of these.
    """

    coords: Array
    spread: Array
    ratios: Array
    left_out: NDArray[np.intp]
    as_new: Array
    spread_as_new: Array

    def radius(self, level: float) -> Array:
        """Distance that the error of each cell stays within, with probability `level`."""
        return self.spread * conformal_quantile(self.ratios, level)

    def radius_as_new(self, level: float) -> Array:
        """The same of the anchors that were left out."""
        return self.spread_as_new * conformal_quantile(self.ratios, level)


@dataclass(frozen=True, eq=False)
class TunedMap:
    """The map of networks that were fine-tuned on the anchors.

    Attributes
    ----------
    coords : ndarray of shape (n_cells, n_dims)
    rows : ndarray of shape (n_rows,)
        Anchors, by their number.
    as_new : ndarray of shape (n_rows, n_dims)
        Their positions by the networks that were not tuned on them.
    """

    coords: Array
    rows: NDArray[np.intp]
    as_new: Array


@dataclass(frozen=True, eq=False)
class Adaptation:
    """How a model learns from the anchors of a section.

    Attributes
    ----------
    tune : callable
        From features and positions of anchors, features of all cells, and `required`, to a
        `TunedMap`; or to None where networks cannot be tuned, which is an error where they must.
    others : ndarray of shape (n_cells, n_others), optional
        What else tells how alike cells are.
    required : bool, default=False
        Whether too few anchors to learn from are an error.
    """

    tune: Callable[[Matrix, Array, Matrix, bool], TunedMap | None]
    others: Array | None = None
    required: bool = False

    def learns_from(self, coords: Array) -> bool:
        """Whether the anchors of a section teach more than the pose: many, and not on a line."""
        n_anchors, n_dims = coords.shape
        needed = _ANCHORS_PER_DIMENSION * (n_dims + 1)
        learns = n_anchors >= needed and affine_rank(coords) == n_dims
        if self.required and not learns:
            raise ValueError(
                f"adapt=True, but {n_anchors} anchor(s) of a section are too few to learn from, "
                f"or lie on one line: {needed} are needed. Give more anchors, or pass "
                'adapt="auto".'
            )
        return learns

    def of_section(
        self,
        X: Matrix,
        latents: Array,
        start: Array,
        rows: NDArray[np.intp],
        anchors: tuple[NDArray[np.intp], Array],
        seed: int,
    ) -> AdaptedMap:
        """The corrected map of some rows.

        Parameters
        ----------
        X : ndarray or CSR matrix of shape (n_cells, n_features)
        latents : ndarray of shape (n_cells, n_components)
        start : ndarray of shape (n_cells, n_dims)
        rows : ndarray of shape (n_rows,)
            Those of the section.
        anchors : tuple (indices, coords)
            Indices of `rows`.
        seed : int
        """
        wide = sp.issparse(X) or X.shape[1] > MOST_COMPONENTS
        views = [latents[rows] if wide else X[rows].astype(np.float64)]
        if self.others is not None:
            views.append(self.others[rows])
        indices, known = anchors
        tuned = self.tune(X[rows[indices]], known, X[rows], self.required)
        return adapt_map(start[rows], tuple(views), (indices, known), tuned, seed)


def adapt_map(
    start: Array,
    views: tuple[Array, ...],
    anchors: tuple[NDArray[np.intp], Array],
    tuned: TunedMap | None,
    seed: int,
) -> AdaptedMap:
    """Correct a map by known positions of some of its cells.

    Two maps are averaged: the one of the fitted networks in the pose that suits the anchors, and
    the one of networks that were tuned on them. Weights are those of the smallest error of the
    anchors, drawn towards one half. A Gaussian process then learns what is left of the anchors'
    errors, as a function of the place and of expression.

    Parameters
    ----------
    start : ndarray of shape (n_cells, n_dims)
        Positions by the fitted model.
    views : tuple of ndarray of shape (n_cells, n_features)
        What tells how alike cells are.
    anchors : tuple (indices, coords)
        From which one can learn, see `Adaptation.learns_from`.
    tuned : TunedMap, optional
    seed : int
    """
    indices, known = anchors
    rng = np.random.RandomState(seed)
    aligned = procrustes_align(start[indices], known).transform(start)
    base, as_new = aligned, aligned[indices]
    rows = np.arange(len(indices))
    if tuned is not None:
        rows = tuned.rows
        share = _share_of_second(known[rows] - aligned[indices[rows]], known[rows] - tuned.as_new)
        base = (1 - share) * aligned + share * tuned.coords
        as_new = (1 - share) * aligned[indices[rows]] + share * tuned.as_new
    kept = np.sort(rng.permutation(len(rows))[:MAX_ANCHORS])
    rows, as_new = rows[kept], as_new[kept]
    residuals = known[rows] - as_new
    if not residuals.any():
        nothing = np.zeros(len(rows))
        return AdaptedMap(base, np.zeros(len(base)), np.ones(1), rows, as_new, nothing)
    field = ResidualField.fit((as_new, *(view[indices[rows]] for view in views)), residuals, rng)
    correction, variance = field.predict((base, *views))
    errors, own_variance = field.left_out()
    own_spread = np.sqrt(own_variance)
    ratios = np.sort(np.linalg.norm(errors, axis=1) / own_spread)
    corrected, as_new = base + correction, known[rows] - errors
    return AdaptedMap(corrected, np.sqrt(variance), ratios, rows, as_new, own_spread)


def _share_of_second(first: Array, second: Array) -> float:
    """Weight of the second of two predictions that makes the square of their errors smallest."""
    squares = np.sum(first**2), np.sum(second**2)
    product = np.sum(first * second)
    towards_half = _STRENGTH_OF_EQUAL_WEIGHTS * np.mean(squares) / len(first)
    apart = squares[0] + squares[1] - 2 * product + towards_half
    if apart <= 0:
        return 0.5
    return float(np.clip((squares[0] - product + towards_half / 2) / apart, 0, 1))
