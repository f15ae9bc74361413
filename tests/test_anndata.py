"""AnnData in and out: the same numbers as the pipeline alone, whatever holds them."""

import copy
import functools
import json
import types
import warnings

import numpy as np
import pytest

anndata = pytest.importorskip("anndata")
pandas = pytest.importorskip("pandas")

from scipy import sparse  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.neighbors import KNeighborsRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402

import sklearn_dpvae  # noqa: E402
import sklearn_dpvae.anndata as dpa  # noqa: E402
from sklearn_dpvae import SpatialModel, load, make_spatial_pipeline, save  # noqa: E402
from sklearn_dpvae.pipeline import SpatialPipeline  # noqa: E402
from sklearn_dpvae.preprocessing import LogNormalizer  # noqa: E402

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


def as_anndata(tissue, rows=slice(None)):
    adata = anndata.AnnData(
        tissue.X[rows].astype(np.float32),
        obs=pandas.DataFrame(
            {"section": pandas.Categorical(tissue.sections[rows].astype(str))},
            index=[f"cell{i}" for i in np.arange(300)[rows]],
        ),
        var=pandas.DataFrame(index=tissue.genes),
    )
    adata.obsm["spatial"] = tissue.coords[rows]
    return adata


@pytest.fixture
def adata(tissue):
    return as_anndata(tissue)


@pytest.fixture
def model(adata):
    return dpa.fit(adata, **SMALL)


def test_fit_is_the_pipeline_on_counts_positions_and_sections(tissue, adata, model):
    pipeline = make_spatial_pipeline(**SMALL)
    labels = tissue.sections.astype(str)
    pipeline.fit(tissue.X.astype(np.float32), tissue.coords, sections=labels)
    query = adata.copy()
    assert dpa.predict(model, query) is None
    expected = pipeline.predict(tissue.X.astype(np.float32), sections=labels)
    np.testing.assert_array_equal(query.obsm["spatial_dpvae"], expected)
    np.testing.assert_array_equal(
        query.obsm["X_dpvae"], pipeline.transform(tissue.X.astype(np.float32), sections=labels)
    )
    np.testing.assert_array_equal(model.genes, tissue.genes)
    assert model.section_key == "section"
    assert model.spatial_key == "spatial"
    assert model.version == sklearn_dpvae.__version__
    assert model.whole_counts
    assert model.median_depth == np.median(np.asarray(tissue.X.sum(axis=1)))
    assert model.gene_ids is None


def test_identifiers_of_genes_are_kept(adata):
    adata.var["gene_ids"] = [f"ENSG{i:05}" for i in range(60)]
    assert dpa.fit(adata, **SMALL).gene_ids[3] == "ENSG00003"
    few = adata[:, :40].copy()
    few.raw = adata
    assert len(dpa.fit(few, layer="raw", **SMALL).gene_ids) == 60
    assert len(dpa.fit(few, **SMALL).gene_ids) == 40


def test_spread_is_written_where_the_estimator_has_one(adata, model, monkeypatch):
    regressor = type(model.pipeline[-1])
    plain = regressor.predict

    def with_std(self, X, *, anchors=None, sections=None, return_std=False):
        coords = plain(self, X, sections=sections)
        coords = coords[0] if isinstance(coords, tuple) else coords
        return (coords, np.arange(len(coords), dtype=float)) if return_std else coords

    monkeypatch.setattr(regressor, "predict", with_std)
    dpa.predict(model, adata)
    np.testing.assert_array_equal(adata.obs["dpvae_std"], np.arange(300.0))


def test_provenance_survives_a_file(adata, model, tmp_path):
    dpa.predict(model, adata)
    adata.write_h5ad(tmp_path / "placed.h5ad")
    back = anndata.read_h5ad(tmp_path / "placed.h5ad")
    np.testing.assert_array_equal(back.obsm["spatial_dpvae"], adata.obsm["spatial_dpvae"])
    told = back.uns["dpvae"]
    assert told["version"] == told["model_version"] == sklearn_dpvae.__version__
    assert told["unit"] == "unknown"
    assert told["estimator"] == "SpatialPipeline"
    assert told["layer"] == "X"
    assert told["n_genes_missing"] == 0
    assert json.loads(told["params"])["dpvae__max_epochs"] == 2
    np.testing.assert_array_equal(told["genes"].astype(str), model.genes)


