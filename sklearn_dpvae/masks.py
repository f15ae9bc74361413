"""Which pairs of cells the distance term looks at: the weights M_ij of eq. (5).

A mask is a function of the expression and the positions of one section, so that it is made anew
for whatever cells a model is fitted on, also by cross-validation. Imports nothing of this package.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.neighbors import NearestNeighbors, radius_neighbors_graph
from sklearn.utils import check_array, check_random_state

_PCS_FOR_CLUSTERS = 20


@dataclass(frozen=True)
class KNNMask:
    """Pairs of near neighbors, at one scale or at several.

    Parameters
    ----------
    n_neighbors : int, default=15
        Number of nearest neighbors of a cell at each scale.
    n_scales : int, default=3
        At the first scale neighbors are looked for among all cells, at each further one among a
        random fourth of the cells of the scale before, so that they are twice as far. With 1
        nothing holds far parts of the tissue apart.
    random_state : int, RandomState instance or None, default=0
        Seed of the subsets of the further scales.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.masks import KNNMask
    >>> coords = np.array([[0.0], [1.0], [3.0], [7.0]])
    >>> KNNMask(n_neighbors=1, n_scales=1)(None, coords).toarray()
    array([[0., 1., 0., 0.],
           [1., 0., 1., 0.],
           [0., 1., 0., 1.],
           [0., 0., 1., 0.]])
    """

    n_neighbors: int = 15
    n_scales: int = 3
    random_state: int | np.random.RandomState | None = 0

    def __call__(self, X, coords: np.ndarray) -> sp.csr_matrix:
        """Return the symmetric matrix of pairs.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            Not used.
        coords : ndarray of shape (n_cells, n_dims)

        Returns
        -------
        csr_matrix of shape (n_cells, n_cells)
            1 for pairs that are neighbors in either direction.
        """
        n_cells = len(coords)
        rng = check_random_state(self.random_state)
        among = np.arange(n_cells)
        mask = sp.csr_matrix((n_cells, n_cells))
        for _ in range(self.n_scales):
            # One more, since a cell that is among them is its own nearest.
            k = min(self.n_neighbors + 1, len(among))
            nearest = NearestNeighbors(n_neighbors=k).fit(coords[among])
            found = among[nearest.kneighbors(coords, return_distance=False)].ravel()
            edges = np.ones(len(found)), (np.repeat(np.arange(n_cells), k), found)
            mask = mask.maximum(_symmetric(sp.csr_matrix(edges, shape=mask.shape)))
            if len(among) <= self.n_neighbors:
                break
            among = rng.choice(among, max(len(among) // 4, 1), replace=False)
        return mask


@dataclass(frozen=True)
class RadiusMask:
    """Pairs within a distance.

    Parameters
    ----------
    radius : float, default=None
        In tissue units. None takes half the root-mean-square distance of the section's cells
        from their center.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.masks import RadiusMask
    >>> coords = np.array([[0.0], [1.0], [3.0], [7.0]])
    >>> RadiusMask(radius=2.5)(None, coords).toarray()
    array([[0., 1., 0., 0.],
           [1., 0., 1., 0.],
           [0., 1., 0., 0.],
           [0., 0., 0., 0.]])
    """

    radius: float | None = None

    def __call__(self, X, coords: np.ndarray) -> sp.csr_matrix:
        """Return the symmetric matrix of pairs.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            Not used.
        coords : ndarray of shape (n_cells, n_dims)

        Returns
        -------
        csr_matrix of shape (n_cells, n_cells)
        """
        radius = self.radius
        if radius is None:
            radius = 0.5 * np.sqrt(np.square(coords - coords.mean(axis=0)).sum(axis=1).mean())
        return radius_neighbors_graph(coords, radius)


@dataclass(frozen=True)
class ClusterMask:
    """Pairs within, or between, clusters of expression.

    Parameters
    ----------
    n_clusters : int, default=8
        Clusters of each section, by mini-batch k-means on 20 principal components.
    pairs : {"within", "between"}, default="within"
        Whether the two cells of a pair are of the same cluster or of different ones.
    random_state : int, RandomState instance or None, default=0
        Seed of the clustering.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.masks import ClusterMask
    >>> X = np.array([[0.0, 0.1], [0.1, 0.0], [5.0, 5.1], [5.1, 5.0]])
    >>> labels = ClusterMask(n_clusters=2)(X, np.zeros((4, 2)))
    >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
    True
    """

    n_clusters: int = 8
    pairs: str = "within"
    random_state: int | np.random.RandomState | None = 0

    def __post_init__(self):
        if self.pairs not in ("within", "between"):
            raise ValueError(f"pairs must be 'within' or 'between', got {self.pairs!r}.")

    def __call__(self, X, coords: np.ndarray) -> np.ndarray:
        """Return the cluster of each cell; all pairs of n cells would be n^2 numbers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
        coords : ndarray of shape (n_cells, n_dims)
            Not used.

        Returns
        -------
        ndarray of shape (n_cells,)
        """
        n_components = min(_PCS_FOR_CLUSTERS, min(X.shape) - 1)
        if n_components > 0:
            decomposition = TruncatedSVD if sp.issparse(X) else PCA
            X = decomposition(n_components, random_state=self.random_state).fit_transform(X)
        k_means = MiniBatchKMeans(
            min(self.n_clusters, X.shape[0]), n_init=3, random_state=self.random_state
        )
        return k_means.fit_predict(X)


MASKS: dict[str, Callable] = {
    "knn": KNNMask(),
    "radius": RadiusMask(),
    "clusters": ClusterMask(),
}


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
        mask = MASKS[mask]
    if not callable(mask):
        matrix = _check_weights(mask, len(coords))
        same = codes[matrix.row] == codes[matrix.col]
        return _edge_mask([(matrix.row[same], matrix.col[same], matrix.data[same])], len(coords))
    blocks, groups, n_groups = [], np.full(len(coords), -1), 0
    for code in range(len(labels)):
        rows = np.flatnonzero(codes == code)
        answer = mask(X[rows], coords[rows])
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


def _symmetric(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The larger of both directions, without the diagonal."""
    matrix = sp.coo_matrix(matrix.maximum(matrix.T))
    apart = matrix.row != matrix.col
    entries = matrix.data[apart], (matrix.row[apart], matrix.col[apart])
    return sp.csr_matrix(entries, shape=matrix.shape)
