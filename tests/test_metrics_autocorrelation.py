"""Moran's I and Geary's C against their double sums, and scanpy where it is installed."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.spatial.distance import cdist

from sklearn_dpvae._utils.autocorrelation import knn_weights
from sklearn_dpvae.metrics import gearys_c, morans_i


def double_sums(x, coords, k):
    """Moran's I and Geary's C, pair by pair, for positions without ties."""
    n = len(x)
    d = cdist(coords, coords)
    np.fill_diagonal(d, np.inf)
    nearest = np.argsort(d, axis=1)[:, :k]
    products = sum((x[i] - x.mean()) * (x[j] - x.mean()) for i in range(n) for j in nearest[i])
    squares = sum((x[i] - x[j]) ** 2 for i in range(n) for j in nearest[i])
    variation = np.sum((x - x.mean()) ** 2)
    return n / (n * k) * products / variation, (n - 1) / (2 * n * k) * squares / variation


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    coords = rng.uniform(size=(60, 2))
    smooth = np.sin(4 * coords[:, 0]) + 0.1 * rng.normal(size=60)
    return coords, np.c_[smooth, rng.normal(size=60), rng.poisson(1.0, size=60)]


@pytest.mark.parametrize("k", [1, 5, 12])
def test_equal_to_the_double_sums(cells, k):
    coords, X = cells
    expected = np.array([double_sums(x, coords, k) for x in X.T])
    assert_allclose(morans_i(X, coords, n_neighbors=k), expected[:, 0])
    assert_allclose(gearys_c(X, coords, n_neighbors=k), expected[:, 1])
    assert_allclose(morans_i(X[:, 0], coords, n_neighbors=k), expected[:1, 0])


@pytest.mark.slow  # scanpy compiles its loops first
@pytest.mark.filterwarnings("ignore")
def test_equal_to_scanpys(cells):
    metrics = pytest.importorskip("scanpy.metrics")
    coords, X = cells
    graph = knn_weights(coords, 5)
    assert_allclose(morans_i(X, coords), metrics.morans_i(graph, X.T), rtol=1e-6)
    assert_allclose(gearys_c(X, coords), metrics.gearys_c(graph, X.T), rtol=1e-6)


def test_smooth_values_stand_out_from_noise(cells):
    coords, X = cells
    i, c = morans_i(X, coords), gearys_c(X, coords)
    assert i[0] > 0.7
    assert abs(i[1]) < 0.25
    assert c[0] < 0.3
    assert abs(c[1] - 1) < 0.25


def test_no_dependence_on_units_poses_offsets_or_order(cells):
    coords, X = cells
    rotation = np.array([[0.6, 0.8], [-0.8, 0.6]])
    order = np.random.default_rng(1).permutation(60)
    for statistic in (morans_i, gearys_c):
        expected = statistic(X, coords)
        assert_allclose(statistic(-3 * X + 7, coords), expected)
        assert_allclose(statistic(X, 1e4 * coords @ rotation - 5), expected)
        assert_allclose(statistic(X[order], coords[order]), expected)


def test_sparse_float32_and_integers(cells):
    coords, X = cells
    counts = X[:, 2:].astype(int)
    for statistic in (morans_i, gearys_c):
        expected = statistic(counts.astype(float), coords)
        assert_allclose(statistic(counts, coords), expected)
        assert_allclose(statistic(sparse.csr_matrix(counts), coords), expected)
        assert_allclose(statistic(sparse.csc_matrix(counts.astype(np.float32)), coords), expected)


def test_sections_are_judged_about_their_own_means(cells):
    coords, X = cells
    sections = np.repeat(["x", "y"], [20, 40])
    shift = np.where(sections == "x", 0.0, 50.0)[:, None]
    for statistic in (morans_i, gearys_c):
        parts = [statistic(X[sections == s], coords[sections == s]) for s in "xy"]
        expected = (20 * parts[0] + 40 * parts[1]) / 60
        assert_allclose(statistic(X + shift, coords, sections=sections), expected)


def test_constant_features_are_nan(cells):
    coords, X = cells
    sections = np.repeat([0, 1], 30)
    X[:, 0] = 0.1
    X[sections == 0, 1] = 0.1
    values = morans_i(X, coords, sections=sections)
    assert np.isnan(values[0])
    assert_allclose(values[1], morans_i(X[30:, 1], coords[30:])[0])


def test_bad_input(cells):
    coords, X = cells
    with pytest.raises(ValueError, match="X has 59 rows but coords has 60"):
        morans_i(X[:59], coords)
    with pytest.raises(ValueError, match="n_neighbors == 0"):
        gearys_c(X, coords, n_neighbors=0)
    with pytest.raises(ValueError, match="NaN"):
        morans_i(np.where(X > 0, X, np.nan), coords)
    with pytest.raises(ValueError, match="no section with three cells"):
        morans_i(X[:3], np.ones((3, 2)))
    with pytest.warns(UserWarning, match=r"\['b'\] are left out"):
        value = morans_i(X, coords, sections=["a"] * 58 + ["b"] * 2)
    assert_allclose(value, morans_i(X[:58], coords[:58]))
