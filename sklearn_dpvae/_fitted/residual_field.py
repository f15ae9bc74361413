"""What known positions say about the errors nearby: a Gaussian process on residuals.

Imports nothing of this package.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from sklearn.utils import gen_batches

Array = NDArray[np.float64]

# Where the hyperparameters start, and what a normal prior draws them to, as shares of the variance
# of the residuals: each kernel, and the noise. A few points must not be read as a field.
_SIGNAL, _NOISE = 0.05, 0.7
# Of that prior, in units of the natural logarithm.
_PRIOR_SD = 1.0
# Points that hyperparameters are fitted on; the cost of a step grows with their cube.
_POINTS_FOR_FIT = 400
_ROWS_PER_CHUNK = 1024
# Added to the diagonal, as a share of the variance, so that it has a Cholesky factor.
_JITTER = 1e-8


@dataclass(frozen=True, eq=False)
class ResidualField:
    """Residuals of positions as a smooth function of several views of a cell.

    The kernel is a constant and one Matern kernel of order 3/2 for each view; all axes share it.
    Its variances, lengths and the noise have the highest posterior density under normal priors
    on their logarithms.

    Attributes
    ----------
    views : tuple of ndarray of shape (n_points, n_features)
    logs : ndarray
        Logarithms of the constant, of the variance and the length of each view, and of the noise.
    factor : ndarray of shape (n_points, n_points)
        Lower Cholesky factor of the covariance of the residuals.
    weights : ndarray of shape (n_points, n_dims)
    """

    views: tuple[Array, ...]
    logs: Array
    factor: Array
    weights: Array

    @classmethod
    def fit(cls, views: tuple[Array, ...], residuals: Array, rng: np.random.RandomState) -> Self:
        """Learn from points whose residuals are known.

        Parameters
        ----------
        views : tuple of ndarray of shape (n_points, n_features)
        residuals : ndarray of shape (n_points, n_dims)
            Not all zero.
        rng : RandomState
            Draws the points that hyperparameters are fitted on, where there are many.
        """
        variance = float(np.mean(np.square(residuals)))
        some = np.sort(rng.permutation(len(residuals))[:_POINTS_FOR_FIT])
        squares = [cdist(view[some], view[some], "sqeuclidean") for view in views]
        initial = [np.log(_SIGNAL * variance)]
        for square in squares:
            length = np.sqrt(np.median(square)) or 1.0
            initial += [np.log(_SIGNAL * variance), np.log(length)]
        start = np.array([*initial, np.log(_NOISE * variance)])
        known, n_dims = residuals[some], residuals.shape[1]
        diagonal = np.diag_indices(len(some))

        def loss(logs: Array) -> float:
            covariance = _kernel(squares, logs)
            covariance[diagonal] += np.exp(logs[-1]) + _JITTER * variance
            factor = cho_factor(covariance, lower=True)
            misfit = np.sum(known * cho_solve(factor, known)) / 2
            away = np.sum(np.square((logs - start) / _PRIOR_SD)) / 2
            return float(misfit + n_dims * np.log(np.diag(factor[0])).sum() + away)

        found = minimize(loss, start, method="L-BFGS-B", options={"maxiter": 40}).x
        covariance = _kernel([cdist(view, view, "sqeuclidean") for view in views], found)
        covariance[np.diag_indices(len(residuals))] += np.exp(found[-1]) + _JITTER * variance
        factor = cho_factor(covariance, lower=True)
        return cls(views, found, np.tril(factor[0]), cho_solve(factor, residuals))

    def predict(self, views: tuple[Array, ...]) -> tuple[Array, Array]:
        """Residuals of other cells, and the variance of each about them along an axis.

        Parameters
        ----------
        views : tuple of ndarray of shape (n_cells, n_features)

        Returns
        -------
        mean : ndarray of shape (n_cells, n_dims)
        variance : ndarray of shape (n_cells,)
            With the noise.
        """
        n_cells = len(views[0])
        mean, variance = np.empty((n_cells, self.weights.shape[1])), np.empty(n_cells)
        prior = np.exp(self.logs[0]) + np.exp(self.logs[1:-1:2]).sum()
        for rows in gen_batches(n_cells, _ROWS_PER_CHUNK):
            squares = [
                cdist(view[rows], own, "sqeuclidean")
                for view, own in zip(views, self.views, strict=True)
            ]
            kernel = _kernel(squares, self.logs)
            mean[rows] = kernel @ self.weights
            explained = np.einsum("ij,ji->i", kernel, cho_solve((self.factor, True), kernel.T))
            variance[rows] = np.maximum(prior - explained, 0) + np.exp(self.logs[-1])
        return mean, variance

    def left_out(self) -> tuple[Array, Array]:
        """Errors of the points if each were left out, in closed form, and their variances.

        Returns
        -------
        errors : ndarray of shape (n_points, n_dims)
        variance : ndarray of shape (n_points,)
        """
        inverse = cho_solve((self.factor, True), np.eye(len(self.factor)))
        variance = 1 / np.diag(inverse)
        return self.weights * variance[:, None], variance


def _kernel(squares: list[Array], logs: Array) -> Array:
    """Covariance for squared distances in each view."""
    total = np.full(squares[0].shape, np.exp(logs[0]))
    for square, log_variance, log_length in zip(squares, logs[1:-1:2], logs[2::2], strict=True):
        scaled = np.sqrt(3 * square) / np.exp(log_length)
        total += np.exp(log_variance) * (1 + scaled) * np.exp(-scaled)
    return total
