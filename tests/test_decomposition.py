"""SpatialPCA against ordinary PCA, and what it is for."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA

from sklearn_dpvae import decomposition
from sklearn_dpvae.decomposition import SpatialPCA, noise_of_components
from sklearn_dpvae.metrics import morans_i, procrustes_disparity


@pytest.fixture
def noisy_gradient():
    """One gene follows x, all have noise of their own, and gene 3 has the most of it."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(size=(400, 2))
    X = rng.normal(size=(400, 8))
    X[:, 3] *= 2.0
    X[:, 5] += 4 * (coords[:, 0] - 0.5)
    return X, coords


def unweighted(n_components, **params):
    """Without all that makes it differ from PCA, save what is asked for."""
    off = {"smoothing": 0.0, "autocorrelation_power": 0.0, "component_power": 0.0}
    return SpatialPCA(n_components, **{**off, "unit_rows": False, **params})


def test_without_smoothing_it_is_pca(noisy_gradient):
    X, coords = noisy_gradient
    plain = PCA(3).fit(X)
    spatial = unweighted(3).fit(X, coords)
    np.testing.assert_allclose(spatial.components_, plain.components_)
    np.testing.assert_allclose(
        spatial.transform(X) * spatial.scale_, plain.transform(X), atol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_noise_is_that_of_a_factor_model(dtype):
    """Known loadings, and noise of a variance of its own for each gene."""
    rng = np.random.default_rng(0)
    n_cells, n_genes, k = 4000, 60, 3
    loadings = np.linalg.qr(rng.normal(size=(n_genes, k)))[0].T
    variances = rng.uniform(0.2, 2.0, n_genes)
    X = 12 * rng.normal(size=(n_cells, k)) @ loadings
    X += rng.normal(size=X.shape) * np.sqrt(variances)
    spatial = unweighted(k).fit(X.astype(dtype), rng.uniform(size=(n_cells, 2)))
    expected = np.sqrt(np.mean(np.square(loadings) @ variances))
    assert spatial.noise_ == pytest.approx(expected, rel=0.03)
    assert spatial.scale_ == 4 * spatial.noise_
    # A cell's noise alone has a standard deviation of a quarter.
    noise = rng.normal(size=(2000, n_genes)) * np.sqrt(variances)
    assert spatial.transform(noise.astype(dtype)).std() == pytest.approx(0.25, rel=0.1)


def test_noise_is_seen_in_what_components_leave(noisy_gradient):
    X, coords = noisy_gradient
    spatial = SpatialPCA(3).fit(X, coords)
    rows = X / np.sqrt(np.mean(X**2, axis=1, keepdims=True))
    centered = (rows - rows.mean(axis=0)) * spatial.feature_weights_
    C = spatial.components_
    residual = centered - centered @ C.T @ C
    expected = np.sqrt(np.mean(C**2 @ np.mean(residual**2, axis=0)) * 8 / (8 - 3))
    assert spatial.noise_ == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_cells", [400, 6])
def test_without_anything_left_the_projections_have_a_size_of_one(noisy_gradient, n_cells, dtype):
    X, coords = (part[:n_cells] for part in noisy_gradient)
    projected = unweighted(8).fit(X.astype(dtype), coords).transform(X.astype(dtype))
    assert np.sqrt(np.mean(projected**2)) == pytest.approx(1, rel=1e-5)
    assert noise_of_components(np.zeros((9, 3)), np.zeros((9, 1)), np.eye(1, 3)) == 1


def test_components_are_weighted_by_a_power_of_their_autocorrelation(noisy_gradient):
    X, coords = noisy_gradient
    plain = SpatialPCA(4, component_power=0.0).fit(X, coords)
    weighted = SpatialPCA(4, component_power=2.0).fit(X, coords)
    values = morans_i(plain.transform(X), coords, n_neighbors=24)
    expected = np.maximum(values / values.max(), 1e-3) ** 2
    np.testing.assert_allclose(weighted.component_weights_, expected, rtol=1e-6)
    np.testing.assert_allclose(weighted.transform(X), plain.transform(X) * expected, atol=1e-12)
    assert expected.max() == 1 > expected.min()


def test_smoothing_finds_the_gene_that_varies_in_space(noisy_gradient):
    X, coords = noisy_gradient
    plain = unweighted(1).fit(X, coords)
    spatial = unweighted(1, smoothing=1.0).fit(X, coords)
    assert np.abs(plain.components_[0]).argmax() == 3
    assert np.abs(spatial.components_[0]).argmax() == 5


def test_components_are_those_of_smoothed_values(noisy_gradient):
    X, coords = noisy_gradient
    nearest = np.argsort(((coords[:, None] - coords) ** 2).sum(-1), axis=1)[:, 1:5]
    smoothed = 0.7 * X + 0.3 * X[nearest].mean(axis=1)
    expected = PCA(2).fit(smoothed).components_
    spatial = unweighted(2, n_neighbors=4, smoothing=0.3).fit(X, coords)
    np.testing.assert_allclose(spatial.components_, expected, atol=1e-10)


def test_many_cells_are_represented_by_some_of_them(noisy_gradient, monkeypatch):
    """Each with all of its neighbors, drawn or not."""
    X, coords = noisy_gradient
    monkeypatch.setattr(decomposition, "_CELLS_FOR_COMPONENTS", 150)
    found = SpatialPCA(2, n_neighbors=4, autocorrelation_power=1.0, random_state=3).fit(X, coords)

    rows = np.random.RandomState(3).permutation(400)[:150]
    unit = X / np.sqrt((X**2).mean(axis=1, keepdims=True))
    nearest = np.argsort(((coords[:, None] - coords) ** 2).sum(-1), axis=1)[:, 1:5]
    own, around = unit[rows], unit[nearest].mean(axis=1)[rows]
    np.testing.assert_allclose(found.mean_, own.mean(axis=0))
    own, around = own - found.mean_, around - found.mean_
    weights = (own * around).sum(axis=0) / (own**2).sum(axis=0)
    weights = np.maximum(weights / weights.max(), 1e-3)
    np.testing.assert_allclose(found.feature_weights_, weights)
    expected = PCA(2).fit((own + around) * weights / 2).components_
    np.testing.assert_allclose(found.components_, expected, atol=1e-10)

    everything = SpatialPCA(2, random_state=3)
    monkeypatch.undo()
    few = found.transform(X)
    align = procrustes_disparity(few, everything.fit(X, coords).transform(X))
    assert align < 0.1


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix])
def test_memory_is_that_of_the_cells_that_components_are_found_on(monkeypatch, container):
    monkeypatch.setattr(decomposition, "_CELLS_FOR_COMPONENTS", 250)
    rng = np.random.default_rng(0)
    X = rng.poisson(0.5, size=(5000, 1000)).astype(np.float32)
    size = X.nbytes
    X, coords = container(X), rng.uniform(size=(5000, 2))
    tracemalloc.start()
    try:
        SpatialPCA().fit(X, coords).transform(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * size


def test_genes_are_weighted_by_a_power_of_their_autocorrelation(noisy_gradient):
    X, coords = noisy_gradient
    weights = SpatialPCA(2, autocorrelation_power=0.5).fit(X, coords).feature_weights_
    assert weights.max() == weights[5] == 1
    values = morans_i(X / np.sqrt((X**2).mean(1, keepdims=True)), coords, n_neighbors=24)
    expected = np.sqrt(np.maximum(values / values.max(), 1e-3))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    halved = SpatialPCA(2, autocorrelation_power=0.25).fit(X, coords).feature_weights_
    np.testing.assert_allclose(halved, np.sqrt(weights))


def test_unit_rows_ignore_the_length_of_a_cell(noisy_gradient):
    X, coords = noisy_gradient
    spatial = SpatialPCA(2).fit(X, coords)
    longer = X * np.linspace(0.1, 10, len(X))[:, None]
    np.testing.assert_allclose(spatial.transform(longer), spatial.transform(X))
    assert np.isfinite(spatial.transform(np.zeros((1, 8)))).all()


def test_sparse_equals_dense_and_sections_do_not_mix(noisy_gradient):
    X, coords = noisy_gradient
    labels = np.arange(400) % 2
    dense = SpatialPCA(2).fit(X, coords, sections=labels)
    sparse = SpatialPCA(2).fit(sp.csr_matrix(X), coords, sections=labels)
    np.testing.assert_allclose(dense.transform(X), sparse.transform(sp.csr_matrix(X)))
    apart = SpatialPCA(2).fit(X, coords + 100 * labels[:, None], sections=labels)
    np.testing.assert_allclose(apart.components_, dense.components_, atol=1e-8)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(SpatialPCA(2).fit(X, coords).components_, dense.components_)


def test_entries_stored_twice_add_up(noisy_gradient):
    X, coords = noisy_gradient
    X = sp.csr_matrix(X)
    halves = sp.csr_matrix(
        (np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape
    )
    expected = SpatialPCA(2).fit(X, coords)
    found = SpatialPCA(2).fit(halves, coords)
    np.testing.assert_allclose(found.transform(halves), expected.transform(X))
    assert halves.nnz == 2 * X.nnz


def test_a_small_section_leaves_the_others_their_neighbors(noisy_gradient):
    X, coords = noisy_gradient
    labels = np.arange(400) >= 385
    nearest = np.argsort(((coords[:, None] - coords) ** 2).sum(-1)[:385, :385], axis=1)[:, 1:9]
    last = np.argsort(((coords[:, None] - coords) ** 2).sum(-1)[385:, 385:], axis=1)[:, 1]
    around = np.vstack([X[:385][nearest].mean(axis=1), X[385:][last]])
    found = unweighted(2, smoothing=1.0, n_neighbors=8).fit(X, coords, sections=labels)
    expected = PCA(2).fit(around).components_
    np.testing.assert_allclose(found.components_, expected, atol=1e-10)


def test_a_refused_fit_leaves_a_fitted_one_as_it_was(noisy_gradient):
    X, coords = noisy_gradient
    spatial = SpatialPCA(2).fit(X, coords)
    before = vars(spatial).copy()
    with pytest.raises(ValueError, match="NaN"):
        spatial.fit(X[:, :5], np.full_like(coords, np.nan))
    assert vars(spatial) == before


def test_positions_are_needed():
    with pytest.raises(ValueError, match="y"):
        SpatialPCA().fit(np.zeros((4, 2)), None)


def test_panels_of_few_genes_are_passed_on_as_they_are():
    rng = np.random.RandomState(0)
    coords, X = rng.rand(90, 2), rng.randn(90, 50)
    found = SpatialPCA().fit(X[:60], coords[:60])
    np.testing.assert_allclose(found.transform(X[60:]), X[60:], rtol=1e-12)
    assert not found.unit_rows_
    more = SpatialPCA().fit(np.hstack([X, X[:, :1]])[:60], coords[:60])
    assert len(more.components_) < 51
    assert more.unit_rows_
