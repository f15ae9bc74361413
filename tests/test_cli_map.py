"""The command that maps cells to locations."""

import json

import numpy as np
import pytest

import sklearn_dpvae
import sklearn_dpvae.anndata as dpa
from sklearn_dpvae.cli import main
from sklearn_dpvae.datasets import make_tissue

anndata = pytest.importorskip("anndata")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, the reference that it was fitted on, and cells."""
    folder = tmp_path_factory.mktemp("map")
    tissue = make_tissue(120, 30, random_state=0)
    adata = anndata.AnnData(tissue.X, obsm={"spatial": tissue.coords})
    adata.obs_names, adata.var_names = tissue.obs_names, tissue.genes
    adata.obs["cell_type"] = np.where(tissue.coords[:, 0] > 0, "neuron", "glia")
    adata.obs["n_nuclei"] = 1
    reference = adata[:80].copy()
    reference.write_h5ad(folder / "reference.h5ad")
    adata[80:].copy().write_h5ad(folder / "cells.h5ad")
    model = dpa.fit(reference, max_epochs=2, random_state=0)
    sklearn_dpvae.save(model, folder / "model.dpvae")
    return folder


@pytest.fixture
def files(folder, monkeypatch):
    monkeypatch.chdir(folder)


COMMAND = ["map", "model.dpvae", "cells.h5ad", "--reference", "reference.h5ad", "-q"]


def test_map_writes_what_anndata_map_returns_and_labels(files):
    assert main([*COMMAND, "--labels", "cell_type", "-o", "mapped.h5ad"]) == 0
    written = anndata.read_h5ad("mapped.h5ad")
    reference, cells = anndata.read_h5ad("reference.h5ad"), anndata.read_h5ad("cells.h5ad")
    mapped = dpa.map(sklearn_dpvae.load("model.dpvae"), cells, reference)
    np.testing.assert_allclose(written.X.toarray(), mapped.X.toarray(), atol=1e-6)
    dpa.project_labels(mapped, reference, "cell_type")
    np.testing.assert_allclose(
        written.varm["dpvae_cell_type"], reference.obsm["dpvae_cell_type"], atol=1e-6
    )
    assert list(written.var["dpvae_cell_type"]) == list(reference.obs["dpvae_cell_type"])


@pytest.mark.parametrize("capacity", ["n_nuclei", "80"])
def test_no_location_holds_more_than_it_may(files, capsys, capacity):
    assert main([*COMMAND, "--capacity", capacity, "--json", "-o", "mapped.h5ad"]) == 0
    assert json.loads(capsys.readouterr().out)["n_without_room"] == 0
    written = anndata.read_h5ad("mapped.h5ad")
    assert written.X.sum(axis=0).max() == 1
    assert written.X.sum() == 40


@pytest.mark.filterwarnings("default")
def test_cells_without_room_are_said(files, capsys):
    assert main([*COMMAND, "--capacity", "30", "--json", "-o", "mapped.h5ad"]) == 0
    found = capsys.readouterr()
    assert "--capacity 30 leaves no room for 10 cells; their rows are empty" in found.err
    assert json.loads(found.out)["n_without_room"] == 10


def test_by_place_without_a_reference(files, capsys):
    argv = ["map", "model.dpvae", "cells.h5ad", "--by", "place", "-o", "mapped.h5ad"]
    assert main(argv) == 0
    assert "mapped 40 cells to 80 locations; wrote mapped.h5ad" in capsys.readouterr().out
    assert anndata.read_h5ad("mapped.h5ad").uns["dpvae"]["by"] == "place"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*COMMAND, "-o", "mapped.csv"], "cannot tell the format of --output mapped.csv"),
        (
            [*COMMAND, "-o", "other.h5ad", "--labels", "kind"],
            "--labels kind: cells.h5ad has no such column of obs; it has cell_type, n_nuclei",
        ),
        (
            ["map", "model.dpvae", "cells.h5ad", "-o", "other.h5ad", "--capacity", "n_nuclei"],
            "--capacity n_nuclei: a column needs the file that has it, --reference",
        ),
        (
            [*COMMAND, "-o", "other.h5ad", "--capacity", "n_cells"],
            "reference.obs has no column capacity='n_cells'",
        ),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(files, folder, capsys, argv, message):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (folder / "other.h5ad").exists()
