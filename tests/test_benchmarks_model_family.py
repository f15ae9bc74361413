"""The benchmark of the model family pairs runs, and runs as it is called."""

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="benchmarks are not part of an installed package")

from benchmarks import model_family as family
from benchmarks._common.store import read
from sklearn_dpvae.datasets import make_tissue


def result(weights, disparity, **changed):
    key = {"task": "a", "likelihood": "nb", "variant": "plain", "seed": 0, "weights": weights}
    measured = {"disparity": disparity, "moran": -disparity, "geary": 0.5, "seconds": 1.0}
    return key | measured | changed


def test_differences_pair_runs_of_equal_task_seed_and_model():
    results = [
        result("0", 0.9),
        result("0", 0.5, task="b"),
        # In another order, and with a run that has no partner.
        result("distance", 0.6, task="b"),
        result("distance", 0.2, seed=1),
        result("distance", 0.7),
    ]
    found = family.differences(results, "distance")
    np.testing.assert_allclose(np.sort(found["disparity"]), [-0.2, 0.1])
    np.testing.assert_allclose(np.sort(found["moran"]), [-0.1, 0.2])
    np.testing.assert_allclose(found["geary"], 0)
    assert family.differences(results, "distance", task="b")["disparity"] == pytest.approx(0.1)


def test_a_quick_run_writes_all_models_tables_and_a_summary(tmp_path, monkeypatch, capsys):
    anndata = pytest.importorskip("anndata")
    tissue = make_tissue(150, 40, random_state=0)
    adata = anndata.AnnData(tissue.X, obsm={"spatial": tissue.coords})
    adata.write_h5ad(tmp_path / "one.h5ad")
    monkeypatch.setattr(family, "QUICK", family.QUICK | {"n_top_genes": 20, "max_epochs": 1})
    output, summary = tmp_path / "out.json", tmp_path / "summary.json"
    options = ["-o", str(output), "--summary", str(summary), "--quick", "--tasks", "one random"]
    family.main([str(tmp_path), *options])

    results = read(output)
    # One section is no batch: three forms of the model are left.
    assert len(results) == len(read(summary)) == 4 * 3 * 3
    assert all(np.isfinite(r[measure]) for r in results for measure in family.MEASURES)
    # A second call finds everything done, and changes nothing.
    family.main([str(tmp_path), *options])
    assert read(output) == results
    assert "| default | all | 12 |" in capsys.readouterr().out
