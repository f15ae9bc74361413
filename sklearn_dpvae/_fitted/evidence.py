"""What the cells of a section say of the place of a cell whose expression is like theirs.

Six kinds of evidence, and how much each counts. Imports the network that tells places, its
training and the places.
"""

import copy
from collections.abc import Callable
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.neighbors import NearestNeighbors

from .._network.places import PlaceNet
from .._training.places import train_place_net
from ..places import spacing_of

Array = NDArray[np.float64]

N_KINDS = 6
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
    4. and 5. what a network says that was trained to tell the place, as it is and smoothed by the
       wide kernel;
    6. a normal distribution around the predicted position, as wide as its expected error.

    Parameters
    ----------
    features : ndarray of shape (n_places, n_features)
    coords : ndarray of shape (n_places, n_dims)
    learned : callable, optional
        From features to the network's probabilities of the places. Without it, kinds 4 and 5 say
        nothing.
    """

    def __init__(
        self, features: Array, coords: Array, learned: Callable[[Array], Array] | None = None
    ):
        self.features = features
        self.coords = coords
        self.learned = learned
        self.spacing = spacing_of(coords)

    def joined_by(self, features: Array, coords: Array) -> "SectionEvidence":
        """The same with further cells, which the network has not learned.

        It says of a place what it says of the nearest one that it knows.
        """
        learned = self.learned
        everywhere = np.vstack([self.coords, coords])
        told = None
        if learned is not None:
            nearest = np.concatenate(
                [np.arange(len(self.coords)), nearest_places(coords, self.coords)]
            )
            share = 1.0 / np.bincount(nearest)[nearest]

            def told(features: Array) -> Array:
                return learned(features)[:, nearest] * share

        return SectionEvidence(np.vstack([self.features, features]), everywhere, told)

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
        ndarray of shape (6, n_cells, n_places)
        """
        if len(self.coords) < MIN_CELLS:
            return self._with_normal([None] * (N_KINDS - 1), placed, scores)
        similar = np.exp(-cdist(features, self.features) / self._length)
        distance, index = self._near.kneighbors(features)
        return self._logs(similar @ self._inverse, distance, index, features, placed, scores)

    def of_own(self, rows: NDArray[np.intp], placed: Array, scores: Array) -> Array:
        """The same for some of the section's cells, as if each alone was new.

        The network must not have been trained on them.
        """
        if len(self.coords) < MIN_CELLS:
            return self._with_normal([None] * (N_KINDS - 1), placed, scores)
        similar = np.exp(-cdist(self.features[rows], self.features) / self._length)
        weights = similar @ self._inverse
        # A linear smoother without a cell: its other weights, scaled up.
        own = np.arange(len(rows)), rows
        left = 1.0 - weights[own]
        weights[own] = 0.0
        distance, index = self._near.kneighbors()
        near = distance[rows], index[rows]
        return self._logs(weights / left[:, None], *near, self.features[rows], placed, scores)

    def _logs(
        self,
        weights: Array,
        distance: Array,
        index: NDArray[np.intp],
        features: Array,
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
        logs: list[Array | None] = [None] * (N_KINDS - 1)
        if self.learned is not None:
            told = self.learned(features)
            shares += [told, told @ kernel]
            priors += [prior for _, prior in self._kernels]
        for kind, (share, prior) in enumerate(zip(shares, priors, strict=True)):
            logs[kind] = np.log(np.maximum(share, _FLOOR * prior))
        return self._with_normal(logs, placed, scores)

    def _with_normal(self, logs: list[Array | None], placed: Array, scores: Array) -> Array:
        widths = np.maximum(scores, 1e-3 * self.spacing)[:, None]
        normal = -0.5 * (cdist(placed, self.coords) / widths) ** 2
        return np.stack([np.zeros_like(normal) if log is None else log for log in logs] + [normal])

    @cached_property
    def _kernels(self) -> list[tuple[sp.csr_array, Array]]:
        """For each width, the smoothing matrix of the places, and its mean row."""
        kernels = []
        for width in _WIDTHS:
            kernel = _smoothed(self.coords, self.coords, width * self.spacing)
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


def section_evidence(
    features: Array, coords: Array, codes: NDArray[np.int64], net: PlaceNet | None
) -> dict[int, SectionEvidence]:
    """Evidence of each section of known cells.

    Parameters
    ----------
    features, coords, codes
        Of the known cells, see `PlaceModel`.
    net : PlaceNet, optional
        Its places are these cells.
    """
    evidence = {}
    # In float64, what is said of a cell hardly depends on the cells beside it.
    exact = None if net is None else copy.deepcopy(net).double()
    for code in np.unique(codes):
        own = codes == code
        learned = None if exact is None else _told_by(exact, np.flatnonzero(own))
        evidence[int(code)] = SectionEvidence(features[own], coords[own], learned)
    return evidence


def _told_by(net: PlaceNet, own: NDArray[np.intp]) -> Callable[[Array], Array]:
    """The probabilities of some places, given that it is one of them."""

    def told(features: Array) -> Array:
        p: Array = net.probabilities(torch.from_numpy(features)).numpy()[:, own]
        return p / np.maximum(p.sum(axis=1, keepdims=True), np.finfo(float).tiny)

    return told


def learn_places(
    features: Array,
    coords: Array,
    codes: NDArray[np.int64],
    places: Array,
    codes_of_places: NDArray[np.int64],
    *,
    n_members: int,
    n_epochs: int,
    seed: int,
) -> PlaceNet:
    """Train a network to tell near which places cells lie, of all sections at once.

    It sees all cells of a large reference, where the other kinds of evidence compare with the
    places alone.

    Parameters
    ----------
    features : ndarray of shape (n_cells, n_features)
    coords : ndarray of shape (n_cells, n_dims)
    codes : ndarray of shape (n_cells,)
        Their sections.
    places : ndarray of shape (n_places, n_dims)
    codes_of_places : ndarray of shape (n_places,)
    n_members, n_epochs, seed : int
        See `train_place_net`.
    """
    rows, columns, shares = [], [], []
    for code in np.unique(codes_of_places):
        here, there = np.flatnonzero(codes == code), np.flatnonzero(codes_of_places == code)
        if not len(here):
            continue
        kernel = _smoothed(coords[here], places[there], _WIDTHS[0] * spacing_of(places[there]))
        found = kernel.tocoo()
        rows.append(here[found.coords[0]])
        columns.append(there[found.coords[1]])
        shares.append(found.data)
    targets = sp.csr_array(
        (np.concatenate(shares), (np.concatenate(rows), np.concatenate(columns))),
        shape=(len(coords), len(places)),
    )
    return train_place_net(features, targets, n_members=n_members, n_epochs=n_epochs, seed=seed)


def _smoothed(coords: Array, places: Array, radius: float) -> sp.csr_array:
    """Normal weights of the places around positions. Rows sum to 1."""
    tree = NearestNeighbors(n_neighbors=1).fit(places)
    graph = sp.csr_array(
        tree.radius_neighbors_graph(coords, radius=_CUT * radius, mode="distance")
    )
    alone = np.flatnonzero(np.diff(graph.indptr) == 0)
    graph.data = np.exp(-0.5 * (graph.data / radius) ** 2)
    if len(alone):
        nearest = tree.kneighbors(coords[alone], return_distance=False)[:, 0]
        ones = np.ones(len(alone))
        graph = sp.csr_array(graph + sp.csr_array((ones, (alone, nearest)), shape=graph.shape))
    return sp.csr_array(sp.diags_array(1.0 / graph.sum(axis=1)) @ graph)


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
    evidence : ndarray of shape (6, n_cells, n_places)
    weights : ndarray of shape (6,)
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
        Of shape (6, n_cells, n_places) and (n_cells,), for cells whose own place was not used.
    start : ndarray of shape (6,), optional
        What the powers are drawn toward.
    strength : float, default=1.0
        How strongly: in cells that would say so.

    Returns
    -------
    ndarray of shape (6,)
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
    weights : ndarray of shape (6,)
        The last is that of the normal distribution, and not part of A.
    strength : float, default=1.0
        1 for another section, 0 for none of it.
    """
    return weights / (1.0 + strength * weights[:-1].sum())
