"""Checked input of one scaling problem, in the order and frame that it is solved in."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import pairwise_distances
from torch import Tensor

from .._utils.arrays import check_array
from .._utils.validation import check_unit
from ._anchors import (
    Anchors,
    check_anchors,
    check_components_determined,
    check_determined,
    estimate_scale,
)
from ._checks import check_dissimilarities, check_scale, check_weights
from ._majorize import Majorizer
from ._pairs import (
    BlockPairs,
    EdgePairs,
    LatentDissimilarities,
    MatrixDissimilarities,
    edges_of,
)

_MAX_SCALE_ANCHORS = 2_000
# From this many rows on, first passes in float32 save time.
_MIN_ROWS_ROUGH = 1_000


class ScalingProblem:
    """Checked input of one call, with the moving rows sorted before the fixed ones.

    Arguments are those of `anchored_smacof`.

    Attributes
    ----------
    latents, matrix : ndarray or None
        Whichever was given, in the caller's order.
    n_samples, n_dims, n_moving : int
        Rows, coordinates, and rows that steps move. With a penalty all rows move.
    indices, coords : ndarray
        Anchors, as `check_anchors` returns them.
    scale : float
        c, given or estimated.
    order : ndarray of shape (n_samples,)
        Rows without a known position, then the anchors.
    shift : ndarray of shape (n_dims,)
        Mean of the anchors, which is the origin of the solver's frame.
    fixed, targets : tensor
        Anchors in the solver's frame: points that stay, or those that a penalty draws to.
    """

    def __init__(
        self,
        dissimilarities: ArrayLike | None = None,
        *,
        latents: ArrayLike | None = None,
        n_dims: int,
        anchors: Anchors = None,
        scale: float | None = None,
        weights: Any = None,
        penalty: float | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if (dissimilarities is None) == (latents is None):
            given = "both" if latents is not None else "neither"
            raise ValueError(
                f"give either dissimilarities or latents, got {given}. Pass one of the two."
            )
        self.latents: Any = None
        self.matrix: Any = None
        if dissimilarities is not None:
            source = self.matrix = check_dissimilarities(dissimilarities)
        else:
            source = self.latents = check_array(
                latents, dtype=[np.float64, np.float32], input_name="latents"
            )
            check_unit("latents span", source, "latents")
        self.n_samples, self.n_dims, self.dtype = len(source), n_dims, source.dtype
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or "cpu")
        self.indices, self.coords = check_anchors(anchors, self.n_samples, n_dims)
        self.penalty = penalty
        if penalty is not None and not len(self.indices):
            raise ValueError(
                f"penalty={penalty!r} draws rows to their anchors, but there are no anchors. "
                "Pass anchors or penalty=None."
            )
        self.weights = None if weights is None else check_weights(weights, self.n_samples)
        self.scale = self._estimate_scale() if scale is None else check_scale(scale)

        free = np.ones(self.n_samples, dtype=bool)
        free[self.indices] = False
        self.order = np.concatenate([np.flatnonzero(free), self.indices])
        self.n_moving = self.n_samples if penalty is not None else self.n_free
        # A map far from the origin would lose digits.
        self.shift = self.coords.mean(axis=0) if len(self.coords) else np.zeros(n_dims)
        centered = self.tensor(self.coords - self.shift)
        self.fixed = centered if penalty is None else centered[:0]
        self.targets = None if penalty is None else centered

    @property
    def n_free(self) -> int:
        """Number of rows without a known position, which come first in `order`."""
        return self.n_samples - len(self.indices)

    def tensor(self, array: ArrayLike) -> Tensor:
        """Copy an array to the problem's dtype and device."""
        array = np.array(array, dtype=self.dtype, order="C")
        return torch.from_numpy(array).to(self.device)

    def arrange(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Moving rows of a configuration, in the order and frame of the solver."""
        return points[self.order[: self.n_moving]] - self.shift

    def restore(self, moving: NDArray[np.floating]) -> NDArray[np.floating]:
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

    def fixed_stress(self, majorizer: Majorizer) -> float:
        """Stress of the pairs of two fixed points."""
        if not len(self.fixed):
            return 0.0
        unknown = self.fixed.new_zeros((self.n_moving, self.n_dims))
        return majorizer.pairs.fixed_stress(torch.cat([unknown, self.fixed]))

    def check_determined(self) -> None:
        """Raise a ValueError unless the anchors settle the pose."""
        if self.weights is None or not len(self.indices):
            check_determined(self.coords)
        else:
            check_components_determined(sparse.csr_array(self.weights), self.indices, self.coords)

    def _estimate_scale(self) -> float:
        if not len(self.indices):
            return 1.0
        indices, coords = self.indices, self.coords.astype(np.float64)
        if len(indices) > _MAX_SCALE_ANCHORS:
            kept = np.linspace(0, len(indices) - 1, _MAX_SCALE_ANCHORS).astype(int)
            indices, coords = indices[kept], coords[kept]
        if self.matrix is None:
            known = pdist(self.latents[indices].astype(np.float64))
        else:
            known = squareform(self.matrix[np.ix_(indices, indices)], checks=False).astype(float)
        return estimate_scale(coords, known)

    def is_large(self, limit: int) -> bool:
        """Whether pairs should be sampled: many rows of latents and no weights."""
        return self.latents is not None and self.weights is None and self.n_samples > limit

    def take(self, rows: NDArray[np.intp]) -> "ScalingProblem":
        """The same problem for some of the rows, numbered in the order of `self.order`."""
        known = np.flatnonzero(rows >= self.n_free)
        anchors = (known, self.coords[rows[known] - self.n_free]) if len(known) else None
        return type(self)(
            latents=self.latents[self.order[rows]],
            n_dims=self.n_dims,
            anchors=anchors,
            scale=self.scale,
            penalty=self.penalty,
            device=self.device,
        )

    def latent_dissimilarities(self) -> LatentDissimilarities:
        """Those of all pairs of latents, in the order of `self.order` and in tissue units."""
        return LatentDissimilarities(self.tensor(self.latents[self.order]), self.scale)

    def to_anchors(self, rows: slice, picked: NDArray[np.intp]) -> NDArray[np.floating]:
        """Dissimilarities of rows, in the caller's order, to the anchors numbered `picked`."""
        columns = self.indices[picked]
        if self.matrix is None:
            return pairwise_distances(self.latents[rows], self.latents[columns]) / self.scale
        return self.matrix[rows][:, columns] / self.scale

    def majorizer(self) -> Majorizer:
        """The pairs, in the order of `self.order`, with their stress and its step."""
        return Majorizer(
            self._pairs(),
            self.fixed,
            targets=self.targets,
            penalty=self.penalty or 0.0,
            unit=self.weights is None,
        )

    def rough_majorizer(self) -> Majorizer | None:
        """The same in float32 if that saves time: many float64 latents of equal weight."""
        pays = self.n_samples >= _MIN_ROWS_ROUGH and self.dtype == np.float64
        if not pays or self.latents is None or self.weights is not None:
            return None
        rough = copy.copy(self)
        rough.dtype = np.dtype(np.float32)
        rough.fixed = self.fixed.float()
        rough.targets = None if self.targets is None else self.targets.float()
        return rough.majorizer()

    def _pairs(self) -> BlockPairs | EdgePairs:
        source: LatentDissimilarities | MatrixDissimilarities
        if self.matrix is None:
            source = self.latent_dissimilarities()
        else:
            source = self._matrix_dissimilarities()
        if self.weights is None:
            return BlockPairs(source, self.n_moving)
        if not sparse.issparse(self.weights):
            weights = self.tensor(self.weights[np.ix_(self.order, self.order)])
            return BlockPairs(source, self.n_moving, weights.fill_diagonal_(0.0))
        ordered = sparse.csr_array(self.weights)[self.order][:, self.order]
        rows, columns, values = edges_of(ordered)
        first = torch.from_numpy(rows).to(self.device)
        second = torch.from_numpy(columns).to(self.device)
        return EdgePairs(
            first,
            second,
            source.of_pairs(first, second),
            self.tensor(values),
            self.n_samples,
            self.n_moving,
        )

    def _matrix_dissimilarities(self) -> MatrixDissimilarities:
        matrix = self.matrix
        if len(self.indices):
            matrix = matrix[np.ix_(self.order, self.order)]
        if self.scale != 1.0:
            matrix = matrix / self.scale
        # The caller's own matrix is copied only if torch cannot share it.
        if matrix.flags.writeable and matrix.flags.c_contiguous:
            return MatrixDissimilarities(torch.from_numpy(matrix).to(self.device))
        return MatrixDissimilarities(self.tensor(matrix))
