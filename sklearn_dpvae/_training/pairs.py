"""Which pairs of a reference the distance term looks at: a mask, made for its cells.

Imports the masks.
"""

from contextlib import suppress
from dataclasses import dataclass
from inspect import signature

import numpy as np
import scipy.sparse as sp

from .._utils.arrays import check_array
from ..masks import MASKS, ClusterMask


class EdgeMask:
    """Weights of pairs as a sparse matrix.

    Parameters
    ----------
    matrix : csr_matrix of shape (n_cells, n_cells), dtype float32
        Symmetric, with an empty diagonal and no stored zeros.
    """

    def __init__(self, matrix: sp.csr_matrix):
        self.matrix = matrix

    def restricted_to(self, rows: np.ndarray) -> "EdgeMask":
        """The pairs of two of these cells; others have none, and no number changes."""
        keep = sp.diags(np.isin(np.arange(self.matrix.shape[0]), rows).astype(np.float32))
        matrix = sp.csr_matrix(keep @ self.matrix @ keep)
        matrix.eliminate_zeros()
        return EdgeMask(matrix)

    def draw_neighbors(self, cells: np.ndarray, n_draws: int, rng) -> np.ndarray:
        """Random neighbors of each cell, with replacement; none of cells that have none."""
        start = self.matrix.indptr[cells]
        degree = self.matrix.indptr[cells + 1] - start
        start, degree = (np.repeat(a[degree > 0], n_draws) for a in (start, degree))
        return self.matrix.indices[start + (rng.random(len(start)) * degree).astype(np.intp)]

    def among(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pairs within a batch of each member.

        Parameters
        ----------
        index : ndarray of shape (n_members, n_batch)
            Different cells of each member.

        Returns
        -------
        pairs : ndarray of shape (3, n_pairs), dtype int64
            Member and the two places in its batch.
        weights : ndarray of shape (n_pairs,), dtype float32
        """
        indptr, indices, data = self.matrix.indptr, self.matrix.indices, self.matrix.data
        place = np.full(self.matrix.shape[0], -1)
        found = []
        for member, cells in enumerate(index):
            place[cells] = np.arange(len(cells))
            start, degree = indptr[cells], indptr[cells + 1] - indptr[cells]
            i = np.repeat(np.arange(len(cells)), degree)
            # Entries of all rows one after another.
            within = np.arange(len(i)) - np.repeat(np.cumsum(degree) - degree, degree)
            entry = np.repeat(start, degree) + within
            j = place[indices[entry]]
            keep = j >= 0
            found.append((np.full(keep.sum(), member), i[keep], j[keep], data[entry[keep]]))
            place[cells] = -1
        members, i, j, weights = (np.concatenate(part) for part in zip(*found, strict=True))
        return np.stack([members, i, j]).astype(np.int64), weights


@dataclass(frozen=True, eq=False)
class GroupMask:
    """Pairs within groups, or between groups of a section.

    Parameters
    ----------
    groups : ndarray of shape (n_cells,), dtype int64
        Numbered over all sections: no group is in two of them.
    between : bool
    """

    groups: np.ndarray
    between: bool


def build_mask(mask, X, coords, codes, labels) -> EdgeMask | GroupMask | None:
    """Make the mask of a reference, section by section.

    Parameters
    ----------
    mask : {None, "knn", "radius", "clusters"}, callable, array-like or sparse matrix
        Parameter `mask` of the regressor.
    X : ndarray or CSR matrix of shape (n_cells, n_features)
    coords : ndarray of shape (n_cells, n_dims)
    codes : ndarray of shape (n_cells,)
        Section codes.
    labels : ndarray of shape (n_sections,)
        Labels of the sections, for messages.

    Returns
    -------
    EdgeMask, GroupMask or None

    Raises
    ------
    ValueError
        If a matrix is not square, of the wrong size, negative or not finite, or leaves no pair.
    """
    if mask is None:
        return None
    if isinstance(mask, str):
        mask = MASKS[mask]()
    if not callable(mask):
        matrix = _check_weights(mask, len(coords))
        same = codes[matrix.row] == codes[matrix.col]
        return _edge_mask([(matrix.row[same], matrix.col[same], matrix.data[same])], len(coords))
    blocks, groups, n_groups = [], np.full(len(coords), -1), 0
    for code in range(len(labels)):
        rows = np.flatnonzero(codes == code)
        answer = _ask(mask, X[rows], coords[rows])
        if isinstance(mask, ClusterMask):
            _, own = np.unique(answer, return_inverse=True)
            groups[rows] = own + n_groups
            n_groups += own.max() + 1
        else:
            matrix = _check_weights(answer, len(rows), section=labels[code])
            blocks.append((rows[matrix.row], rows[matrix.col], matrix.data))
    if isinstance(mask, ClusterMask):
        return GroupMask(groups, mask.pairs == "between")
    return _edge_mask(blocks, len(coords))


def _ask(mask, X, coords):
    """The mask of a section, by a callable that takes both arguments."""
    with suppress(ValueError):  # Of callables that do not tell what they take.
        try:
            signature(mask).bind(X, coords)
        except TypeError as error:
            raise TypeError(
                f"mask must be a function of (X, coords), got {mask!r} ({error})."
            ) from error
    return mask(X, coords)


def _check_weights(matrix, n_cells, section=None) -> sp.coo_matrix:
    shape = np.shape(matrix)
    if shape != (n_cells, n_cells):
        if section is None:
            raise ValueError(
                f"mask has shape {shape} but X has {n_cells} rows; an array must have the shape "
                f"({n_cells}, {n_cells}). It belongs to one set of cells: for cross-validation, "
                "pass a callable that makes the mask from (X, coords)."
            )
        raise ValueError(
            f"the callable mask returned shape {shape} for the {n_cells} cells of section "
            f"{section.item()!r}. Return weights of shape ({n_cells}, {n_cells})."
        )
    matrix = check_array(
        matrix, accept_sparse="coo", dtype=np.float32, input_name="mask", ensure_min_features=0
    )
    matrix = sp.coo_matrix(matrix)
    if matrix.nnz and matrix.data.min() < 0:
        raise ValueError(
            f"mask has negative weights, the lowest {matrix.data.min()}. Pass 0 for pairs that "
            "do not count and positive weights for those that do."
        )
    return matrix


def _edge_mask(blocks, n_cells) -> EdgeMask:
    i, j, weights = (np.concatenate(part) for part in zip(*blocks, strict=True))
    apart = (i != j) & (weights > 0)
    entries = weights[apart].astype(np.float32), (i[apart], j[apart])
    matrix = sp.csr_matrix(entries, shape=(n_cells, n_cells))
    if not matrix.nnz:
        raise ValueError(
            "mask leaves no pair of different cells of one section. Pass a mask with positive "
            "weights, or mask=None for all pairs."
        )
    return EdgeMask(sp.csr_matrix(((matrix + matrix.T) / 2).astype(np.float32)))