def test_genes_are_matched_by_name(adata, model):
    shuffled = adata[:, np.random.default_rng(0).permutation(adata.n_vars)].copy()
    extra = anndata.AnnData(
        sparse.csr_matrix((adata.n_obs, 3), dtype=np.float32),
        obs=adata.obs,
        var=pandas.DataFrame(index=["a", "b", "c"]),
    )
    wider = anndata.concat([shuffled, extra], axis=1, merge="first")
    wider.obs = adata.obs.copy()
    dpa.predict(model, adata)
    dpa.predict(model, wider)
    np.testing.assert_array_equal(wider.obsm["spatial_dpvae"], adata.obsm["spatial_dpvae"])


def test_missing_genes_have_the_mean_and_are_said_once(adata, model):
    gene = np.argmax(model.gene_weights)
    silenced = adata.copy()
    silenced.X = sparse.csr_matrix(adata.X.toarray() * (np.arange(60) != gene))
    X, missing = silenced.X, np.arange(60) == gene
    expected = model.pipeline.predict(X, sections=adata.obs["section"], missing_genes=missing)
    lacking = adata[:, np.arange(adata.n_vars) != gene].copy()
    with pytest.warns(UserWarning, match=r"1 of the model's \d+ genes, with .* missing") as caught:
        dpa.predict(model, lacking, chunk_size=100)
    assert len(caught) == 1
    np.testing.assert_allclose(lacking.obsm["spatial_dpvae"], expected, rtol=1e-4, atol=1e-2)
    assert lacking.uns["dpvae"]["n_genes_missing"] == 1
    with pytest.raises(ValueError, match=r"min_share=0\.99"):
        dpa.predict(model, lacking, min_share=0.99)


def test_labels_of_sections_may_be_text_here_and_numbers_there(tissue, adata):
    """Each section is answered in its own frame, however its label is written."""
    far = np.where(tissue.sections == tissue.sections[0], 1e5, 0)[:, None]
    adata.obs["section"] = (tissue.sections == tissue.sections[0]).astype(int)
    adata.obsm["spatial"] = tissue.coords + far
    floats = adata.copy()
    floats.obs["section"] = adata.obs["section"].astype(float)
    text = adata.copy()
    text.obs["section"] = floats.obs["section"].astype(str)
    for reference in (adata, floats, text):
        model = dpa.fit(reference, **SMALL)
        for kind in (int, float, str, object):
            query = adata.copy()
            query.obs["section"] = adata.obs["section"].astype(kind)
            dpa.predict(model, query)
            away = np.abs(query.obsm["spatial_dpvae"] - adata.obsm["spatial"])
            assert away.max() < 1e4, kind


def test_labels_that_nobody_takes_are_not_dropped_in_silence(adata):
    plain = make_pipeline(LogNormalizer(), KNeighborsRegressor())
    with pytest.warns(UserWarning, match=r"Pipeline does not take them: all.*section_key=None"):
        dpa.fit(adata, plain)
    assert dpa.fit(adata, plain, section_key=None).section_key is None
    search = GridSearchCV(make_spatial_pipeline(**SMALL), {"dpvae__dropout": [0.1, 0.2]}, cv=2)
    model = dpa.fit(adata, search)
    assert len(search.best_estimator_["dpvae"].sections_) == 2
    dpa.predict(model, adata)
    expected = search.best_estimator_.predict(adata.X, sections=adata.obs["section"])
    np.testing.assert_array_equal(adata.obsm["spatial_dpvae"], expected)


