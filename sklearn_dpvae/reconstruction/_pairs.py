r"""One pass over the pairs: the stress and the right-hand side of the Guttman step.

For points Y with distances d_ij, dissimilarities delta_ij and weights w_ij, a pass returns

.. math:: \sigma(Y) = \sum_{i<j} w_{ij} (d_{ij} - \delta_{ij})^2, \qquad
          (B(Y) Y)_i = \sum_j w_{ij} \frac{\delta_{ij}}{d_{ij}} (y_i - y_j)

for the moving points, which come first; pairs of two fixed points are never visited.
Dissimilarities that come from latents are made block by block, so that memory is O(n).
Written in torch, so that it runs on any device. Imports nothing of this package.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The three work arrays of a 256 x 256 block fit a core's cache. A GPU needs large blocks.
_CPU_BLOCK = 256
_CUDA_BLOCK = 8192


def softening(points: Tensor) -> float:
    """Length below which two points count as coincident: sqrt(machine epsilon) of the radius.

    Distances are taken as ``sqrt(d^2 + softening^2)``, as if the two points of a pair were that
    far apart in one more dimension. This keeps ``delta / d`` finite, the majorization still
    holds exactly, and for all other pairs the change is below rounding.
    """
    radius = float((points - points.mean(0)).square().sum(1).max().sqrt())
    return float(np.sqrt(torch.finfo(points.dtype).eps)) * (radius if radius > 0 else 1.0)


class LatentDissimilarities:
    """Blocks of ``||z_i - z_j|| / scale``, made when asked for."""

    def __init__(self, latents: Tensor, scale: float = 1.0) -> None:
        latents = (latents - latents.mean(0)) / scale
        squares = latents.square().sum(1, keepdim=True)
        ones = torch.ones_like(squares)
        # |a|^2 + |b|^2 - 2 a.b as a single matrix product.
        self.left = torch.cat([latents, squares, ones], 1)
        self.right = torch.cat([-2.0 * latents, ones, squares], 1)
        self.dtype, self.device = latents.dtype, latents.device

    def __len__(self) -> int:
        return len(self.left)

    def block(
        self,
        rows: slice | Tensor,
        columns: slice | Tensor,
        out: Tensor | None = None,
        scratch: Tensor | None = None,
    ) -> Tensor:
        """Distances of two sets of rows; `out` and `scratch` save allocations."""
        squares = torch.mm(self.left[rows], self.right[columns].T, out=out)
        squares.clamp_min_(torch.finfo(self.dtype).tiny)
        # q / sqrt(q): in torch the inverse root takes half the time of the root.
        return squares.mul_(torch.rsqrt(squares, out=scratch))

    def of_pairs(self, i: Tensor, j: Tensor) -> Tensor:
        """Distances of pairs of rows."""
        return (self.left[i, :-2] - self.left[j, :-2]).square().sum(1).sqrt()

    def take(self, rows: Tensor) -> "LatentDissimilarities":
        """The same for some of the points."""
        subset = object.__new__(type(self))
        subset.left, subset.right = self.left[rows], self.right[rows]
        subset.dtype, subset.device = self.dtype, self.device
        return subset


class MatrixDissimilarities:
    """Blocks of a stored square matrix."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.dtype, self.device = matrix.dtype, matrix.device

    def __len__(self) -> int:
        return len(self.matrix)

    def block(
        self, rows: slice, columns: slice, out: Tensor | None = None, scratch: Tensor | None = None
    ) -> Tensor:
        """Entries of two ranges of rows; there is nothing to allocate."""
        return self.matrix[rows, columns]

    def of_pairs(self, i: Tensor, j: Tensor) -> Tensor:
        """Entries of pairs of rows."""
        return self.matrix[i, j]


