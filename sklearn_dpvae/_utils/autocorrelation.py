"""Moran's I and Geary's C of many features at once, on sparse neighbor weights.

Pure functions. With weights :math:`w_{ij}`, :math:`S_0 = \\sum_{ij} w_{ij}` and centered values
:math:`z_i = x_i - \\bar x`::

    I = n / S0 * sum_ij w_ij z_i z_j / sum_i z_i^2
    C = (n - 1) / (2 S0) * sum_ij w_ij (x_i - x_j)^2 / sum_i z_i^2

Imports nothing of this package.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from tqdm.auto import tqdm

# At most this many features, and this many values (128 MB in float64), are made dense at a time.
_FEATURES_PER_CHUNK = 128
_VALUES_PER_CHUNK = 2**24


def knn_weights(
    coords: ArrayLike,
    n_neighbors: int = 5,
    *,
    codes: ArrayLike | None = None,
    max_share: float = 1.0,
) -> sparse.csr_matrix:
    """Row-standardized weights of the nearest neighbors, within sections.

    Each point gives equal weights, which sum to one, to its `n_neighbors` nearest points of the
    same section, itself excluded. The graph is directed: it is not symmetrized. Moran's I and
    Geary's C depend only on the symmetric part of the weights.

    Parameters
    ----------
    coords : ndarray of shape (n_samples, n_dims)
        Positions, in any unit.
    n_neighbors : int, default=5
        Number of neighbors of a point. In a section of fewer than ``n_neighbors + 1`` points
        all the others are neighbors.
    codes : ndarray of shape (n_samples,), optional
        Section of each point. None means that all points are of one section.
    max_share : float, default=1.0
        The neighbors of a point are at most this share of its section, but at least one.

    Returns
    -------
    weights : scipy.sparse.csr_matrix of shape (n_samples, n_samples), dtype float64
        Row i holds the weights of the neighbors of point i. The row of a point that is alone in
        its section is empty.

    Notes
    -----
    Among points at equal distance the choice is arbitrary, for example on a regular grid where
    `n_neighbors` cuts through a ring of neighbors.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae._utils.autocorrelation import knn_weights
    >>> coords = np.array([[0.0], [1.0], [3.0], [7.0]])
    >>> knn_weights(coords, n_neighbors=1).toarray()
    array([[0., 1., 0., 0.],
           [1., 0., 0., 0.],
           [0., 1., 0., 0.],
           [0., 0., 1., 0.]])
    """
    points: NDArray[np.float64] = np.asarray(coords, dtype=np.float64)
    if points.ndim == 1:
        points = points[:, None]
    n_samples = points.shape[0]
    codes = np.zeros(n_samples, dtype=np.int64) if codes is None else np.asarray(codes)

    rows, columns, values = [], [], []
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        k = min(n_neighbors, max(int(max_share * len(members)), 1), len(members) - 1)
        if k == 0:
            continue
        # Called without points, `kneighbors` leaves out each point itself, but no other one there.
        nearest = NearestNeighbors(n_neighbors=k).fit(points[members])
        neighbors = nearest.kneighbors(return_distance=False)
        rows.append(np.repeat(members, k))
        columns.append(members[neighbors].ravel())
        values.append(np.full(len(members) * k, 1.0 / k))
    if not rows:
        return sparse.csr_matrix((n_samples, n_samples))
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix(entries, shape=(n_samples, n_samples))


def morans_i(
    X: Any, W: sparse.spmatrix, *, chunk_size: int | None = None, verbose: bool = False
) -> NDArray[np.float64]:
    """Moran's I of every feature.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Values. Sparse input is made dense only `chunk_size` features at a time.
    W : sparse matrix of shape (n_samples, n_samples)
        Weights of pairs, for example from `knn_weights`.
    chunk_size : int, default=None
        Number of features to work on at a time. It limits the memory to a few times
        ``8 * n_samples * chunk_size`` bytes. None means 128, or fewer for more than 131,072
        samples.
    verbose : bool, default=False
        Whether a bar shows how many features are done.

    Returns
    -------
    values : ndarray of shape (n_features,), dtype float64
        Near 1 for values that resemble their neighbors', about 0 (exactly ``-1 / (n - 1)`` on
        average) for values placed at random, negative for values unlike their neighbors'.
        NaN for constant features.

    Raises
    ------
    ValueError
        If the shapes do not match or all weights are zero.

    References
    ----------
    Moran, P. A. P. (1950). Notes on continuous stochastic phenomena. Biometrika 37, 17-23.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae._utils.autocorrelation import knn_weights, morans_i
    >>> W = knn_weights(np.arange(6.0), n_neighbors=2)
    >>> X = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1]]).T
    >>> morans_i(X, W).round(2)
    array([ 0.67, -0.67])
    """
    W, total = _check_weights(W, X)
    n_samples = W.shape[0]

    values = np.empty(X.shape[1])
    with tqdm(total=len(values), desc="Moran's I", unit="gene", disable=not verbose) as bar:
        for columns, Z, variation in _centered_chunks(X, chunk_size):
            cross = np.einsum("ij,ij->j", Z, W @ Z)
            values[columns] = n_samples / total * cross / variation
            bar.update(Z.shape[1])
    return values


def gearys_c(X: Any, W: sparse.spmatrix, *, chunk_size: int | None = None) -> NDArray[np.float64]:
    """Geary's C of every feature.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
        Values. Sparse input is made dense only `chunk_size` features at a time.
    W : sparse matrix of shape (n_samples, n_samples)
        Weights of pairs, for example from `knn_weights`.
    chunk_size : int, default=None
        Number of features to work on at a time; see `morans_i`.

    Returns
    -------
    values : ndarray of shape (n_features,), dtype float64
        Near 0 for values that resemble their neighbors', 1 on average for values placed at
        random, above 1 for values unlike their neighbors'. NaN for constant features.

    Raises
    ------
    ValueError
        If the shapes do not match or all weights are zero.

    References
    ----------
    Geary, R. C. (1954). The contiguity ratio and statistical mapping. The Incorporated
    Statistician 5, 115-146.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae._utils.autocorrelation import gearys_c, knn_weights
    >>> W = knn_weights(np.arange(6.0), n_neighbors=2)
    >>> X = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1]]).T
    >>> gearys_c(X, W).round(2)
    array([0.28, 1.39])
    """
    W, total = _check_weights(W, X)
    n_samples = W.shape[0]
    both_ways = _row_sums(W) + _row_sums(W.T)

    values = np.empty(X.shape[1])
    for columns, Z, variation in _centered_chunks(X, chunk_size):
        # sum_ij w_ij (z_i - z_j)^2, expanded so that pairs need not be listed.
        squares = both_ways @ np.square(Z) - 2 * np.einsum("ij,ij->j", Z, W @ Z)
        values[columns] = (n_samples - 1) / (2 * total) * squares / variation
    return values


def morans_i_null(W: sparse.spmatrix) -> tuple[float, float]:
    """Expectation and variance of Moran's I of independent normal values.

    ::

        E = -1 / (n - 1)
        V = (n^2 S1 - n S2 + 3 S0^2) / ((n^2 - 1) S0^2) - E^2
        S1 = 1/2 sum_ij (w_ij + w_ji)^2,   S2 = sum_i (sum_j w_ij + sum_j w_ji)^2

    Parameters
    ----------
    W : sparse matrix of shape (n_samples, n_samples)
        Weights of pairs.

    Returns
    -------
    expectation : float
    variance : float

    Raises
    ------
    ValueError
        If all weights are zero.

    References
    ----------
    Cliff, A. D. and Ord, J. K. (1981). Spatial Processes: Models and Applications. Pion.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae._utils.autocorrelation import knn_weights, morans_i_null
    >>> expectation, variance = morans_i_null(knn_weights(np.arange(11.0), n_neighbors=2))
    >>> round(expectation, 3), round(variance, 3)
    (-0.1, 0.068)
    """
    W, total = _check_weights(W)
    n = W.shape[0]

    s1 = 0.5 * ((W + W.T).power(2)).sum()
    s2 = np.square(_row_sums(W) + _row_sums(W.T)).sum()
    expectation = -1.0 / (n - 1)
    second_moment = (n**2 * s1 - n * s2 + 3 * total**2) / ((n**2 - 1) * total**2)
    return expectation, float(second_moment - expectation**2)


def _check_weights(W: sparse.spmatrix, X: Any = None) -> tuple[sparse.csr_matrix, float]:
    """Weights as CSR and their sum."""
    W = sparse.csr_matrix(W)
    if X is not None and W.shape != (X.shape[0], X.shape[0]):
        raise ValueError(
            f"W has shape {W.shape} but X has {X.shape[0]} rows. Pass weights with one row and "
            "one column per row of X."
        )
    total = float(W.sum())
    if total == 0:
        raise ValueError(
            "all weights in W are zero: no point has a neighbor. Pass more than one point."
        )
    return W, total


def _row_sums(W: sparse.spmatrix) -> NDArray[np.float64]:
    return np.asarray(W.sum(axis=1)).ravel()


def _centered_chunks(
    X: Any, chunk_size: int | None
) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield slices of columns, the centered dense columns, and their sums of squares.

    The sum of squares of a constant column is NaN, so that a statistic divided by it is NaN, too.
    Rounding of the mean would otherwise leave it tiny but positive.
    """
    if sparse.issparse(X):
        X = X.tocsc()
    if chunk_size is None:
        chunk_size = min(_FEATURES_PER_CHUNK, max(1, _VALUES_PER_CHUNK // X.shape[0]))
    for start in range(0, X.shape[1], chunk_size):
        columns = slice(start, start + chunk_size)
        block = X[:, columns]
        block = block.toarray(order="C") if sparse.issparse(block) else np.asarray(block)
        Z = np.array(block, dtype=np.float64, order="C")
        constant = Z.max(axis=0) == Z.min(axis=0)
        Z -= Z.mean(axis=0)
        variation = np.einsum("ij,ij->j", Z, Z)
        variation[constant] = np.nan
        yield columns, Z, variation
