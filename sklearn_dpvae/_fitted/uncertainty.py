"""How far off a position may be: the members' disagreement, and what is known of similar cells.

Imports the base of values, and the matrices.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import chi2
from sklearn.neighbors import NearestNeighbors

from .._utils.matrix import evenly_spaced
from .value import Value

Array = NDArray[np.float64]

# Reference cells around a latent whose errors are averaged.
_N_NEIGHBORS = 50

# Ratios, and values of an error that is added, by which the sum of both is told.
_N_RATIOS, _N_OF_ITS_OWN = 1000, 32

# Reference cells most like a cell whose scatter is taken.
N_ALIKE = 10


@dataclass(frozen=True, eq=False)
class ErrorModel(Value):
    """Expected error of a cell, from what is known of cells like it.

    The score of a cell is the geometric mean of lengths in tissue units: the root-mean-square
    error of the reference cells with the nearest latents; where `inputs` are given, the scatter
    of the places of the reference cells with the nearest inputs, which is large where expression
    does not tell the place; and, unless the model is cross-fitted, how far the members of the
    ensemble disagree. Errors divided by scores, of cells whose positions are known, calibrate it:
    their quantiles are those of conformal prediction.

    Attributes
    ----------
    rows : ndarray of shape (n_cells,)
        Rows of the reference that the model knows.
    latents : ndarray of shape (n_cells, n_components)
        Their latents.
    errors : ndarray of shape (n_cells,)
        Their distances from the true positions, in tissue units.
    unit : float
        Tissue units per latent unit.
    ratios : ndarray of shape (n_calibration,)
        Sorted errors over scores of the cells that the model is calibrated on.
    inputs : ndarray of shape (n_cells, n_features), optional
        What the network sees of the cells.
    places : ndarray of shape (n_cells, n_components), optional
        Their true positions in the frame of the latents.
    cross_fitted : bool
        Whether errors are those of cells that no step of the chain has seen. Members disagree
        less on cells that most of them were trained on, so that their disagreement says nothing
        about these errors, and is left out.
    calibrated_on : {"training", "left_out", "new"}
        Which cells the ratios are of: those that the networks were trained on, those that they
        were not, or those that were given to `calibrate`.
    """

    rows: NDArray[np.intp]
    latents: Array
    errors: Array
    unit: float
    ratios: Array
    inputs: Array | None = None
    places: Array | None = None
    cross_fitted: bool = False
    calibrated_on: str = "left_out"

    @property
    def knows_new_cells(self) -> bool:
        """Whether it is calibrated on cells that are new to all steps."""
        return self.cross_fitted or self.calibrated_on == "new"

    @classmethod
    def fit(
        cls,
        rows: NDArray[np.intp],
        latents: Array,
        disagreement: Array,
        errors: Array,
        unit: float,
        inputs: Array | None = None,
        places: Array | None = None,
    ) -> Self:
        """Learn from reference cells, and calibrate on the same."""
        if inputs is not None and len(inputs) <= N_ALIKE:
            inputs = places = None
        raw = cls(rows, latents, errors, unit, np.ones(1), inputs, places)
        return raw._calibrated_by(raw.score(latents, disagreement, None), errors)

    def with_errors_of_new_cells(self, errors: Array, scatter: Array | None) -> tuple[Self, Array]:
        """The same model, with errors that the cells would have if they were new to all steps.

        Parameters
        ----------
        errors : ndarray of shape (n_cells,)
            In tissue units; NaN for cells to leave out.
        scatter : ndarray of shape (n_cells,), optional
            Of the places of the cells with the nearest inputs, in latent units, where these
            inputs come from steps that have not seen the cell either.

        Returns
        -------
        model : ErrorModel
        scores : ndarray of shape (n_cells,)
            Expected errors of the cells, NaN where they are left out.
        """
        known = ~np.isnan(errors)

        def part(values: Any) -> Any:
            return None if values is None else values[known]

        model = replace(
            self,
            rows=part(self.rows),
            latents=part(self.latents),
            errors=errors[known],
            inputs=part(self.inputs),
            places=part(self.places),
            cross_fitted=True,
        )
        lengths = [model._local_error(model.latents)]
        if scatter is not None and model.inputs is not None:
            lengths.append(model.unit * scatter[known])
        scores = np.full(len(errors), np.nan)
        scores[known] = geometric_mean(lengths)
        return model._calibrated_by(scores[known], model.errors), scores

    @cached_property
    def _near(self) -> NearestNeighbors:
        n_neighbors = min(_N_NEIGHBORS, len(self.latents))
        return NearestNeighbors(n_neighbors=n_neighbors).fit(self.latents)

    @cached_property
    def _alike(self) -> NearestNeighbors:
        return NearestNeighbors(n_neighbors=N_ALIKE).fit(self.inputs)

    def score(self, latents: Array, disagreement: Array, X: Any) -> Array:
        """Uncalibrated expected error, in tissue units.

        Parameters
        ----------
        latents : ndarray of shape (n_cells, n_components)
        disagreement : ndarray of shape (n_cells,)
            Of the members, in latent units; zeros where there is one member only.
        X : {ndarray, CSR matrix} of shape (n_cells, n_features)
            What the network sees of the cells; None for the reference cells themselves, each
            of which is then not among those that it is like.
        """
        lengths = [self._local_error(latents)]
        if not self.cross_fitted:
            lengths.append(self.unit * disagreement)
        if self.inputs is not None:
            assert self.places is not None  # They come together with the inputs.
            X = X.toarray() if sp.issparse(X) else X
            lengths.append(self.unit * scatter_of_alike(self._alike, self.places, X))
        return geometric_mean(lengths)

    def _local_error(self, latents: Array) -> Array:
        """Root-mean-square error of the reference cells with the nearest latents."""
        index = self._near.kneighbors(latents, return_distance=False)
        return np.sqrt(np.mean(self.errors[index] ** 2, axis=1))

    def calibrated(self, latents: Array, disagreement: Array, X: Any, errors: Array) -> Self:
        """The same model, calibrated on the errors of the cells that are given."""
        model = self._calibrated_by(self.score(latents, disagreement, X), errors)
        return replace(model, calibrated_on="new")

    def _calibrated_by(self, score: Array, errors: Array) -> Self:
        return replace(self, ratios=np.sort(errors / np.maximum(score, np.finfo(float).tiny)))

    def with_error_added(self, added: float) -> Self:
        """The same model for cells that err more than those that it is calibrated on.

        An error of the given length is added twice, as variances add: once in proportion to the
        error that a cell has anyway, and once as a normal vector in the plane, independent of
        that, so that small errors become rare.

        Parameters
        ----------
        added : float
            Root mean square of each, in tissue units.
        """
        own = np.sqrt(np.mean(np.square(self.errors)))
        some = self.ratios[evenly_spaced(len(self.ratios), _N_RATIOS)]
        share = (np.arange(_N_OF_ITS_OWN) + 0.5) / _N_OF_ITS_OWN
        # Squared lengths of normal vectors in the plane are exponentially distributed.
        alone = -np.log(1 - share) * (added / own) ** 2 * np.mean(np.square(some))
        squares = np.square(some)[:, None] * (1 + (added / own) ** 2) + alone
        levels = (np.arange(len(some)) + 0.5) / len(some)
        return replace(self, ratios=np.sqrt(np.quantile(squares, levels)))

    def radius(self, latents: Array, disagreement: Array, X: Any, level: float) -> Array:
        """Distance that the error of a cell stays within, with probability `level`."""
        return self.score(latents, disagreement, X) * conformal_quantile(self.ratios, level)

    def std(self, latents: Array, disagreement: Array, X: Any, n_dims: int) -> Array:
        """Standard deviation along each axis, such that half of the errors are within the
        radius that holds half of an isotropic normal distribution."""
        return std_of_half(self.radius(latents, disagreement, X, 0.5), n_dims)


def conformal_quantile(ratios: Array, level: float) -> float:
    """What a new ratio stays within, with probability `level`, given sorted ones."""
    # The (n + 1)-th value of split conformal prediction: the next cell counts, too.
    rank = int(np.ceil(level * (len(ratios) + 1)))
    return float(ratios[min(rank, len(ratios)) - 1])


def std_of_half(radius: Array, n_dims: int) -> Array:
    """Standard deviation along each axis of the isotropic normal of which a radius holds half."""
    return radius / np.sqrt(chi2.ppf(0.5, n_dims))


def scatter_of_alike(alike: NearestNeighbors, places: Array, X: Any) -> Array:
    """How far apart the known cells lie that these are most like.

    Parameters
    ----------
    alike : NearestNeighbors
        Fitted on inputs of known cells.
    places : ndarray of shape (n_known, n_components)
        Their positions.
    X : ndarray of shape (n_cells, n_features)
        Inputs; None for those of the known cells, each of which is left out for itself.

    Returns
    -------
    ndarray of shape (n_cells,)
    """
    found = places[alike.kneighbors(X, return_distance=False)]
    return np.sqrt(found.var(axis=1).sum(axis=-1))


def geometric_mean(lengths: list[Array]) -> Array:
    """Of those lengths of each cell that are positive; 0 where none is."""
    stacked = np.stack(lengths)
    known = stacked > 0
    logs = np.log(stacked, out=np.zeros_like(stacked), where=known)
    return np.where(known.any(axis=0), np.exp(logs.sum(axis=0) / known.sum(axis=0).clip(1)), 0)
