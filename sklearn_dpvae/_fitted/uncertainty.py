"""How far off a position may be: the members' disagreement, and what is known of similar cells.

Imports nothing but the base of values.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import chi2
from sklearn.neighbors import NearestNeighbors

from .value import Value

Array = NDArray[np.float64]

# Reference cells around a latent whose errors are averaged.
_N_NEIGHBORS = 50

# Reference cells most like a cell whose scatter is taken.
_N_ALIKE = 10


@dataclass(frozen=True, eq=False)
class ErrorModel(Value):
    """Expected error of a cell, from the members' disagreement and what is known of its like.

    The score of a cell is the geometric mean of lengths in tissue units: the disagreement of the
    members' latents, the root-mean-square error of the reference cells with the nearest latents,
    and, where `inputs` are given, the scatter of the places of the reference cells with the
    nearest inputs. The last is large where expression does not tell the place. Errors divided by
    scores, of cells whose positions are known, calibrate it: their quantiles are those of
    conformal prediction.

    Attributes
    ----------
    latents : ndarray of shape (n_cells, n_components)
        Latents of reference cells.
    errors : ndarray of shape (n_cells,)
        Their distances from the true positions, in tissue units.
    unit : float
        Tissue units per latent unit.
    ratios : ndarray of shape (n_calibration,)
        Sorted errors over scores of the cells that the model is calibrated on.
    inputs : ndarray of shape (n_cells, n_features), optional
        What the network sees of the reference cells.
    places : ndarray of shape (n_cells, n_components), optional
        True positions of the reference cells in the frame of the latents.
    """

    latents: Array
    errors: Array
    unit: float
    ratios: Array
    inputs: Array | None = None
    places: Array | None = None

    @classmethod
    def fit(
        cls,
        latents: Array,
        disagreement: Array,
        errors: Array,
        unit: float,
        inputs: Array | None = None,
        places: Array | None = None,
    ) -> Self:
        """Learn from reference cells, and calibrate on the same."""
        if inputs is not None and len(inputs) <= _N_ALIKE:
            inputs = places = None
        raw = cls(latents, errors, unit, np.ones(1), inputs, places)
        return raw.calibrated(latents, disagreement, None, errors)

    @cached_property
    def _near(self) -> NearestNeighbors:
        n_neighbors = min(_N_NEIGHBORS, len(self.latents))
        return NearestNeighbors(n_neighbors=n_neighbors).fit(self.latents)

    @cached_property
    def _alike(self) -> NearestNeighbors:
        return NearestNeighbors(n_neighbors=_N_ALIKE).fit(self.inputs)

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
        index = self._near.kneighbors(latents, return_distance=False)
        parts = [np.sqrt(np.mean(self.errors[index] ** 2, axis=1)), self.unit * disagreement]
        if self.inputs is not None:
            parts.append(self.unit * self._scatter(X))
        lengths = np.stack(parts)
        known = lengths > 0
        logs = np.log(lengths, out=np.zeros_like(lengths), where=known)
        return np.where(known.any(axis=0), np.exp(logs.sum(axis=0) / known.sum(axis=0).clip(1)), 0)

    def _scatter(self, X: Any) -> Array:
        """How far apart, in latent units, the reference cells are that these are most like.

        X is None for the reference cells themselves.
        """
        assert self.places is not None  # They come together with the inputs.
        X = X.toarray() if sp.issparse(X) else X
        places = self.places[self._alike.kneighbors(X, return_distance=False)]
        return np.sqrt(places.var(axis=1).sum(axis=-1))

    def calibrated(self, latents: Array, disagreement: Array, X: Any, errors: Array) -> Self:
        """The same model, calibrated on the errors of the cells that are given."""
        score = np.maximum(self.score(latents, disagreement, X), np.finfo(float).tiny)
        return replace(self, ratios=np.sort(errors / score))

    def radius(self, latents: Array, disagreement: Array, X: Any, level: float) -> Array:
        """Distance that the error of a cell stays within, with probability `level`."""
        # The (n + 1)-th value of split conformal prediction: the next cell counts, too.
        rank = int(np.ceil(level * (len(self.ratios) + 1)))
        return self.score(latents, disagreement, X) * self.ratios[min(rank, len(self.ratios)) - 1]

    def std(self, latents: Array, disagreement: Array, X: Any, n_dims: int) -> Array:
        """Standard deviation along each axis, such that half of the errors are within the
        radius that holds half of an isotropic normal distribution."""
        return self.radius(latents, disagreement, X, 0.5) / np.sqrt(chi2.ppf(0.5, n_dims))