def test_cells_without_a_position_are_left_out(adata):
    lost = [3, 7, 11, 200]
    expected = dpa.fit(adata[np.setdiff1d(np.arange(300), lost)].copy(), **SMALL)
    adata.obsm["spatial"][lost[:2]] = np.nan
    adata.obsm["spatial"][lost[2], 0] = np.nan
    adata.obsm["spatial"][lost[3], 1] = np.inf
    message = r"4 of 300 cells of adata .* not fitted: rows 3 \(cell3\), 7 .*, 11 .*, \.\.\."
    with pytest.warns(UserWarning, match=message):
        model = dpa.fit(adata, **SMALL)
    query = adata.copy()
    np.testing.assert_array_equal(
        dpa.predict(model, query, copy=True).obsm["spatial_dpvae"],
        dpa.predict(expected, query, copy=True).obsm["spatial_dpvae"],
    )
    adata.obsm["spatial"][:] = np.nan
    with pytest.raises(ValueError, match="all 300 positions of adata are NaN or infinite"):
        dpa.fit(adata, **SMALL)


def test_no_cells_to_place(adata, model):
    with pytest.raises(ValueError, match="no cells to place"):
        dpa.predict(model, adata[:0].copy())


@pytest.mark.parametrize("layer", ["counts", "raw"])
def test_layers_are_remembered(tissue, adata, model, layer):
    dpa.predict(model, adata)
    moved = adata.copy()
    if layer == "raw":
        moved.raw = adata
    else:
        moved.layers["counts"] = adata.X.copy()
    moved.X = sparse.csr_matrix(np.full(adata.shape, 7, dtype=np.float32))
    again = dpa.fit(moved, layer=layer, **SMALL)
    dpa.predict(again, moved)
    np.testing.assert_array_equal(moved.obsm["spatial_dpvae"], adata.obsm["spatial_dpvae"])
    assert moved.uns["dpvae"]["layer"] == layer
    with pytest.raises(ValueError, match="layer='nothing'"):
        dpa.predict(again, moved, layer="nothing")


def test_counts_are_found_where_they_are(adata):
    assert dpa.fit(adata, layer="auto", **SMALL).layer is None
    logged = adata.copy()
    logged.X = LogNormalizer().fit_transform(adata.X)
    with pytest.warns(UserWarning, match="log-normalized already"):
        dpa.fit(logged, **SMALL)
    with pytest.raises(ValueError, match="found no whole numbers"):
        dpa.fit(logged, layer="auto", **SMALL)
    logged.raw = adata
    with pytest.warns(UserWarning, match="layer='raw' is taken"):
        assert dpa.fit(logged, layer="auto", **SMALL).layer == "raw"
    logged.layers["counts"] = adata.X
    with pytest.warns(UserWarning, match="layer='counts' is taken"):
        assert dpa.fit(logged, layer="auto", **SMALL).layer == "counts"


def test_a_query_on_another_scale_is_said_once(adata, model):
    adata.X = LogNormalizer().fit_transform(adata.X)
    with pytest.warns(UserWarning, match="X looks log-normalized, but the reference") as caught:
        dpa.predict(model, adata, chunk_size=100)
    assert len(caught) == 1


def test_a_warning_names_the_layer_of_the_counts(adata):
    logged = adata.copy()
    logged.X = LogNormalizer().fit_transform(adata.X)
    logged.layers["counts"] = adata.X
    with pytest.warns(UserWarning, match="log-normalized already.*layer='counts'") as caught:
        dpa.fit(logged, **SMALL)
    assert len(caught) == 1
    # Neither counts nor recognizable logarithms, but scanpy's note of them is there.
    logged.X = adata.X.multiply(0.37).tocsr()
    logged.uns["log1p"] = {"base": None}
    del logged.layers["counts"]
    with pytest.warns(UserWarning, match="log-normalized already.*by layer="):
        dpa.fit(logged, **SMALL)


