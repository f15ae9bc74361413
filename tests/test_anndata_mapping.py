"""Mapping of AnnData, and what scanpy, squidpy and SpatialData make of it."""

from dataclasses import replace

import numpy as np
import pytest

import sklearn_dpvae.anndata as dpa
from sklearn_dpvae import mapping
from sklearn_dpvae.anndata._mapping import as_mapping
from sklearn_dpvae.datasets import make_tissue

anndata = pytest.importorskip("anndata")
pd = pytest.importorskip("pandas")

N_PANEL, N_REFERENCE = 50, 150


class Case:
    """A reference with a panel of genes, and cells with all genes and types."""

    def __init__(self):
        tissue = make_tissue(250, 60, random_state=0)
        X = tissue.X.toarray().astype(np.float32)
        adata = anndata.AnnData(X, obsm={"spatial": tissue.coords})
        adata.obs_names, adata.var_names = tissue.obs_names, tissue.genes
        right = tissue.coords[:, 0] > np.median(tissue.coords[:, 0])
        adata.obs["side"] = pd.Categorical(np.where(right, "right", "left"))
        adata.obs["holds"] = np.arange(250) % 3
        adata.layers["logs"] = np.log1p(X)
        self.all = adata
        self.reference = adata[:N_REFERENCE, :N_PANEL].copy()
        self.query = adata[N_REFERENCE:].copy()
        self.model = dpa.fit(self.reference, max_epochs=10, random_state=0)
        self.mapped = dpa.map(self.model, self.query, self.reference)


@pytest.fixture(scope="module")
def case():
    return Case()


def test_map_is_map_cells_with_obs_and_var(case):
    mapped = case.mapped
    assert mapped.shape == (100, N_REFERENCE)
    pd.testing.assert_frame_equal(mapped.obs, case.query.obs)
    pd.testing.assert_frame_equal(mapped.var, case.reference.obs)
    np.testing.assert_array_equal(mapped.varm["spatial"], case.reference.obsm["spatial"])
    plain = mapping.map_cells(
        case.model.pipeline,
        case.query.X[:, :N_PANEL],
        (case.reference.X, case.reference.obsm["spatial"]),
    )
    np.testing.assert_allclose(mapped.X.toarray(), plain.matrix.toarray(), atol=1e-6)
    assert mapped.uns["dpvae"]["by"] == "expression"


def test_a_mapping_survives_a_file(case, tmp_path):
    case.mapped.write_h5ad(tmp_path / "map.h5ad")
    again = anndata.read_h5ad(tmp_path / "map.h5ad")
    a = dpa.project_genes(case.mapped, case.query)
    b = dpa.project_genes(again, case.query)
    np.testing.assert_array_equal(a.X, b.X)
    ways = as_mapping(case.mapped).tellings
    assert as_mapping(again).tellings == ways and None not in ways


def test_rows_are_found_by_name_and_columns_by_gene(case):
    genes = list(case.all.var_names[[57, 52]])
    found = dpa.project_genes(case.mapped, case.query, genes, layer="logs")
    plain = mapping.project_genes(as_mapping(case.mapped), case.query.layers["logs"][:, [57, 52]])
    np.testing.assert_allclose(found.X, plain, rtol=1e-5)
    assert list(found.var_names) == genes
    np.testing.assert_array_equal(found.obsm["spatial"], case.reference.obsm["spatial"])
    shuffled = case.all[::-1].copy()
    again = dpa.project_genes(case.mapped, shuffled, genes, layer="logs")
    np.testing.assert_allclose(again.X, found.X, rtol=1e-5)


def test_genes_of_the_reference_go_into_cells(case):
    found = dpa.impute_genes(case.mapped, case.reference)
    assert found.shape == (100, N_PANEL)
    assert list(found.obs_names) == list(case.query.obs_names)


def test_labels_are_written_where_scanpy_looks_for_them(case, tmp_path):
    target = case.all.copy()
    dpa.project_labels(case.mapped, target, "side")
    shares = target.obsm["dpvae_side"]
    assert list(shares.columns) == ["left", "right"]
    known = target.obs_names.isin(case.reference.obs_names)
    np.testing.assert_allclose(shares[known].sum(axis=1), 1)
    assert shares[~known].isna().all(axis=None)
    agree = target.obs["dpvae_side"][known].astype(str) == target.obs["side"][known].astype(str)
    assert agree.mean() > 0.7
    assert target.obs["dpvae_side"][~known].isna().all()
    target.write_h5ad(tmp_path / "labels.h5ad")

    query = case.query.copy()
    dpa.transfer_labels(case.mapped, query, "side")
    agree = query.obs["dpvae_side"].astype(str) == query.obs["side"].astype(str)
    assert agree.mean() > 0.7
    assert query.obsm["dpvae_side_std"].shape == (100, 2)


