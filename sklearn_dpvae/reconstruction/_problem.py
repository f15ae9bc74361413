"""Checked input of one scaling problem, and where to start on it."""

import copy

import numpy as np
import torch
from scipy import sparse
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import pairwise_distances
from sklearn.utils import check_array

from ._anchors import (
    check_anchors,
    check_components_determined,
    check_determined,
    estimate_scale,
)
from ._landmarks import check_scale
from ._majorize import Problem, edges_of
from ._pairs import BlockPairs, EdgePairs, LatentDissimilarities, MatrixDissimilarities
from ._starts import (
    align,
    anchors_start,
    classical_start,
    latent_spread,
    matrix_spread,
    pca_start,
    random_start,
)

_MAX_SCALE_ANCHORS = 2_000
_MIN_ROWS_ROUGH = 1_000


class Task:
    """Checked input of one call, with the moving rows sorted before the fixed ones."""

    def __init__(self, dissimilarities, latents, n_dims, anchors, scale, weights, penalty, device):
        if (dissimilarities is None) == (latents is None):
            given = "both" if latents is not None else "neither"
            raise ValueError(
                f"give either dissimilarities or latents, got {given}. Pass one of the two."
            )
        self.latents = self.matrix = None
        if latents is not None:
            self.latents = check_array(
                latents, dtype=[np.float64, np.float32], input_name="latents"
            )
        else:
            self.matrix = _check_dissimilarities(dissimilarities)
        source = self.latents if self.matrix is None else self.matrix
        self.n_samples, self.n_dims, self.dtype = len(source), n_dims, source.dtype
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or "cpu")
        self.indices, self.coords = check_anchors(anchors, self.n_samples, n_dims)
        self.penalty = penalty
        if penalty is not None and not len(self.indices):
            raise ValueError(
                f"penalty={penalty!r} draws anchors, but there are none. Pass anchors."
            )
        self.weights = None if weights is None else _check_weights(weights, self.n_samples)
        self.scale = self._estimate_scale() if scale is None else check_scale(scale)

        free = np.ones(self.n_samples, dtype=bool)
        free[self.indices] = False
        self.order = np.concatenate([np.flatnonzero(free), self.indices])
        n_free = self.n_samples - len(self.indices)
        self.n_moving = n_free if penalty is None else self.n_samples
        # A map far from the origin would lose digits.
        self.shift = self.coords.mean(axis=0) if len(self.coords) else np.zeros(n_dims)
        centered = self.tensor(self.coords - self.shift)
        self.fixed = centered if penalty is None else centered[:0]
        self.targets = None if penalty is None else centered

    def tensor(self, array):
        array = np.array(array, dtype=self.dtype, order="C")
        return torch.from_numpy(array).to(self.device)

    def arrange(self, points):
        """Moving rows of a configuration in tissue coordinates."""
        return points[self.order[: self.n_moving]] - self.shift

    def restore(self, moving):
        """Configuration in the caller's order and frame, with the anchors as given."""
        dtype = self.dtype
        if len(self.indices):
            dtype = np.result_type(dtype, self.coords.dtype)
        embedding = np.empty((self.n_samples, self.n_dims), dtype=dtype)
        if len(self.indices) == 0:
            moving = moving - moving.mean(axis=0)
        embedding[self.order[: self.n_moving]] = moving + self.shift
        if self.penalty is None:
            embedding[self.indices] = self.coords
        return embedding

    def fixed_stress(self, problem):
        """Stress of the pairs of two fixed points."""
        if not len(self.fixed):
            return 0.0
        unknown = self.fixed.new_zeros((self.n_moving, self.n_dims))
        return problem.pairs.fixed_stress(torch.cat([unknown, self.fixed]))

    def check_determined(self):
        if self.weights is None or not len(self.indices):
            check_determined(self.coords)
        else:
            check_components_determined(sparse.csr_array(self.weights), self.indices, self.coords)

    def _estimate_scale(self):
        if not len(self.indices):
            return 1.0
        indices, coords = self.indices, self.coords.astype(np.float64)
        if len(indices) > _MAX_SCALE_ANCHORS:
            kept = np.linspace(0, len(indices) - 1, _MAX_SCALE_ANCHORS).astype(int)
            indices, coords = indices[kept], coords[kept]
        if self.latents is not None:
            known = pdist(self.latents[indices].astype(np.float64))
        else:
            known = squareform(self.matrix[np.ix_(indices, indices)], checks=False).astype(float)
        return estimate_scale(coords, known)

    def is_large(self, limit):
        """Whether pairs should be sampled: many rows of latents and no weights."""
        return self.latents is not None and self.weights is None and self.n_samples > limit

    def take(self, rows):
        """The same task for some of the rows, numbered in the order of `self.order`."""
        kept = self.order[rows]
        known = np.flatnonzero(rows >= self.n_samples - len(self.indices))
        anchors = None
        if len(known):
            anchors = known, self.coords[rows[known] - (self.n_samples - len(self.indices))]
        return type(self)(
            None,
            self.latents[kept],
            self.n_dims,
            anchors,
            self.scale,
            None,
            self.penalty,
            self.device,
        )

    def dissimilarities(self):
        """Those of all pairs, in the order of `self.order` and in tissue units."""
        if self.latents is not None:
            return LatentDissimilarities(self.tensor(self.latents[self.order]), self.scale)
        matrix = self.matrix
        if len(self.indices):
            matrix = matrix[np.ix_(self.order, self.order)]
        if self.scale != 1.0:
            matrix = matrix / self.scale
        return MatrixDissimilarities(self._share(matrix))

    def problem(self):
        """The pairs, in the order of `self.order`, as a majorization problem."""
        source = self.dissimilarities()
        if self.weights is None:
            pairs = BlockPairs(source, self.n_moving)
        elif sparse.issparse(self.weights):
            ordered = sparse.csr_array(self.weights)[self.order][:, self.order]
            first, second, values = edges_of(ordered)
            first = torch.from_numpy(first).to(self.device)
            second = torch.from_numpy(second).to(self.device)
            pairs = EdgePairs(
                first,
                second,
                source.of_pairs(first, second),
                self.tensor(values),
                self.n_samples,
                self.n_moving,
            )
        else:
            weights = self.tensor(self.weights[np.ix_(self.order, self.order)])
            pairs = BlockPairs(source, self.n_moving, weights.fill_diagonal_(0.0))
        return Problem(
            pairs,
            self.fixed,
            targets=self.targets,
            penalty=self.penalty or 0.0,
            unit=self.weights is None,
        )

    def _share(self, matrix):
        """A tensor of the caller's matrix, copied only where it must be."""
        if matrix.flags.writeable and matrix.flags.c_contiguous:
            return torch.from_numpy(matrix).to(self.device)
        return self.tensor(matrix)

    def rough_problem(self):
        """The problem in float32, where that pays: many float64 latents of equal weight."""
        pays = self.n_samples >= _MIN_ROWS_ROUGH and self.dtype == np.float64
        if not pays or self.latents is None or self.weights is not None:
            return None
        rough = copy.copy(self)
        rough.dtype = np.dtype(np.float32)
        rough.fixed = self.fixed.float()
        rough.targets = None if self.targets is None else self.targets.float()
        return rough.problem()

    def start(self, init, problem, rng):
        """Starting positions of the moving rows, as a tensor."""
        if not isinstance(init, str):
            return self.tensor(self.arrange(init))
        if init == "random":
            spread = self._spread() / self.scale
            start = random_start(self.n_samples, self.n_dims, spread, rng) + self.shift
            return self.tensor(self.arrange(start))
        starts = []
        if init in ("auto", "classical"):
            starts.append(self._classical(rng))
        determined = len(self.indices) > self.n_dims
        if init == "anchors" or (init == "auto" and determined):
            starts.append(anchors_start(self._to_anchors, self.n_samples, self.coords, rng))
        starts = [self.tensor(self.arrange(start)) for start in starts]
        return min(starts, key=lambda s: problem.evaluate(s)[0]) if len(starts) > 1 else starts[0]

    def _classical(self, rng):
        if self.latents is not None:
            start = pca_start(self.latents.astype(np.float64), self.n_dims) / self.scale
        else:
            start = classical_start(self.matrix, self.n_dims, rng) / self.scale
        return align(start, self.indices, self.coords.astype(np.float64))

    def _to_anchors(self, rows, picked):
        picked = self.indices[picked]
        if self.latents is not None:
            return pairwise_distances(self.latents[rows], self.latents[picked]) / self.scale
        return self.matrix[rows][:, picked] / self.scale

    def _spread(self):
        return matrix_spread(self.matrix) if self.latents is None else latent_spread(self.latents)