def test_fractions_are_warned_of_once(adata):
    corrected = adata.copy()
    corrected.X = adata.X.multiply(0.37).tocsr()
    with pytest.warns(UserWarning, match="holds fractions") as caught:
        dpa.fit(corrected, **SMALL)
    assert len(caught) == 1
    corrected.layers["counts"] = adata.X
    with pytest.warns(UserWarning, match="no counts.*layer='counts'") as caught:
        dpa.fit(corrected, **SMALL)
    assert len(caught) == 1


def test_a_query_keeps_its_counts_elsewhere(adata, model):
    expected = dpa.predict(model, adata, copy=True).obsm["spatial_dpvae"]
    logged = adata.copy()
    logged.X = LogNormalizer().fit_transform(adata.X)
    logged.layers["counts"] = adata.X
    with pytest.warns(UserWarning, match="fitted on .X, which does not hold.*'counts' is taken"):
        dpa.predict(model, logged)
    np.testing.assert_array_equal(logged.obsm["spatial_dpvae"], expected)
    assert logged.uns["dpvae"]["layer"] == "counts"
    of_layer = dpa.fit(logged, layer="counts", **SMALL)
    with pytest.warns(UserWarning, match=r"fitted on layer='counts', which is absent.*so \.X is"):
        dpa.predict(of_layer, adata)
    np.testing.assert_array_equal(adata.obsm["spatial_dpvae"], expected)
    adata.X = adata.X.multiply(0.37).tocsr()
    with pytest.warns(UserWarning, match="the query holds fractions, but the reference held whol"):
        dpa.predict(model, adata)


def test_labels_that_the_reference_does_not_know(adata, model):
    adata.obs["section"] = np.where(adata.obs["section"] == adata.obs["section"].iloc[0], "a", "b")
    with pytest.warns(UserWarning, match=r"2 of 2 labels .* unknown .*\(a, b; it has section_1, "):
        dpa.predict(model, adata)
    transfer = dpa.fit(adata, query="new_section", **SMALL)
    adata.obs["section"] = "another"
    dpa.predict(transfer, adata)


def test_results_reach_the_caller_of_a_view(adata, model, tmp_path):
    expected = dpa.predict(model, adata, copy=True)
    half = np.arange(300) % 2 == 0
    placed = dpa.predict(model, adata[half])
    assert "spatial_dpvae" not in adata.obsm
    np.testing.assert_allclose(
        placed.obsm["spatial_dpvae"], expected.obsm["spatial_dpvae"][half], rtol=1e-9
    )
    named = adata[half]
    dpa.predict(model, named)
    np.testing.assert_array_equal(named.obs["dpvae_std"], placed.obs["dpvae_std"])
    adata.write_h5ad(tmp_path / "query.h5ad")
    backed = anndata.read_h5ad(tmp_path / "query.h5ad", backed="r")
    with pytest.raises(ValueError, match=r"view of a backed AnnData.*to_memory"):
        dpa.predict(model, backed[:50])
    np.testing.assert_array_equal(
        dpa.fit(backed[half.nonzero()[0]], **SMALL).pipeline.predict(adata.X),
        dpa.fit(adata[half].copy(), **SMALL).pipeline.predict(adata.X),
    )


def test_results_of_another_model_do_not_stay(adata, model):
    dpa.predict(model, adata)
    neighbors = make_pipeline(LogNormalizer(), KNeighborsRegressor(5))
    dpa.predict(dpa.fit(adata, neighbors, section_key=None), adata)
    assert set(adata.obsm) == {"spatial", "spatial_dpvae"}
    assert "dpvae_std" not in adata.obs
    assert adata.uns["dpvae"]["estimator"] == "Pipeline"


