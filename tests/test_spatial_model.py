"""A fitted pipeline that knows its genes: what it holds, and how it finds its columns."""

import copy
import dataclasses

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

import sklearn_dpvae
from sklearn_dpvae import SpatialModel, make_spatial_pipeline
from sklearn_dpvae.preprocessing import LogNormalizer

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def pipeline(_tissue):
    pipeline = make_spatial_pipeline(**SMALL)
    return pipeline.fit(_tissue.X, _tissue.coords, sections=_tissue.sections)


@pytest.fixture
def model(pipeline, tissue):
    return SpatialModel.of(pipeline, tissue.X, tissue.genes, unit="µm")


def test_what_the_fit_knew_of_its_data(model, tissue, pipeline):
    assert model.pipeline is pipeline
    assert model.genes.tolist() == tissue.genes.tolist()
    assert model.n_genes == 60
    assert model.whole_counts is True
    assert model.median_depth == np.median(np.asarray(tissue.X.sum(axis=1)))
    assert model.version == sklearn_dpvae.__version__
    assert (model.unit, model.layer, model.gene_ids) == ("µm", None, None)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    ("change", "whole", "depth"),
    [(0.0, True, True), (0.5, False, True), (-1e3, False, False), (np.nan, False, False)],
)
def test_counts_are_told_from_other_numbers(pipeline, tissue, dense, change, whole, depth):
    X = tissue.X.astype(float)
    X.data[7] += change
    model = SpatialModel.of(pipeline, X.toarray() if dense else X, tissue.genes)
    assert model.whole_counts is whole
    assert (model.median_depth is not None) is depth


def test_it_is_a_value(model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.unit = "mm"


def test_predict_is_that_of_the_pipeline(model, pipeline, tissue):
    np.testing.assert_array_equal(model.predict(tissue.X), pipeline.predict(tissue.X))
    np.testing.assert_array_equal(
        model.predict(tissue.X, sections=tissue.sections),
        pipeline.predict(tissue.X, sections=tissue.sections),
    )
    anchors = ([0, 4, 9, 100], tissue.coords[[0, 4, 9, 100]])
    np.testing.assert_array_equal(
        model.predict(tissue.X, anchors=anchors), pipeline.predict(tissue.X, anchors=anchors)
    )


def test_answers_are_those_of_the_pipeline(model, pipeline, tissue):
    found = model.answers(tissue.X, chunk_size=300)
    coords, std = pipeline.predict(tissue.X, return_std=True)
    np.testing.assert_array_equal(found.coords, coords)
    np.testing.assert_array_equal(found.std, std)
    np.testing.assert_array_equal(found.latents, pipeline.transform(tissue.X))
    assert model.answers(tissue.X, latents=False).latents is None
    chunked = model.answers(tissue.X, sections=tissue.sections, chunk_size=37)
    whole = model.answers(tissue.X, sections=tissue.sections)
    for name in ("coords", "std", "latents"):
        np.testing.assert_allclose(getattr(chunked, name), getattr(whole, name), rtol=1e-3)


def test_genes_are_found_by_name(model, tissue):
    pandas = pytest.importorskip("pandas")
    order = np.random.default_rng(0).permutation(60)
    expected = model.predict(tissue.X)
    np.testing.assert_array_equal(
        model.predict(tissue.X[:, order], genes=tissue.genes[order]), expected
    )
    frame = pandas.DataFrame(tissue.X.toarray()[:, order], columns=tissue.genes[order])
    np.testing.assert_allclose(model.predict(frame), expected, rtol=1e-3)


def test_missing_genes_are_said_once_and_handed_on(model, pipeline, tissue):
    genes = tissue.genes[5:]
    X = sparse.csr_matrix(tissue.X)[:, 5:]
    with pytest.warns(UserWarning, match="5 of the model's 60 genes, with .* missing") as caught:
        found = model.predict(X, genes=genes)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="5 of the model's 60"):
        aligned, missing = model.align(X, genes)
    np.testing.assert_array_equal(missing, np.arange(60) < 5)
    with pytest.warns(UserWarning, match="5 of the model's 60"):
        expected = pipeline.predict(aligned, missing_genes=missing)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"min_share=0\.95"):
        model.predict(X, genes=genes, min_share=0.95)


def test_the_share_is_that_of_the_selected_genes(tissue):
    """A panel has few of the genes of a transcriptome, and enough of those that are used."""
    pipeline = make_spatial_pipeline(n_top_genes=10, **SMALL).fit(tissue.X, tissue.coords)
    model = SpatialModel.of(pipeline, tissue.X, tissue.genes)
    support = pipeline["genes"].get_support()
    selected = np.flatnonzero(support)
    X = tissue.X[:, selected[:6]]
    with pytest.warns(
        UserWarning, match="4 of the model's 10 genes, with .* are missing in the query"
    ):
        model.predict(X, genes=tissue.genes[selected[:6]], min_share=0.6)
    with pytest.raises(ValueError, match=r"only 6 of the model's 10 genes .* min_share=0\.7"):
        model.predict(X, genes=tissue.genes[selected[:6]], min_share=0.7)
    with pytest.raises(ValueError, match="only 0 of the model's 10"):
        model.predict(tissue.X[:, ~support], genes=tissue.genes[~support], min_share=0)


