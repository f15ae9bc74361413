"""SpatialPCA against ordinary PCA, and what it is for."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_dpvae.decomposition import SpatialPCA
from sklearn_dpvae.metrics import moran


@parametrize_with_checks(
    [SpatialPCA(), SpatialPCA(smoothing=0.0, autocorrelation_power=0.0, unit_rows=False)]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture
def noisy_gradient():
    """One gene follows x, all have noise of their own, and gene 3 has the most of it."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(size=(400, 2))
    X = rng.normal(size=(400, 8))
    X[:, 3] *= 2.0
    X[:, 5] += 4 * (coords[:, 0] - 0.5)
    return X, coords


def test_without_smoothing_it_is_pca(noisy_gradient):
    X, coords = noisy_gradient
    plain = PCA(3).fit(X)
    spatial = SpatialPCA(3, smoothing=0.0, autocorrelation_power=0.0, unit_rows=False).fit(
        X, coords
    )
    np.testing.assert_allclose(spatial.components_, plain.components_)
    projected = spatial.transform(X)
    np.testing.assert_allclose(projected * spatial.scale_, plain.transform(X), atol=1e-12)
    assert np.sqrt(np.mean(projected**2)) == pytest.approx(1)


def test_smoothing_finds_the_gene_that_varies_in_space(noisy_gradient):
    X, coords = noisy_gradient
    plain = SpatialPCA(1, smoothing=0.0, autocorrelation_power=0.0, unit_rows=False).fit(X, coords)
    spatial = SpatialPCA(1, smoothing=1.0, autocorrelation_power=0.0, unit_rows=False).fit(
        X, coords
    )
    assert np.abs(plain.components_[0]).argmax() == 3
    assert np.abs(spatial.components_[0]).argmax() == 5


def test_components_are_those_of_smoothed_values(noisy_gradient):
    X, coords = noisy_gradient
    nearest = np.argsort(((coords[:, None] - coords) ** 2).sum(-1), axis=1)[:, 1:5]
    smoothed = 0.7 * X + 0.3 * X[nearest].mean(axis=1)
    expected = PCA(2).fit(smoothed).components_
    spatial = SpatialPCA(
        2, n_neighbors=4, smoothing=0.3, autocorrelation_power=0.0, unit_rows=False
    ).fit(X, coords)
    np.testing.assert_allclose(spatial.components_, expected, atol=1e-10)


def test_genes_are_weighted_by_a_power_of_their_autocorrelation(noisy_gradient):
    X, coords = noisy_gradient
    weights = SpatialPCA(2, autocorrelation_power=0.5).fit(X, coords).feature_weights_
    assert weights.max() == weights[5] == 1
    values = moran(X / np.sqrt((X**2).mean(1, keepdims=True)), coords, n_neighbors=24)
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


def test_positions_are_needed():
    with pytest.raises(ValueError, match="y"):
        SpatialPCA().fit(np.zeros((4, 2)), None)
