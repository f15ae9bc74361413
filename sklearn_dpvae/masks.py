"""Which pairs of cells the distance term looks at: the weights M_ij of eq. (5).

A mask is a function of the expression and the positions of one section. It is called for the
cells that a model is fitted on, so that cross-validation calls it for each training set. Masks
are estimators in scikit-learn's sense: a grid search can set ``dpvae__mask__n_neighbors``.

Imports nothing of this package.
"""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.neighbors import NearestNeighbors, radius_neighbors_graph
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

__all__ = ["ClusterMask", "KNNMask", "RadiusMask"]

_PCS_FOR_CLUSTERS = 20


class KNNMask(BaseEstimator):
    """Pairs of near neighbors, at one scale or at several.

    Parameters
    ----------
    n_neighbors : int, default=15
        Number of nearest neighbors of a cell at each scale.
    n_scales : int, default=3
        Number of scales. At the first one, neighbors are taken from all cells. At each further
        one, they are taken from a random quarter of the cells of the scale before, and so are
        twice as far away. With a single scale, no pair relates distant parts of the tissue.
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

    _parameter_constraints: ClassVar[dict] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "n_scales": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_neighbors: int = 15,
        n_scales: int = 3,
        random_state: int | np.random.RandomState | None = 0,
    ):
        self.n_neighbors = n_neighbors
        self.n_scales = n_scales
        self.random_state = random_state

    def __call__(self, X: Any, coords: NDArray[np.floating]) -> sp.csr_matrix:
        """Return the symmetric matrix of pairs.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            Not used.
        coords : ndarray of shape (n_cells, n_dims)

        Returns
        -------
        csr_matrix of shape (n_cells, n_cells)
            1 for pairs of which at least one cell is a neighbor of the other.

        Raises
        ------
        ValueError
            If a parameter is out of range.
        """
        self._validate_params()
        n_cells = len(coords)
        rng = check_random_state(self.random_state)
        among = np.arange(n_cells)
        mask = sp.csr_matrix((n_cells, n_cells))
        for _ in range(self.n_scales):
            # One more, since a cell may find itself as its nearest neighbor.
            k = min(self.n_neighbors + 1, len(among))
            nearest = NearestNeighbors(n_neighbors=k).fit(coords[among])
            found = among[nearest.kneighbors(coords, return_distance=False)].ravel()
            edges = np.ones(len(found)), (np.repeat(np.arange(n_cells), k), found)
            mask = mask.maximum(_symmetric(sp.csr_matrix(edges, shape=mask.shape)))
            if len(among) <= self.n_neighbors:
                break
            among = rng.choice(among, max(len(among) // 4, 1), replace=False)
        return mask


class RadiusMask(BaseEstimator):
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

    _parameter_constraints: ClassVar[dict] = {
        "radius": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(self, radius: float | None = None):
        self.radius = radius

    def __call__(self, X: Any, coords: NDArray[np.floating]) -> sp.csr_matrix:
        """Return the symmetric matrix of pairs.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            Not used.
        coords : ndarray of shape (n_cells, n_dims)

        Returns
        -------
        csr_matrix of shape (n_cells, n_cells)
            1 for pairs within the radius.

        Raises
        ------
        ValueError
            If a parameter is out of range.
        """
        self._validate_params()
        radius = self.radius
        if radius is None:
            radius = 0.5 * np.sqrt(np.square(coords - coords.mean(axis=0)).sum(axis=1).mean())
        return radius_neighbors_graph(coords, radius)


class ClusterMask(BaseEstimator):
    """Pairs within, or between, clusters of expression.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters in each section, which mini-batch k-means finds on 20 principal
        components.
    pairs : {"within", "between"}, default="within"
        Whether the two cells of a pair are from the same cluster or from different ones.
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

    _parameter_constraints: ClassVar[dict] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "pairs": [StrOptions({"within", "between"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        pairs: str = "within",
        random_state: int | np.random.RandomState | None = 0,
    ):
        self.n_clusters = n_clusters
        self.pairs = pairs
        self.random_state = random_state

    def __call__(self, X: Any, coords: NDArray[np.floating]) -> NDArray[np.integer]:
        """Return the cluster of each cell, which takes less memory than a matrix of pairs.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
        coords : ndarray of shape (n_cells, n_dims)
            Not used.

        Returns
        -------
        ndarray of shape (n_cells,)

        Raises
        ------
        ValueError
            If a parameter is out of range.
        """
        self._validate_params()
        n_components = min(_PCS_FOR_CLUSTERS, min(X.shape) - 1)
        if n_components > 0:
            decomposition = TruncatedSVD if sp.issparse(X) else PCA
            X = decomposition(n_components, random_state=self.random_state).fit_transform(X)
        k_means = MiniBatchKMeans(
            min(self.n_clusters, X.shape[0]), n_init=3, random_state=self.random_state
        )
        return k_means.fit_predict(X)


# Names that the regressor takes for a mask with its default parameters.
MASKS: dict[str, type[BaseEstimator]] = {
    "knn": KNNMask,
    "radius": RadiusMask,
    "clusters": ClusterMask,
}


def _symmetric(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The larger of both directions, without the diagonal."""
    matrix = sp.coo_matrix(matrix.maximum(matrix.T))
    apart = matrix.row != matrix.col
    entries = matrix.data[apart], (matrix.row[apart], matrix.col[apart])
    return sp.csr_matrix(entries, shape=matrix.shape)
