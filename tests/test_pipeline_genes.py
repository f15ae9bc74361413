"""Which genes a pipeline is fitted on, and what it says of a query that lacks some."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_dpvae import SpatialModel, make_spatial_pipeline
from sklearn_dpvae.datasets import common_genes, make_tissue
from sklearn_dpvae.pipeline import SpatialPipeline
from sklearn_dpvae.pipeline._genes import gene_weights

TISSUE = make_tissue(200, 40, random_state=0)
GENES = np.array(TISSUE.genes)
PANEL = GENES[::2]
FAST = {"max_epochs": 2, "n_estimators": 1, "n_calibration_folds": None, "random_state": 0}


@pytest.fixture(scope="module")
def whole():
    return make_spatial_pipeline(**FAST).fit(TISSUE.X, TISSUE.coords, genes=GENES)


@pytest.fixture(scope="module")
def panel():
    pipeline = make_spatial_pipeline(**FAST)
    return pipeline.fit(TISSUE.X, TISSUE.coords, genes=GENES, query_genes=PANEL[::-1])


@pytest.mark.filterwarnings("ignore:steps before the last were chosen")
@pytest.mark.filterwarnings("ignore:the networks were trained on every cell")
def test_fit_on_the_genes_of_the_query_is_fit_on_their_columns(panel):
    columns = make_spatial_pipeline(**FAST).fit(TISSUE.X[:, ::2], TISSUE.coords)
    expected = columns.predict(TISSUE.X[:, ::2])
    assert panel.n_features_in_ == len(PANEL)
    # All columns of the reference, those of the panel, and these by name in any order.
    assert_array_equal(panel.predict(TISSUE.X), expected)
    assert_array_equal(panel.predict(TISSUE.X[:, ::2]), expected)
    assert_array_equal(panel.predict(TISSUE.X[:, ::2][:, ::-1], genes=PANEL[::-1]), expected)
    assert_array_equal(panel.transform(TISSUE.X, genes=GENES), panel.transform(TISSUE.X))
    assert panel.score(TISSUE.X, TISSUE.coords) == columns.score(TISSUE.X[:, ::2], TISSUE.coords)
    radii = panel.predict_radius(TISSUE.X, genes=GENES)
    assert_array_equal(radii, columns.predict_radius(TISSUE.X[:, ::2]))


def test_located_cells_of_other_columns_teach_by_name(panel):
    first, second = clone(panel), clone(panel)
    for pipeline in (first, second):
        pipeline.fit(TISSUE.X, TISSUE.coords, genes=GENES, query_genes=PANEL)
    first.partial_fit(TISSUE.X[:, ::-1], TISSUE.coords, genes=GENES[::-1])
    second.partial_fit(TISSUE.X[:, ::2], TISSUE.coords)
    assert_array_equal(first.predict(TISSUE.X), second.predict(TISSUE.X))
    first.calibrate(TISSUE.X[:, ::-1], TISSUE.coords, genes=GENES[::-1])
    second.calibrate(TISSUE.X[:, ::2], TISSUE.coords)
    assert_array_equal(first.predict_radius(TISSUE.X), second.predict_radius(TISSUE.X))


def test_a_search_restricts_all_its_folds(panel):
    search = GridSearchCV(clone(panel), {"dpvae__lr": [1e-3, 2e-3]}, cv=2, error_score="raise")
    search.fit(TISSUE.X, TISSUE.coords, genes=GENES, query_genes=PANEL)
    assert search.best_estimator_.n_features_in_ == len(PANEL)
    assert search.predict(TISSUE.X).shape == (200, 2)


def test_missing_genes_are_named_by_their_weight(whole):
    weights = gene_weights(whole)
    assert weights.sum() == pytest.approx(1)
    heavy = np.argsort(-weights)[:15]
    light = np.setdiff1d(np.arange(40), heavy)
    lost = f"{weights[heavy].sum():.0%} of the weight"
    with pytest.warns(UserWarning, match=f"15 of the model's 40 genes, with {lost}"):
        by_name = whole.predict(TISSUE.X[:, light], genes=GENES[light])
    missing = np.isin(np.arange(40), heavy)
    X = TISSUE.X.copy().tolil()
    X[:, heavy] = 0
    with pytest.warns(UserWarning, match=lost):
        by_mask = whole.predict(X.tocsr(), missing_genes=missing)
    assert_array_equal(by_name, by_mask)
    model = SpatialModel.of(whole, TISSUE.X, GENES)
    with pytest.warns(UserWarning, match=lost):
        by_model = model.predict(TISSUE.X[:, light], genes=GENES[light])
    np.testing.assert_allclose(by_model, by_name, rtol=1e-6)


def test_weights_are_those_of_the_components(whole):
    # Genes that are far from the mean move components by what they weigh: its square root.
    step = whole["components"]
    rows = np.random.RandomState(0).randn(300, 40)
    step_without_lengths = clone(step).set_params(unit_rows=False)
    step_without_lengths.__dict__.update(
        {name: value for name, value in vars(step).items() if name.endswith("_")}
    )
    moved = [
        np.sum(
            (
                step_without_lengths.transform(rows + np.eye(40)[gene])
                - step_without_lengths.transform(rows)
            )
            ** 2,
            axis=1,
        ).mean()
        for gene in range(40)
    ]
    np.testing.assert_allclose(gene_weights(whole), np.array(moved) / np.sum(moved), rtol=1e-6)


def test_a_query_without_any_selected_gene_is_refused(whole):
    with pytest.raises(ValueError, match=r"only 0 of the model's 40 genes.*query_genes="):
        whole.predict(TISSUE.X, missing_genes=np.ones(40, dtype=bool))
    with pytest.raises(ValueError, match="same kind of names"):
        whole.predict(TISSUE.X, genes=[f"ENSG{i:011d}" for i in range(40)])


def test_what_cannot_be_matched_is_refused_before_the_fit():
    pipeline = make_spatial_pipeline(**FAST)
    with pytest.raises(ValueError, match="query_genes was given without genes"):
        pipeline.fit(TISSUE.X, TISSUE.coords, query_genes=PANEL)
    with pytest.raises(ValueError, match="genes has 20 names but X has 40 columns"):
        pipeline.fit(TISSUE.X, TISSUE.coords, genes=PANEL)
    with pytest.raises(ValueError, match="none of the 40 genes"):
        pipeline.fit(TISSUE.X, TISSUE.coords, genes=GENES, query_genes=["A", "B"])
    assert not hasattr(pipeline["dpvae"], "fitted_")
    pipeline.fit(TISSUE.X, TISSUE.coords)
    with pytest.raises(ValueError, match="does not know the names of its own"):
        pipeline.predict(TISSUE.X, genes=GENES)


def test_genes_and_missing_genes_exclude_each_other(whole):
    with pytest.raises(ValueError, match="both given"):
        whole.predict(TISSUE.X, genes=GENES, missing_genes=np.zeros(40, dtype=bool))


def test_common_genes_match_identifiers():
    columns = common_genes(
        ["Sst", "Gad1", "Mbp"],
        ["ENSMUSG00000000001", "Mbp"],
        gene_ids=["a", "ENSMUSG00000000001", "b"],
    )
    assert_array_equal(columns, [1, 2])


def test_anndata_and_command_fit_on_a_panel(tmp_path, monkeypatch):
    anndata = pytest.importorskip("anndata")
    import sklearn_dpvae.anndata as dpa
    from sklearn_dpvae import load
    from sklearn_dpvae.cli import main

    reference = anndata.AnnData(TISSUE.X, obsm={"spatial": TISSUE.coords})
    reference.var_names = GENES
    query = reference[:50, ::-2].copy()
    model = dpa.fit(reference, query=query, **FAST)
    assert_array_equal(model.genes, GENES[1::2])
    dpa.predict(model, query)
    assert query.obsm["spatial_dpvae"].shape == (50, 2)

    reference.write_h5ad(tmp_path / "reference.h5ad")
    query.write_h5ad(tmp_path / "query.h5ad")
    written = tmp_path / "model.dpvae"
    arguments = ["fit", str(tmp_path / "reference.h5ad"), "-o", str(written), "--quiet"]
    arguments += ["--for-query", str(tmp_path / "query.h5ad"), "--set", "max_epochs=1"]
    depths = []
    fit = SpatialPipeline.fit

    def spy(self, X, y, *, query_counts, **params):
        depths.append(query_counts)
        return fit(self, X, y, query_counts=query_counts, **params)

    monkeypatch.setattr(SpatialPipeline, "fit", spy)
    assert main(arguments) == 0
    assert_array_equal(load(written).genes, GENES[1::2])
    # The counts of the query are a part of what its cells have.
    of_query = np.asarray(TISSUE.X[:50, 1::2].sum(axis=1)).ravel()
    assert depths
    assert all(np.array_equal(given, of_query) for given in depths)