@pytest.mark.parametrize("kind", ["dask", "dask of sparse", "float16", "csc", "csr_array"])
def test_expression_of_other_types(adata, model, kind):
    expected = dpa.predict(model, adata, copy=True).obsm["spatial_dpvae"]
    X = adata.X
    if kind.startswith("dask"):
        da = pytest.importorskip("dask.array")
        blocks = da.from_array(X.toarray(), chunks=(100, 60))
        adata.X = blocks.map_blocks(sparse.csr_matrix) if kind.endswith("sparse") else blocks
    elif kind == "float16":
        adata.X = X.toarray().astype(np.float16)
    else:
        adata.X = {"csc": sparse.csc_matrix, "csr_array": sparse.csr_array}[kind](X)
    again = dpa.fit(adata, **SMALL)
    dpa.predict(again, adata)
    np.testing.assert_allclose(adata.obsm["spatial_dpvae"], expected, rtol=1e-4, atol=0.1)


def test_section_key_of_another_name_and_of_none(tissue, adata, model):
    dpa.predict(model, adata)
    table = adata.copy()
    table.obs = table.obs.rename(columns={"section": "region"})
    again = dpa.fit(table, section_key="region", **SMALL)
    dpa.predict(again, table)
    np.testing.assert_array_equal(table.obsm["spatial_dpvae"], adata.obsm["spatial_dpvae"])

    counts = tissue.X.astype(np.float32)
    pipeline = make_spatial_pipeline(**SMALL).fit(counts, tissue.coords)
    alone = dpa.fit(adata, section_key=None, **SMALL)
    assert alone.section_key is None
    dpa.predict(alone, adata)
    np.testing.assert_array_equal(adata.obsm["spatial_dpvae"], pipeline.predict(counts))
    # A query without the column is one section.
    del adata.obs["section"]
    dpa.predict(model, adata)
    np.testing.assert_array_equal(
        adata.obsm["spatial_dpvae"], model.pipeline.predict(counts, sections=None)
    )


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("query", ["same_section", "new_section"])
@pytest.mark.parametrize("reconstruction", ["auto", "mds"])
def test_backed_mode_reads_by_chunks(adata, tmp_path, dense, query, reconstruction):
    model = dpa.fit(adata, query=query, reconstruction=reconstruction, **SMALL)
    small = adata[::3].copy()
    if dense:
        small.X = small.X.toarray()
    dpa.predict(model, small)
    bare = anndata.AnnData(small.X, obs=small.obs, var=small.var)
    bare.write_h5ad(tmp_path / "query.h5ad")
    before = (tmp_path / "query.h5ad").read_bytes()
    backed = anndata.read_h5ad(tmp_path / "query.h5ad", backed="r")
    dpa.predict(model, backed, chunk_size=17)
    assert backed.isbacked
    # Blocks of other sizes round differently in the matrix products before the net.
    np.testing.assert_allclose(
        backed.obsm["spatial_dpvae"], small.obsm["spatial_dpvae"], rtol=1e-4, atol=1e-2
    )
    with pytest.raises(ValueError, match="to_memory"):
        dpa.predict(model, backed, copy=True)
    backed.file.close()
    assert (tmp_path / "query.h5ad").read_bytes() == before


def test_anchors_come_back_as_given(adata, model):
    known = np.full((300, 2), np.nan)
    given = [0, 50, 100, 160, 200, 290]
    known[given] = adata.obsm["spatial"][given]
    adata.obsm["known"] = known
    dpa.predict(model, adata, anchors_key="known", chunk_size=70)
    np.testing.assert_array_equal(adata.obsm["spatial_dpvae"][given], known[given])
    expected = model.pipeline.predict(
        adata.X, sections=np.asarray(adata.obs["section"]), anchors=known
    )
    np.testing.assert_allclose(adata.obsm["spatial_dpvae"], expected, atol=1e-2)
    # Of twenty in each section one learns, so that radii are those of the anchors, too.
    given = np.r_[0:40:2, 200:240:2]
    known[given] = adata.obsm["spatial"][given]
    adata.obsm["known"] = known
    dpa.predict(model, adata, anchors_key="known", level=0.5)
    radius = adata.obs["dpvae_radius"].to_numpy()
    assert (radius[given] == 0).all()
    half = np.sqrt(2 * np.log(2))
    np.testing.assert_allclose(radius, adata.obs["dpvae_std"] * half, rtol=1e-3)
    with pytest.raises(ValueError, match=r"anchors_key='nowhere'; \.obsm has"):
        dpa.predict(model, adata, anchors_key="nowhere")


