import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist

from sklearn_dpvae._utils import autocorrelation
from sklearn_dpvae._utils.autocorrelation import gearys_c, knn_weights, morans_i, morans_i_null


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def neighbors_by_sorting(coords, k):
    distances = cdist(coords, coords)
    np.fill_diagonal(distances, np.inf)
    weights = np.zeros_like(distances)
    nearest = np.argsort(distances, axis=1)[:, :k]
    np.put_along_axis(weights, nearest, 1 / k, axis=1)
    return weights


def moran_by_sums(x, W):
    z = x - x.mean()
    pairs = sum(W[i, j] * z[i] * z[j] for i in range(len(x)) for j in range(len(x)))
    return len(x) / W.sum() * pairs / (z**2).sum()


def geary_by_sums(x, W):
    n = len(x)
    pairs = sum(W[i, j] * (x[i] - x[j]) ** 2 for i in range(n) for j in range(n))
    return (n - 1) / (2 * W.sum()) * pairs / ((x - x.mean()) ** 2).sum()


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_weights_are_the_nearest_neighbors(rng, n_dims):
    coords = rng.normal(size=(40, n_dims))
    weights = knn_weights(coords, n_neighbors=4)
    np.testing.assert_allclose(weights.toarray(), neighbors_by_sorting(coords, 4))


def test_weights_leave_out_the_point_itself_among_twins():
    coords = np.repeat([[0.0, 0.0], [9.0, 9.0]], 4, axis=0)
    weights = knn_weights(coords, n_neighbors=3).toarray()
    assert (weights.diagonal() == 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights[:4, 4:] == 0).all()


def test_weights_stay_within_sections(rng):
    coords = rng.normal(size=(30, 2))
    codes = rng.permutation(np.repeat([0, 1, 2], 10))
    weights = knn_weights(coords, n_neighbors=3, codes=codes)
    rows, columns = weights.nonzero()
    assert (codes[rows] == codes[columns]).all()
    for code in range(3):
        members = np.flatnonzero(codes == code)
        np.testing.assert_allclose(
            weights[members][:, members].toarray(), knn_weights(coords[members], 3).toarray()
        )


def test_small_sections_have_fewer_neighbors():
    weights = knn_weights(np.arange(4.0), n_neighbors=5, codes=np.array([0, 0, 0, 1])).toarray()
    np.testing.assert_allclose(weights[:3, :3], (1 - np.eye(3)) / 2)
    assert not weights[3].any()


@pytest.mark.parametrize("statistic", [morans_i, gearys_c])
def test_of_many_samples_few_features_are_made_dense_at_once(rng, monkeypatch, statistic):
    X = sparse.csr_matrix(rng.poisson(0.02, size=(500, 900)).astype(np.float32))
    W = knn_weights(rng.uniform(size=(500, 2)))
    expected = statistic(X, W)
    monkeypatch.setattr(autocorrelation, "_VALUES_PER_CHUNK", 500 * 3)
    tracemalloc.start()
    try:
        np.testing.assert_allclose(statistic(X, W), expected)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Of 128 at once, centered values and their sums over neighbors alone would be as many.
    assert peak < 2 * 128 * 500 * 8


@pytest.mark.parametrize("chunk_size", [1, 3, 128])
@pytest.mark.parametrize("as_input", [np.asarray, sparse.csr_matrix, sparse.csc_array])
def test_statistics_equal_the_sums_over_pairs(rng, chunk_size, as_input):
    X = rng.poisson(1.0, size=(25, 7)).astype(float)
    # Neither symmetric nor with equal row sums.
    W = rng.random((25, 25)) * (rng.random((25, 25)) < 0.3)
    found = morans_i(as_input(X), sparse.csr_matrix(W), chunk_size=chunk_size)
    np.testing.assert_allclose(found, [moran_by_sums(x, W) for x in X.T], rtol=1e-12)
    found = gearys_c(as_input(X), sparse.csr_matrix(W), chunk_size=chunk_size)
    np.testing.assert_allclose(found, [geary_by_sums(x, W) for x in X.T], rtol=1e-12)


def test_statistics_equal_scanpy(rng):
    scanpy = pytest.importorskip("scanpy")
    W = knn_weights(rng.normal(size=(60, 2)), n_neighbors=5)
    X = rng.normal(size=(60, 4))
    np.testing.assert_allclose(morans_i(X, W), scanpy.metrics.morans_i(W, X.T), rtol=1e-10)
    np.testing.assert_allclose(gearys_c(X, W), scanpy.metrics.gearys_c(W, X.T), rtol=1e-10)


def test_statistics_ignore_shift_and_scale_even_far_from_zero(rng):
    W = knn_weights(rng.normal(size=(50, 2)))
    X = rng.normal(size=(50, 3))
    np.testing.assert_allclose(morans_i(1e6 + 5 * X, W), morans_i(X, W), rtol=1e-6)
    np.testing.assert_allclose(gearys_c(1e6 + 5 * X, W), gearys_c(X, W), rtol=1e-6)


def test_constant_features_have_no_statistic(rng):
    W = knn_weights(rng.normal(size=(11, 2)))
    # The mean of eleven times 0.1 is not 0.1 in floating point.
    X = np.column_stack([np.full(11, 0.1), np.zeros(11), np.arange(11.0)])
    for statistic in (morans_i, gearys_c):
        assert np.isnan(statistic(X, W)).tolist() == [True, True, False]


def test_null_moments_are_those_of_normal_values(rng):
    W = knn_weights(rng.normal(size=(40, 2)), n_neighbors=4)
    values = morans_i(rng.normal(size=(40, 40_000)), W)
    expectation, variance = morans_i_null(W)
    assert expectation == -1 / 39
    assert values.mean() == pytest.approx(expectation, abs=4 * np.sqrt(variance / 40_000))
    assert values.var() == pytest.approx(variance, rel=0.03)


def test_null_moments_of_a_complete_graph():
    # With all pairs alike, I is -1 / (n - 1) whatever the values are.
    W = sparse.csr_matrix(1 - np.eye(6))
    expectation, variance = morans_i_null(W)
    assert expectation == -1 / 5
    assert variance == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("function", [morans_i, gearys_c])
def test_wrong_weights_are_named(function):
    X = np.eye(3)
    with pytest.raises(ValueError, match=r"W has shape \(2, 2\) but X has 3 rows"):
        function(X, sparse.eye(2))
    with pytest.raises(ValueError, match="all weights in W are zero"):
        function(X, sparse.csr_matrix((3, 3)))
