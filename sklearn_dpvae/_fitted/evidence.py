"""What the cells of a section say of the place of a cell whose expression is like theirs.

Four kinds of evidence, and how much each counts. Imports the places.
"""

from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.neighbors import NearestNeighbors

from ..places import spacing_of

Array = NDArray[np.float64]

N_KINDS = 4
# Cells of a section below which similar expression says nothing of the place.
MIN_CELLS = 20

# Widths of the kernels around places, in spacings of them, and where they are cut off.
_WIDTHS = (1.0, 2.0)
_CUT = 3.5
# Length of the kernel in the features, over the median distance, and the ridge penalty.
_LENGTH = 0.5
_PENALTY = 1.0
_N_NEIGHBORS = 100
# Least evidence for a place, relative to that of an average cell for it.
_FLOOR = 0.05
_ROWS_FOR_LENGTH = 300

# Of the spatial median: the least distance and step over the spread of the places, and the most
# steps.
_LEAST_DISTANCE = 1e-3
_LEAST_STEP = 3e-4
_MEDIAN_STEPS = 50


class SectionEvidence:
    """Cells of one section whose places are known.

    A cell's evidence for a place is, up to a factor,

    1. and 2. kernel ridge regression from features to the indicator of the place, smoothed over
       the tissue by a narrow and by a wide kernel. The kernel in the features is exponential. It
       estimates p(s | x) without any training;
    3. the share of the cells with the nearest features that lie there, smoothed by the wide one;
    4. a normal distribution around the predicted position, as wide as its expected error.

    Parameters
    ----------
    features : ndarray of shape (n_places, n_features)
    coords : ndarray of shape (n_places, n_dims)
    """

    def __init__(self, features: Array, coords: Array):
        self.features = features
        self.coords = coords
        self.spacing = spacing_of(coords)

    def of(self, features: Array, placed: Array, scores: Array) -> Array:
        """Logarithm of the evidence of new cells for every place.

        Parameters
        ----------
        features : ndarray of shape (n_cells, n_features)
        placed : ndarray of shape (n_cells, n_dims)
            Their predicted positions.
        scores : ndarray of shape (n_cells,)
            Their expected errors.

        Returns
        -------
        ndarray of shape (4, n_cells, n_places)
        """
        if len(self.coords) < MIN_CELLS:
            return self._with_normal([None] * 3, placed, scores)
        similar = np.exp(-cdist(features, self.features) / self._length)
        distance, index = self._near.kneighbors(features)
        return self._logs(similar @ self._inverse, distance, index, placed, scores)

    def of_own(self, rows: NDArray[np.intp], placed: Array, scores: Array) -> Array:
        """The same for some of the section's cells, as if each alone was new."""
        if len(self.coords) < MIN_CELLS:
            return self._with_normal([None] * 3, placed, scores)
        similar = np.exp(-cdist(self.features[rows], self.features) / self._length)
        weights = similar @ self._inverse
        # A linear smoother without a cell: its other weights, scaled up.
        own = np.arange(len(rows)), rows
        left = 1.0 - weights[own]
        weights[own] = 0.0
        distance, index = self._near.kneighbors()
        return self._logs(weights / left[:, None], distance[rows], index[rows], placed, scores)

    def _logs(
        self,
        weights: Array,
        distance: Array,
        index: NDArray[np.intp],
        placed: Array,
        scores: Array,
    ) -> Array:
        rest = 1.0 - weights.sum(axis=1, keepdims=True)
        shares = [rest * prior + weights @ kernel for kernel, prior in self._kernels]
        furthest = np.maximum(distance[:, -1:], np.finfo(float).tiny)
        closeness = np.exp(-2.0 * (distance / furthest) ** 2)
        closeness /= closeness.sum(axis=1, keepdims=True)
        indptr = np.arange(len(index) + 1) * index.shape[1]
        near = sp.csr_array(
            (closeness.ravel(), index.ravel(), indptr), shape=(len(index), len(self.coords))
        )
        kernel, prior = self._kernels[-1]
        shares.append((near @ kernel).toarray())
        priors = [prior for _, prior in self._kernels] + [prior]
        logs: list[Array | None] = [
            np.log(np.maximum(share, _FLOOR * prior))
            for share, prior in zip(shares, priors, strict=True)
        ]
        return self._with_normal(logs, placed, scores)

    def _with_normal(self, logs: list[Array | None], placed: Array, scores: Array) -> Array:
        widths = np.maximum(scores, 1e-3 * self.spacing)[:, None]
        normal = -0.5 * (cdist(placed, self.coords) / widths) ** 2
        return np.stack([np.zeros_like(normal) if log is None else log for log in logs] + [normal])

    @cached_property
    def _kernels(self) -> list[tuple[sp.csr_array, Array]]:
        """For each width, the smoothing matrix of the places, and its mean row."""
        tree = NearestNeighbors().fit(self.coords)
        kernels = []
        for width in _WIDTHS:
            radius = width * self.spacing
            graph = tree.radius_neighbors_graph(self.coords, radius=_CUT * radius, mode="distance")
            graph.data = np.exp(-0.5 * (graph.data / radius) ** 2)
            kernel = sp.csr_array(graph)
            kernel = sp.csr_array(sp.diags_array(1.0 / kernel.sum(axis=1)) @ kernel)
            kernels.append((kernel, np.asarray(kernel.mean(axis=0)).ravel()))
        return kernels

    @cached_property
    def _near(self) -> NearestNeighbors:
        k = min(_N_NEIGHBORS, len(self.features) // 4)
        return NearestNeighbors(n_neighbors=k).fit(self.features)

    @cached_property
    def _length(self) -> float:
        some = self.features[:: max(1, len(self.features) // _ROWS_FOR_LENGTH)]
        length = _LENGTH * float(np.median(cdist(some, some)))
        return length if length > 0 else 1.0

    @cached_property
    def _inverse(self) -> Array:
        similar = np.exp(-cdist(self.features, self.features) / self._length)
        similar[np.diag_indices_from(similar)] += _PENALTY
        return np.linalg.inv(similar)


def nearest_places(
    coords: Array, places: Array, own: NDArray[np.intp] | None = None
) -> NDArray[np.intp]:
    """Index of the place nearest to each position; not that of the cell itself, if given."""
    distances = cdist(coords, places)
    if own is not None:
        distances[np.arange(len(own)), own] = np.inf
    return np.argmin(distances, axis=1)


def probabilities(evidence: Array, weights: Array) -> Array:
    """Probability of every place: the kinds of evidence multiplied, each to its own power.

    Parameters
    ----------
    evidence : ndarray of shape (4, n_cells, n_places)
    weights : ndarray of shape (4,)
    """
    logs = np.tensordot(weights, evidence, axes=1)
    logs -= logs.max(axis=1, keepdims=True)
    p = np.exp(logs)
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def spatial_medians(p: Array, places: Array) -> Array:
    """The points of the smallest expected distance from where cells are, by Weiszfeld's steps.

    Between two patches, a mean lies where the cell never is. The median lies in the likelier one.

    Parameters
    ----------
    p : ndarray of shape (n_cells, n_places)
        Probabilities.
    places : ndarray of shape (n_places, n_dims)

    Returns
    -------
    ndarray of shape (n_cells, n_dims)
    """
    spread = max(float(places.std()), np.finfo(float).tiny)
    points = p @ places
    # Each cell takes the steps that it needs alone, whichever cells are beside it.
    moving = np.arange(len(p))
    for _ in range(_MEDIAN_STEPS):
        before = points[moving]
        # Next to a place, a step must not be divided by next to nothing.
        shares = p / np.maximum(cdist(before, places), _LEAST_DISTANCE * spread)
        points[moving] = (shares @ places) / shares.sum(axis=1, keepdims=True)
        far = np.abs(points[moving] - before).max(axis=1) > _LEAST_STEP * spread
        moving, p = moving[far], p[far]
        if not len(moving):
            break
    return points


def fit_weights(
    tables: list[tuple[Array, NDArray[np.intp]]],
    start: Array | None = None,
    strength: float = 1.0,
) -> Array:
    """Powers of the kinds of evidence by which new cells would have been found best.

    They maximize the probability of the places where the cells are. This is a convex problem: a
    log-linear model.

    Parameters
    ----------
    tables : list of tuples (evidence, true place)
        Of shape (4, n_cells, n_places) and (n_cells,), for cells whose own place was not used.
    start : ndarray of shape (4,), optional
        What the powers are drawn toward.
    strength : float, default=1.0
        How strongly: in cells that would say so.

    Returns
    -------
    ndarray of shape (4,)
        None below 0.
    """
    prior = np.zeros(N_KINDS) if start is None else start
    n_cells = sum(len(true) for _, true in tables)

    def loss(weights: Array) -> tuple[float, Array]:
        value = 0.5 * strength * float(np.sum((weights - prior) ** 2))
        slope = strength * (weights - prior)
        for evidence, true in tables:
            logs = np.tensordot(weights, evidence, axes=1)
            normalizer = logsumexp(logs, axis=1)
            cells = np.arange(len(true))
            value -= float(np.sum(logs[cells, true] - normalizer))
            expected = np.einsum("kcp,cp->k", evidence, np.exp(logs - normalizer[:, None]))
            slope -= evidence[:, cells, true].sum(axis=1) - expected
        return value / n_cells, slope / n_cells

    found = minimize(
        loss,
        np.full(N_KINDS, 0.3) if start is None else start,
        jac=True,
        bounds=[(0.0, None)] * N_KINDS,
        method="L-BFGS-B",
    )
    return np.asarray(found.x)


def tempered(weights: Array, strength: float = 1.0) -> Array:
    """Powers for cells of another kind than those that they were fitted on.

    Between sections, expression differs for reasons that have nothing to do with the place, by
    about as much whatever the tissue. It costs most where expression would tell the place
    best: a sum A of the powers becomes A / (1 + A).

    Parameters
    ----------
    weights : ndarray of shape (4,)
        The last is that of the normal distribution, and not part of A.
    strength : float, default=1.0
        1 for another section, 0 for none of it.
    """
    return weights / (1.0 + strength * weights[:-1].sum())