def test_copy_and_key_added(adata, model):
    before = adata.copy()
    placed = dpa.predict(model, adata, copy=True, key_added="second")
    assert set(adata.obsm) == set(before.obsm)
    assert {"spatial_second", "X_second"} <= set(placed.obsm)
    assert "second" in placed.uns
    np.testing.assert_array_equal(adata.X.toarray(), before.X.toarray())


def test_scanpy_goes_on_from_here(adata, model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanpy = pytest.importorskip("scanpy")
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("agg")
        dpa.predict(model, adata)
        scanpy.pp.neighbors(adata, use_rep="X_dpvae", n_neighbors=5, method="gauss")
        scanpy.tl.diffmap(adata, n_comps=3)
        ax = scanpy.pl.embedding(adata, "spatial_dpvae", color="section", show=False)
        assert len(ax.collections) >= 1
        ax.figure.clear()
    assert adata.obsp["connectivities"].shape == (300, 300)


def test_model_is_saved_and_loaded(adata, tmp_path):
    model = dpa.fit(adata, unit="µm", **SMALL)
    first = dpa.predict(model, adata, copy=True)
    save(model, tmp_path / "model.dpvae")
    loaded = load(tmp_path / "model.dpvae")
    assert isinstance(loaded, SpatialModel)
    second = dpa.predict(loaded, adata, copy=True)
    for key in ("spatial_dpvae", "X_dpvae"):
        np.testing.assert_array_equal(first.obsm[key], second.obsm[key])
    assert second.uns["dpvae"]["unit"] == "µm"
    assert first.uns["dpvae"].keys() == second.uns["dpvae"].keys()


def test_pipeline_fitted_on_a_data_frame(tissue, adata, model):
    dpa.predict(model, adata)
    expected = adata.obsm["spatial_dpvae"]
    labels = tissue.sections.astype(str)
    frame = pandas.DataFrame(tissue.X.toarray().astype(np.float32), columns=tissue.genes)
    pipeline = make_spatial_pipeline(**SMALL).fit(frame, tissue.coords, sections=labels)
    dpa.predict(pipeline, adata, section_key="section")
    np.testing.assert_allclose(adata.obsm["spatial_dpvae"], expected, rtol=1e-3, atol=1)
    assert adata.uns["dpvae"]["model_version"] == "unknown"


def test_any_estimator_can_be_fitted(tissue, adata):
    pipeline = make_pipeline(LogNormalizer(), KNeighborsRegressor(5))
    model = dpa.fit(adata, pipeline, section_key=None)
    assert model.pipeline is pipeline
    dpa.predict(model, adata)
    np.testing.assert_allclose(adata.obsm["spatial_dpvae"], pipeline.predict(adata.X))
    assert "X_dpvae" not in adata.obsm
    with pytest.raises(TypeError, match="both a pipeline and parameters"):
        dpa.fit(adata, pipeline, max_epochs=2)


def test_errors(adata, model):
    with pytest.raises(TypeError, match="does not know the names of its genes"):
        dpa.predict(model.pipeline, adata)
    with pytest.raises(TypeError, match=r"\(model, adata\)"):
        dpa.predict(adata, model)
    with pytest.raises(ValueError, match="chunk_size"):
        dpa.predict(model, adata, chunk_size=0)
    with pytest.raises(ValueError, match="section_key='slide'"):
        dpa.predict(model, adata, section_key="slide")
    del adata.obsm["spatial"]
    with pytest.raises(ValueError, match="adata has no positions"):
        dpa.fit(adata, **SMALL)
    assert "spatial_dpvae" not in adata.obsm


def test_repeated_names_warn(adata, model):
    names = adata.var_names.tolist()
    names[3] = names[2]
    adata.var_names = names
    with pytest.warns(UserWarning) as caught:
        dpa.predict(model, adata)
    assert any("occur more than once" in str(warning.message) for warning in caught)


def test_module_does_not_hide_the_package_of_its_name():
    assert hasattr(anndata, "AnnData")
    assert not hasattr(dpa, "AnnData")


def test_score_calibrate_and_partial_fit(tissue, adata, model):
    X, labels = adata.X, {"sections": adata.obs["section"]}
    assert dpa.score(model, adata) == model.pipeline.score(X, tissue.coords, **labels)
    before = dpa.predict(model, adata, copy=True, level=0.8)
    np.testing.assert_array_equal(
        before.obs["dpvae_radius"], model.pipeline.predict_radius(X, level=0.8, **labels)
    )
    adata.obsm["spatial"][5] = [np.nan, 3.0]
    located = np.arange(300) != 5
    assert dpa.score(model, adata) == model.pipeline.score(
        X[located], tissue.coords[located], sections=adata.obs["section"][located]
    )
    known = np.where(located[:, None], tissue.coords, np.nan)
    for method in ("calibrate", "partial_fit"):
        learned = getattr(dpa, method)(model, adata)
        expected = copy.deepcopy(model.pipeline)
        getattr(expected, method)(X, known, **labels)
        after = dpa.predict(learned, adata, copy=True)
        np.testing.assert_array_equal(after.obsm["spatial_dpvae"], expected.predict(X, **labels))
        assert "dpvae_radius" not in after.obs
        np.testing.assert_array_equal(
            dpa.predict(model, adata, copy=True).obsm["spatial_dpvae"],
            before.obsm["spatial_dpvae"],
        )
    with pytest.raises(ValueError, match="no positions spatial_key='xy'"):
        dpa.calibrate(model, adata, spatial_key="xy")
    adata.obsm["spatial"][:] = np.nan
    with pytest.raises(ValueError, match="no cell with a position"):
        dpa.score(model, adata)


def test_a_fit_for_a_query_knows_its_genes_and_its_depth(adata, monkeypatch):
    """The depths are those of the genes in common, whichever layer holds the counts."""
    calls = []
    fit = SpatialPipeline.fit

    @functools.wraps(fit)
    def spy(self, X, y, **params):
        calls.append(params | {"n_genes": X.shape[1]})
        return fit(self, X, y, **params)

    monkeypatch.setattr(SpatialPipeline, "fit", spy)
    query = adata[:90, 5:45].copy()
    query.var_names = [name.lower() for name in query.var_names[:-3]] + ["a", "b", "c"]
    expected = np.asarray(query.X[:, :37].sum(axis=1)).ravel()
    small = SMALL | {"n_calibration_folds": None}
    dpa.fit(adata, query=query, **small)
    assert calls[0]["n_genes"] == 37
    np.testing.assert_array_equal(calls[0]["query_counts"], expected)

    query.layers["counts"], query.X = query.X, np.log1p(query.X)
    dpa.fit(adata, query=query, **small)
    np.testing.assert_array_equal(calls[1]["query_counts"], expected)

    # A MuData holds the table, here beside one of proteins.
    multiome = types.SimpleNamespace(mod={"prot": query[:, :3].copy(), "rna": query})
    dpa.fit(adata, query=multiome, **small)
    assert calls[2]["n_genes"] == 37
    np.testing.assert_array_equal(calls[2]["query_counts"], expected)

    del query.layers["counts"]
    dpa.fit(adata, query=query, **small)
    assert "query_counts" not in calls[3]


def test_the_modality_of_a_multiome_is_checked_and_placed(adata, model):
    query = adata[:40].copy()
    multiome = types.SimpleNamespace(mod={"prot": query[:, :3].copy(), "rna": query})
    assert dpa.check(model, multiome).to_dict() == dpa.check(model, query).to_dict()
    found = dpa.predict_places(model, multiome).probabilities
    expected = dpa.predict_places(model, query).probabilities
    np.testing.assert_array_equal(found.toarray(), expected.toarray())