class BlockPairs:
    """All pairs, block by block, with weight one or a dense matrix of weights.

    Parameters
    ----------
    dissimilarities : LatentDissimilarities or MatrixDissimilarities
        Of the points in this order: moving points first, then fixed ones.
    n_moving : int
        How many points move.
    weights : tensor of shape (n_points, n_points), optional
    """

    def __init__(
        self,
        dissimilarities: LatentDissimilarities | MatrixDissimilarities,
        n_moving: int,
        weights: Tensor | None = None,
    ) -> None:
        self.dissimilarities = dissimilarities
        self.n_moving = n_moving
        self.weights = weights
        size = _CUDA_BLOCK if dissimilarities.device.type == "cuda" else _CPU_BLOCK
        n_points = len(dissimilarities)
        self.moving = [slice(s, min(s + size, n_moving)) for s in range(0, n_moving, size)]
        self.fixed = [slice(s, min(s + size, n_points)) for s in range(n_moving, n_points, size)]
        widest = max(b.stop - b.start for b in self.moving + self.fixed) ** 2
        self._buffers = torch.empty(
            (3, widest), dtype=dissimilarities.dtype, device=dissimilarities.device
        )

    def evaluate(self, points: Tensor) -> tuple[float, Tensor]:
        """Stress over pairs that can change, and B(Y) Y of the moving points."""
        eps2 = points.new_tensor(softening(points) ** 2)
        stress = points.new_zeros((), dtype=torch.float64)
        # One row per coordinate, and one of ones: a matrix product is several times faster with
        # few rows on the left than with few columns on the right.
        columns = torch.cat([points, torch.ones_like(points[:, :1])], 1).T.contiguous()
        sums = torch.zeros_like(columns[:, : self.n_moving])
        for number, rows in enumerate(self.moving):
            for others in self.moving[number:] + self.fixed:
                ratio, squared = self._block(columns[:-1], rows, others, eps2)
                stress += squared
                sums[:, rows].addmm_(columns[:, others], ratio.T)
                if rows.start < others.start < self.n_moving:
                    sums[:, others].addmm_(columns[:, rows], ratio)
        moving = points[: self.n_moving]
        return float(stress), sums[-1][:, None] * moving - sums[:-1].T

    def fixed_stress(self, points: Tensor) -> float:
        """Stress over pairs of two fixed points, which no step changes."""
        eps2 = points.new_tensor(softening(points[self.n_moving :]) ** 2)
        columns = points.T.contiguous()
        stress = 0.0
        for number, rows in enumerate(self.fixed):
            for others in self.fixed[number:]:
                stress += float(self._block(columns, rows, others, eps2)[1])
        return stress

    def _block(
        self, columns: Tensor, rows: slice, others: slice, eps2: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Ratios w * delta / d of one block, and its share of the stress (each pair once)."""
        shape = (rows.stop - rows.start, others.stop - others.start)
        count = shape[0] * shape[1]
        squares, scratch, made = (buffer[:count].view(shape) for buffer in self._buffers)
        dissimilarity = self.dissimilarities.block(rows, others, made, scratch)
        for k, column in enumerate(columns):
            torch.sub(column[rows, None], column[None, others], out=scratch)
            if k == 0:
                torch.addcmul(eps2, scratch, scratch, out=squares)
            else:
                squares.addcmul_(scratch, scratch)
        inverse = torch.rsqrt(squares, out=scratch)
        # delta - d, with d = d^2 / d.
        torch.addcmul(dissimilarity, squares, inverse, value=-1.0, out=squares)
        ratio = torch.mul(dissimilarity, inverse, out=inverse)
        twice = rows.start == others.start
        if twice:
            squares.fill_diagonal_(0.0)
        flat = squares.view(-1)
        if self.weights is None:
            squared = torch.dot(flat, flat)
        else:
            weight = self.weights[rows, others]
            ratio *= weight
            torch.mul(squares, weight, out=made)
            squared = torch.dot(flat, made.view(-1))
        return ratio, 0.5 * squared if twice else squared

    def degree(self) -> Tensor:
        """Sum of each point's weights. Only for pairs with weights."""
        assert self.weights is not None
        return self.weights.sum(1, keepdim=True)

    def adjacency_product(self, points: Tensor) -> Tensor:
        """W X, for the moving rows; `points` may hold the moving points alone."""
        assert self.weights is not None
        return self.weights[: self.n_moving, : len(points)] @ points


class EdgePairs:
    """The pairs of a sparse graph: cost and memory follow the number of edges.

    Parameters
    ----------
    first, second : tensor of shape (n_edges,), dtype int64
        Ends of each edge, each pair once.
    dissimilarities, weights : tensor of shape (n_edges,)
    n_points, n_moving : int
        How many points there are, and how many of them move.
    """

    def __init__(
        self,
        first: Tensor,
        second: Tensor,
        dissimilarities: Tensor,
        weights: Tensor,
        n_points: int,
        n_moving: int,
    ) -> None:
        self.n_points, self.n_moving = n_points, n_moving
        self._all = (first, second, dissimilarities, weights)
        changes = (first < n_moving) | (second < n_moving)
        self.first, self.second = first[changes], second[changes]
        self.dissimilarities, self.weights = dissimilarities[changes], weights[changes]

    def evaluate(self, points: Tensor) -> tuple[float, Tensor]:
        """Stress over pairs that can change, and B(Y) Y of the moving points."""
        difference = points[self.first] - points[self.second]
        distance = (difference.square().sum(1) + softening(points) ** 2).sqrt()
        residual = distance - self.dissimilarities
        stress = float((self.weights * residual.square()).sum(dtype=torch.float64))
        ratio = self.weights * self.dissimilarities / distance
        difference *= ratio[:, None]
        product = torch.zeros_like(points)
        product.index_add_(0, self.first, difference)
        product.index_add_(0, self.second, difference, alpha=-1)
        return stress, product[: self.n_moving]

    def fixed_stress(self, points: Tensor) -> float:
        """Stress over pairs of two fixed points, which no step changes."""
        first, second, dissimilarities, weights = self._all
        fixed = (first >= self.n_moving) & (second >= self.n_moving)
        distance = (points[first[fixed]] - points[second[fixed]]).square().sum(1).sqrt()
        return float((weights[fixed] * (distance - dissimilarities[fixed]).square()).sum())

    def degree(self) -> Tensor:
        """Sum of each point's weights."""
        ones = self.weights[:, None]
        degree = ones.new_zeros((self.n_points, 1))
        return degree.index_add_(0, self.first, ones).index_add_(0, self.second, ones)

    def adjacency_product(self, points: Tensor) -> Tensor:
        """W X, for the moving rows; `points` may hold the moving points alone."""
        inside = (self.first < len(points)) & (self.second < len(points))
        first, second = self.first[inside], self.second[inside]
        weight = self.weights[inside, None]
        product = torch.zeros_like(points)
        product.index_add_(0, first, weight * points[second])
        product.index_add_(0, second, weight * points[first])
        return product[: self.n_moving]


def edges_of(weights: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]:
    """Upper-triangle entries of a symmetric sparse matrix: both ends of each, and its value."""
    upper = weights.tocoo()
    kept = (upper.row < upper.col) & (upper.data != 0)
    return upper.row[kept].astype(np.int64), upper.col[kept].astype(np.int64), upper.data[kept]