def _check_dissimilarities(dissimilarities):
    matrix = check_array(
        dissimilarities, dtype=[np.float64, np.float32], input_name="dissimilarities"
    )
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"dissimilarities has shape {matrix.shape}, but one row and one column per point was "
            "expected. Pass points themselves as latents."
        )
    largest = np.abs(matrix).max()
    if matrix.min() < 0:
        raise ValueError(f"dissimilarities must not be negative, found {matrix.min()}.")
    diagonal = np.abs(matrix.diagonal()).max()
    if diagonal > 1e-6 * largest:
        raise ValueError(
            f"dissimilarities has {diagonal} on its diagonal; a point is at distance 0 from "
            "itself. Similarities must be turned into dissimilarities first."
        )
    return _symmetric(matrix, "dissimilarities", 1e-6 * largest)


def _check_weights(weights, n_samples):
    weights = check_array(
        weights,
        accept_sparse="csr",
        dtype=[np.float64, np.float32],
        input_name="weights",
    )
    if weights.shape != (n_samples, n_samples):
        raise ValueError(
            f"weights has shape {weights.shape}, but one weight for each pair of the {n_samples} "
            "rows was expected."
        )
    values = weights.data if sparse.issparse(weights) else weights
    if values.size and values.min() < 0:
        raise ValueError(f"weights must not be negative, found {values.min()}.")
    if not values.any():
        raise ValueError("weights are all zero: no pair is left to fit. Give some pairs weight.")
    return _symmetric(weights, "weights", 1e-6 * values.max())


def _symmetric(matrix, name, tol):
    asymmetry = abs(matrix - matrix.T).max()
    if asymmetry > tol:
        raise ValueError(
            f"{name} must be symmetric, but entries across the diagonal differ by up to "
            f"{asymmetry:.3g}. Pass ({name} + {name}.T) / 2 if that is what you mean."
        )
    return matrix
