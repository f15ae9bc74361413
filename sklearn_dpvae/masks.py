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
from sklearn.utils import check_random_state

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


def _symmetric(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The larger of both directions, without the diagonal."""
    matrix = sp.coo_matrix(matrix.maximum(matrix.T))
    apart = matrix.row != matrix.col
    entries = matrix.data[apart], (matrix.row[apart], matrix.col[apart])
    return sp.csr_matrix(entries, shape=matrix.shape)