def test_genes_are_found_by_identifiers(pipeline, tissue):
    ids = np.array([f"ENSG{i:011}" for i in range(60)])
    model = SpatialModel.of(pipeline, tissue.X, tissue.genes, gene_ids=ids)
    expected = model.predict(tissue.X)
    order = np.random.default_rng(0).permutation(60)
    found = model.predict(
        tissue.X[:, order], genes=np.array([f"g{i}" for i in range(60)]), gene_ids=ids[order]
    )
    np.testing.assert_array_equal(found, expected)


def test_any_pipeline_will_do(tissue):
    pipeline = make_pipeline(LogNormalizer(), KNeighborsRegressor(5))
    model = SpatialModel.of(pipeline.fit(tissue.X, tissue.coords), tissue.X, tissue.genes)
    found = model.answers(tissue.X, sections=tissue.sections)
    np.testing.assert_allclose(found.coords, pipeline.predict(tissue.X))
    assert found.std is None
    assert found.latents is None


def test_errors(model, pipeline, tissue):
    with pytest.raises(ValueError, match=r"59 names, but the pipeline was fitted on 60 columns"):
        SpatialModel(pipeline, tissue.genes[1:])
    with pytest.raises(ValueError, match=r"1 name\(s\) more than once \("):
        SpatialModel(pipeline, np.append(tissue.genes[1:], tissue.genes[5]))
    with pytest.raises(ValueError, match=r"gene_ids has shape \(3,\), but there are 60 genes"):
        SpatialModel(pipeline, tissue.genes, gene_ids=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"array of shape \(\)"):
        SpatialModel(pipeline, "gene")
    with pytest.raises(NotFittedError):
        SpatialModel(make_spatial_pipeline(), tissue.genes).predict(tissue.X)
    with pytest.raises(ValueError, match="no cells to place"):
        model.predict(tissue.X[:0])
    with pytest.raises(ValueError, match=r"whole number of 1 or more, got 0\.5"):
        model.answers(tissue.X, chunk_size=0.5)
    with pytest.raises(ValueError, match="60 names but X has 50 columns"):
        model.predict(tissue.X[:, :50])


def test_an_anndata_is_sent_on(model, tissue):
    anndata = pytest.importorskip("anndata")
    with pytest.raises(TypeError, match=r"sklearn_dpvae\.anndata\.predict"):
        model.predict(anndata.AnnData(tissue.X))


@pytest.mark.filterwarnings("ignore:steps before the last were chosen")
def test_further_methods_are_those_of_the_pipeline(model, pipeline, tissue):
    order = np.random.default_rng(0).permutation(60)
    X, names = tissue.X[:, order], {"genes": tissue.genes[order], "sections": tissue.sections}
    labels = {"sections": tissue.sections}
    np.testing.assert_array_equal(
        model.predict_radius(X, level=0.8, **names),
        pipeline.predict_radius(tissue.X, level=0.8, **labels),
    )
    assert model.score(X, tissue.coords, **names) == pipeline.score(
        tissue.X, tissue.coords, **labels
    )
    before = model.predict(tissue.X)
    for method in ("partial_fit", "calibrate"):
        learned = getattr(model, method)(X, tissue.coords, **names)
        expected = copy.deepcopy(pipeline)
        getattr(expected, method)(tissue.X, tissue.coords, **labels)
        np.testing.assert_array_equal(learned.predict(tissue.X), expected.predict(tissue.X))
        np.testing.assert_array_equal(
            learned.predict_radius(tissue.X), expected.predict_radius(tissue.X)
        )
        assert (learned.unit, learned.genes.tolist()) == (model.unit, model.genes.tolist())
        np.testing.assert_array_equal(model.predict(tissue.X), before)


def test_further_methods_hand_missing_genes_on(model, pipeline, tissue):
    with pytest.warns(UserWarning, match="5 of"):
        aligned, missing = model.align(tissue.X[:, 5:], tissue.genes[5:])
    with pytest.warns(UserWarning, match="5 of"):
        found = model.predict_radius(tissue.X[:, 5:], genes=tissue.genes[5:])
    with pytest.warns(UserWarning, match="5 of"):
        expected = pipeline.predict_radius(aligned, missing_genes=missing)
    np.testing.assert_array_equal(found, expected)


def test_progress_of_several_blocks(model, tissue, capsys):
    model.answers(tissue.X, chunk_size=100)
    model.answers(tissue.X, verbose=True)
    assert capsys.readouterr().err == ""
    model.answers(tissue.X, chunk_size=100, verbose=True)
    assert "placing: 100%" in capsys.readouterr().err
