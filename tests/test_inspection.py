"""Gene attribution against finite differences, permutations and a tissue whose genes are known."""

import numpy as np
import pytest
import torch
from read_only import read_only
from scipy.stats import spearmanr
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.inspection import permutation_importance
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.utils import estimator_html_repr

from sklearn_dpvae import (
    DPVAESpatialRegressor,
    SpatialModel,
    SpatialPipeline,
    make_spatial_pipeline,
)
from sklearn_dpvae.decomposition import SpatialPCA
from sklearn_dpvae.inspection import gene_importances, marker_genes
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (16,), "random_state": 0}


@pytest.fixture(scope="module")
def problem():
    """Positions that three of eight features tell, the first one most."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(-100, 100, size=(200, 2))
    X = rng.normal(size=(200, 8))
    X[:, 0] = coords[:, 0] / 50 + 0.1 * rng.normal(size=200)
    X[:, 1] = coords[:, 1] / 50 + 0.4 * rng.normal(size=200)
    X[:, 2] = coords[:, 1] / 50 + 0.4 * rng.normal(size=200)
    return read_only(X, coords)


def differences(predict, X, step=1e-5):
    """Importances and directions by central differences of predictions."""
    slopes = np.empty((len(X), 2, X.shape[1]))
    for g in range(X.shape[1]):
        shift = step * np.eye(X.shape[1])[g]
        slopes[:, :, g] = (predict(X + shift) - predict(X - shift)) / (2 * step)
    slopes *= X.std(axis=0)
    return np.sqrt((slopes**2).sum(axis=1).mean(axis=0)), slopes.mean(axis=0).T


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("n_components", [2, 3])
@pytest.mark.parametrize("reconstruction", ["auto", "latent", "mds"])
def test_regressor_agrees_with_finite_differences(
    problem, n_components, activation, reconstruction
):
    X, coords = problem
    model = DPVAESpatialRegressor(n_components, activation=activation, max_epochs=5, **SMALL)
    model.set_params(reconstruction=reconstruction).fit(X, coords)
    found = gene_importances(model, X)
    if reconstruction == "mds":
        model.set_params(reconstruction="auto")
    importances, directions = differences(model.predict, X)
    np.testing.assert_allclose(found.importances, importances, rtol=1e-3)
    np.testing.assert_allclose(found.directions, directions, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "steps",
    [
        [SpatialPCA(5)],
        [SpatialPCA(5, unit_rows=False)],
        [PCA(5, whiten=True, random_state=0)],
        [TruncatedSVD(5, random_state=0)],
        [PolynomialFeatures(interaction_only=True, include_bias=False)],
        [SpatialPCA(6), PCA(4, random_state=0)],
        ["passthrough"],
    ],
    ids=str,
)
def test_steps_that_mix_genes_are_differentiated_through(problem, steps):
    X, coords = problem
    model = SpatialPipeline(
        [
            *[(f"step{i}", step) for i, step in enumerate(steps)],
            ("dpvae", DPVAESpatialRegressor(max_epochs=5, **SMALL)),
        ]
    ).fit(X, coords)
    found = gene_importances(model, X)
    importances, directions = differences(model.predict, X)
    np.testing.assert_allclose(found.importances, importances, rtol=1e-3)
    np.testing.assert_allclose(found.directions, directions, rtol=1e-2, atol=1e-2)


def test_pipeline_of_counts_varies_what_the_gene_steps_leave(tissue):
    model = make_spatial_pipeline(n_calibration_folds=None, n_top_genes=30, max_epochs=3, **SMALL)
    model.fit(tissue.X, tissue.coords, sections=tissue.sections)
    found = gene_importances(
        model, tissue.X, sections=tissue.sections, genes=tissue.genes, max_cells=None
    )
    X = model[:3].transform(tissue.X, sections=tissue.sections)
    importances, _ = differences(lambda Z: model[3:].predict(Z, sections=tissue.sections), X)
    np.testing.assert_allclose(found.importances, importances, rtol=1e-3)
    np.testing.assert_array_equal(found.genes, tissue.genes[model[1].get_support()])


def test_units_are_those_of_the_tissue_and_of_standard_deviations(problem):
    X, coords = problem
    options = {"max_epochs": 5, **SMALL}
    plain = gene_importances(DPVAESpatialRegressor(**options).fit(X, coords), X)
    far = gene_importances(DPVAESpatialRegressor(**options).fit(X, 1000 * coords), X)
    np.testing.assert_allclose(far.importances, 1000 * plain.importances, rtol=1e-4)
    scaled = make_pipeline(LogNormalizer(), SectionScaler(), DPVAESpatialRegressor(**options))
    counts = np.random.default_rng(0).poisson(5 * np.exp(0.3 * X))
    scaled.fit(counts, coords)
    found = gene_importances(scaled, counts)
    Z = scaled[:2].transform(counts)
    importances, _ = differences(scaled[2:].predict, Z)
    np.testing.assert_allclose(found.importances, importances, rtol=1e-3)


def test_ranking_is_that_of_permutation_importance(problem):
    X, coords = problem
    model = DPVAESpatialRegressor(max_epochs=60, dropout=0.1, **SMALL).fit(X, coords)
    found = gene_importances(model, X)
    permuted = permutation_importance(model, X, coords, n_repeats=3, random_state=0)
    assert set(np.argsort(-found.importances)[:3]) == {0, 1, 2}
    assert np.argmax(found.importances) == np.argmax(permuted.importances_mean) == 0
    assert spearmanr(found.importances, permuted.importances_mean).statistic > 0.5
    # The first feature is the first coordinate, and moves cells along it.
    x, y = found.directions[0]
    assert x > 5 * abs(y)


def test_permutation_importance_takes_the_pipeline(tissue):
    counts = tissue.X[:150].toarray()
    model = make_spatial_pipeline(n_calibration_folds=None, max_epochs=2, **SMALL).fit(
        counts, tissue.coords[:150]
    )
    found = permutation_importance(
        model, counts[:, :], tissue.coords[:150], n_repeats=1, random_state=0
    )
    assert found.importances_mean.shape == (60,)


def test_informative_genes_of_a_tissue_come_first(tissue):
    model = make_spatial_pipeline(n_calibration_folds=None, max_epochs=30, **SMALL)
    model.fit(tissue.X, tissue.coords, sections=tissue.sections)
    options = {"sections": tissue.sections, "genes": tissue.genes}
    markers = marker_genes(model, tissue.X, 10, **options)
    told = dict(zip(tissue.genes, tissue.spatial_genes, strict=True))
    assert np.mean([told[name] for name in markers]) >= 0.8
    assert len(marker_genes(model, tissue.X, 1000, **options)) == 60
    found = gene_importances(model, tissue.X, **options)
    assert markers[0] == found.genes[np.argmax(found.importances)]


def test_names_and_sampling(tissue):
    model = make_spatial_pipeline(n_calibration_folds=None, max_epochs=2, **SMALL).fit(
        tissue.X, tissue.coords
    )
    first = gene_importances(model, tissue.X, max_cells=50)
    again = gene_importances(model, tissue.X, max_cells=50)
    other = gene_importances(model, tissue.X, max_cells=50, random_state=1)
    assert first.genes[3] == "x3"
    np.testing.assert_array_equal(first.importances, again.importances)
    assert not np.array_equal(first.importances, other.importances)
    named = gene_importances(SpatialModel(model, tissue.genes), tissue.X, max_cells=50)
    np.testing.assert_array_equal(named.genes, tissue.genes)
    np.testing.assert_array_equal(named.importances, first.importances)


def test_the_model_and_torch_are_left_as_they_were(problem):
    X, coords = problem
    model = DPVAESpatialRegressor(max_epochs=2, **SMALL).fit(X, coords)
    before = model.predict(X)
    rng = torch.get_rng_state()
    gene_importances(model, X)
    assert all(parameter.requires_grad for parameter in model.module_.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    np.testing.assert_array_equal(model.predict(X), before)


def test_errors(problem):
    X, coords = problem
    with pytest.raises(TypeError, match="last step is a KNeighborsRegressor"):
        gene_importances(KNeighborsRegressor().fit(X, coords), X)
    model = DPVAESpatialRegressor(max_epochs=1, **SMALL).fit(X, coords)
    with pytest.raises(ValueError, match="genes has shape"):
        gene_importances(model, X, genes=["a", "b"])
    with pytest.raises(ValueError, match="max_cells"):
        gene_importances(model, X, max_cells=0)
    with pytest.raises(ValueError, match="n must be 1 or more"):
        marker_genes(model, X, 0)


def test_html_names_the_steps_and_their_settings():
    model = make_spatial_pipeline(n_calibration_folds=None, n_top_genes=77)
    html = estimator_html_repr(model)
    for word in (
        "LogNormalizer",
        "SpatiallyVariableGenes",
        "SectionScaler",
        "DPVAESpatialRegress",
    ):
        assert word in html
    assert "77" in html
    assert "SpatiallyVariableGenes" in model._repr_html_()
    assert "n_top_genes=77" in repr(model)
