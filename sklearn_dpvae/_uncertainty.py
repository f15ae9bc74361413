"""How far off a position may be: the spread of the members, scaled by errors that were seen.

Imports nothing of this package.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2
from sklearn.neighbors import NearestNeighbors

# Reference cells around a latent whose errors are averaged.
_N_NEIGHBORS = 50


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """Expected error of a cell, from the members' spread and the errors of its like.

    The score of a cell is the geometric mean of two lengths in tissue units: the spread of the
    members' latents, and the root-mean-square error of the reference cells with the nearest
    latents. Errors divided by scores, of cells whose positions are known, calibrate it: their
    quantiles are those of conformal prediction.

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
    """

    latents: np.ndarray
    errors: np.ndarray
    unit: float
    ratios: np.ndarray

    @classmethod
    def fit(cls, latents, spread, errors, unit):
        """Learn from reference cells, and calibrate on the same."""
        raw = cls(latents, errors, unit, np.ones(1))
        return raw.calibrated(latents, spread, errors)

    def score(self, latents, spread):
        """Uncalibrated expected error, in tissue units.

        Parameters
        ----------
        latents : ndarray of shape (n_cells, n_components)
        spread : ndarray of shape (n_cells,)
            Of the members, in latent units; zeros where there is one member only.
        """
        n_neighbors = min(_N_NEIGHBORS, len(self.latents))
        nearest = NearestNeighbors(n_neighbors=n_neighbors).fit(self.latents)
        index = nearest.kneighbors(latents, return_distance=False)
        local = np.sqrt(np.mean(self.errors[index] ** 2, axis=1))
        own = self.unit * spread
        return np.where(own > 0, np.sqrt(own * local), local)

    def calibrated(self, latents, spread, errors):
        """The same model, calibrated on the errors of other cells."""
        score = np.maximum(self.score(latents, spread), np.finfo(float).tiny)
        return ErrorModel(self.latents, self.errors, self.unit, np.sort(errors / score))

    def radius(self, latents, spread, level):
        """Distance that the error of a cell stays within, with probability `level`."""
        # The (n + 1)-th value of split conformal prediction: the next cell counts, too.
        rank = int(np.ceil(level * (len(self.ratios) + 1)))
        return self.score(latents, spread) * self.ratios[min(rank, len(self.ratios)) - 1]

    def std(self, latents, spread, n_dims):
        """Standard deviation along each axis, such that half of the errors are within the
        radius that holds half of an isotropic normal distribution."""
        return self.radius(latents, spread, 0.5) / np.sqrt(chi2.ppf(0.5, n_dims))