def test_capacity_may_be_a_column_and_locations_without_position_are_left_out(case):
    reference = case.reference.copy()
    reference.obsm["spatial"][:3] = np.nan
    mapped = dpa.map(case.model, case.query, reference, capacity="holds")
    assert mapped.shape == (100, N_REFERENCE - 3)
    held = np.asarray(mapped.X.sum(axis=0)).ravel()
    assert (held <= mapped.var["holds"]).all()
    assert "dpvae_components" not in mapped.obsm
    dpa.project_labels(mapped, reference, "side", counts=True)
    assert reference.obsm["dpvae_side"].iloc[:3].isna().all(axis=None)
    np.testing.assert_array_equal(reference.obsm["dpvae_side"].iloc[3:].sum(axis=1), held)


def test_without_reference_locations_are_those_that_the_model_keeps(case):
    mapped = dpa.map(case.model, case.query, by="place")
    assert mapped.shape == (100, N_REFERENCE)
    assert mapped.var_names[0] == "location_0"


def test_errors_say_what_is_not_there(case):
    with pytest.raises(ValueError, match=r"no column key='kind'; it has side, holds"):
        dpa.project_labels(case.mapped, case.reference.copy(), "kind")
    with pytest.raises(ValueError, match=r"100 of 100 cells of the mapping are not there"):
        dpa.project_genes(case.mapped, case.reference)
    with pytest.raises(ValueError, match=r"1 of 1 genes are not in the query \(Nope\)"):
        dpa.project_genes(case.mapped, case.query, "Nope")
    with pytest.raises(ValueError, match="mapped is no AnnData of cells x locations"):
        dpa.project_genes(case.query, case.query)
    with pytest.raises(ValueError, match=r"no column capacity='many'"):
        dpa.map(case.model, case.query, case.reference, capacity="many")
    with pytest.raises(ValueError, match="names a column of a reference"):
        dpa.map(case.model, case.query, capacity="holds")


def test_scanpy_goes_on_with_projected_genes(case):
    sc = pytest.importorskip("scanpy")
    found = dpa.project_genes(case.mapped, case.query, layer="logs")
    dpa.project_labels(case.mapped, found, "side")
    sc.tl.rank_genes_groups(found, "dpvae_side", method="t-test")
    assert found.uns["rank_genes_groups"]["names"].dtype.names == ("left", "right")


@pytest.mark.filterwarnings("ignore")
def test_squidpy_goes_on_with_genes_and_labels(case):
    sq = pytest.importorskip("squidpy")
    found = dpa.project_genes(case.mapped, case.query, layer="logs")
    dpa.project_labels(case.mapped, found, "side")
    sq.gr.spatial_neighbors(found, coord_type="generic", n_neighs=6)
    sq.gr.nhood_enrichment(found, "dpvae_side", seed=0, show_progress_bar=False)
    z = found.uns["dpvae_side_nhood_enrichment"]["zscore"]
    assert z[0, 0] > 0 > z[0, 1]  # Each side is among itself.
    sq.gr.spatial_autocorr(found, mode="moran")
    assert found.uns["moranI"]["I"].median() > 0.15


@pytest.mark.filterwarnings("ignore")
def test_labels_go_into_the_table_of_a_spatialdata(case):
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import ShapesModel, TableModel
    from spatialdata.transformations import Scale, set_transformation

    coords = case.reference.obsm["spatial"]
    table = case.reference.copy()
    del table.obsm["spatial"]
    table.obs["region"] = pd.Categorical(["spots"] * N_REFERENCE)
    table.obs["spot"] = np.arange(N_REFERENCE)
    table = TableModel.parse(table, region="spots", region_key="region", instance_key="spot")
    shapes = ShapesModel.parse(coords, geometry=0, radius=1.0, index=np.arange(N_REFERENCE))
    sdata = spatialdata.SpatialData(tables={"table": table}, shapes={"spots": shapes})
    cells = spatialdata.SpatialData(tables={"cells": TableModel.parse(case.query.copy())})
    mapped = dpa.map(case.model, cells, sdata)
    np.testing.assert_allclose(mapped.varm["spatial"], coords)
    dpa.project_labels(mapped, sdata, "side")
    written = sdata.tables["table"]
    assert written.obsm["dpvae_side"].shape == (N_REFERENCE, 2)
    assert written.uns["spatialdata_attrs"]["region"] == "spots"
    set_transformation(sdata.shapes["spots"], Scale([2.0, 2.0], axes=("x", "y")), "pixels")
    model = replace(case.model, coordinate_system="pixels")
    np.testing.assert_allclose(dpa.map(model, cells, sdata).varm["spatial"], 2 * coords)
