"""A model that comes back from a file, of whatever kind, predicts the same bytes."""

import copy
import dataclasses
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone

import sklearn_dpvae
from sklearn_dpvae import SpatialModel, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue

DATA = Path(__file__).parent / "data"
SMALL = {"n_estimators": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


def by_joblib(model, folder):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def by_save(model, folder):
    sklearn_dpvae.save(model, folder / "model.dpvae")
    return sklearn_dpvae.load(folder / "model.dpvae")


WAYS = {
    "joblib": by_joblib,
    "save": by_save,
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, folder: copy.deepcopy(model),
}


def answers(pipeline, X, coords):
    anchors = (np.arange(6), coords[:6])
    latents = pipeline.transform(X)
    return [
        *pipeline.predict(X, return_std=True),
        pipeline.predict(X, anchors=anchors),
        pipeline.predict_radius(X),
        latents,
        pipeline[-1].inverse_transform(latents),
    ]


def assert_same_bytes(pipeline, X, coords, folder):
    expected = answers(pipeline, X, coords)
    for name, way in WAYS.items():
        found = answers(way(pipeline, folder), X, coords)
        assert [a.tobytes() for a in found] == [a.tobytes() for a in expected], name


@pytest.fixture(scope="module")
def section():
    """More genes than cells: components are then a view of a larger array."""
    tissue = make_tissue(200, 600, random_state=0)
    return tissue.X, tissue.coords


@pytest.mark.parametrize("kind", ["int32", "int64", "float32", "float64", "dense"])
@pytest.mark.parametrize("options", [{}, {"query": "new_section", "reconstruction": "reference"}])
def test_predictions_are_the_same_bytes(section, tmp_path, kind, options):
    X, coords = section
    X = X.toarray() if kind == "dense" else sp.csr_matrix(X, dtype=kind)
    pipeline = make_spatial_pipeline(**SMALL, **options).fit(X, coords)
    assert_same_bytes(pipeline, X, coords, tmp_path)


FILES = (
    sorted(Path(os.environ["SKLEARN_DPVAE_DATA"]).glob("*.h5ad"))
    if ("SKLEARN_DPVAE_DATA" in os.environ)
    else []
)

IN_ANOTHER_PROCESS = """
import sys
import numpy as np
import scipy.sparse as sp
import sklearn_dpvae
X = sp.load_npz(sys.argv[1] + "/X.npz")
np.save(sys.argv[1] + "/found.npy", sklearn_dpvae.load(sys.argv[1] + "/model.dpvae").predict(X))
"""


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
@pytest.mark.filterwarnings("ignore:steps before the last were chosen")
def test_predictions_for_a_real_section_are_the_same_bytes(path, tmp_path):
    """Counts as integers in CSR: after each way to a file and back, and after another fit."""
    adata = pytest.importorskip("anndata").read_h5ad(path)
    rows = np.random.RandomState(0).permutation(len(adata))[:400]
    X, coords = sp.csr_matrix(adata.X[rows], dtype=np.int32), adata.obsm["spatial"][rows]
    pipeline = make_spatial_pipeline(**SMALL, n_calibration_folds=None).fit(X, coords)
    assert_same_bytes(pipeline, X, coords, tmp_path)
    again = clone(pipeline).fit(X, coords)
    assert again.predict(X).tobytes() == pipeline.predict(X).tobytes()


def test_another_process_predicts_the_same_bytes_from_a_file(section, tmp_path):
    X, coords = section
    X = sp.csr_matrix(X, dtype=np.int32)
    pipeline = make_spatial_pipeline(**SMALL, n_calibration_folds=None).fit(X, coords)
    sklearn_dpvae.save(pipeline, tmp_path / "model.dpvae")
    sp.save_npz(tmp_path / "X.npz", X)
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path)], check=True)
    assert np.load(tmp_path / "found.npy").tobytes() == pipeline.predict(X).tobytes()


def test_layouts_and_numbers_of_rows_leave_float32_predictions_alone(section):
    """A file may bring an array back in another order; a query has any order, and any rows."""
    X, coords = section
    pipeline = make_spatial_pipeline(**SMALL, n_calibration_folds=None)
    pipeline.fit(X.astype(np.float32), coords)
    step, Z = pipeline["components"], pipeline[:-2].transform(X.astype(np.float32))
    assert Z.dtype == np.float32
    expected = step.transform(Z)
    assert step.transform(np.asfortranarray(Z)).tobytes() == expected.tobytes()
    assert step.transform(Z[3:8]).tobytes() == expected[3:8].tobytes()
    step.components_ = np.array(step.components_, order="C")
    row_by_row = step.transform(Z)
    step.components_ = np.array(step.components_, order="F")
    assert step.transform(Z).tobytes() == row_by_row.tobytes() == expected.tobytes()


def arrays_of(value, where):
    """Yield each array that a fitted object holds, and where it is."""
    if isinstance(value, np.ndarray):
        yield where, value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from arrays_of(item, f"{where}[{number}]")
    elif isinstance(value, BaseEstimator) or dataclasses.is_dataclass(value):
        for name, item in vars(value).items():
            yield from arrays_of(item, f"{where}.{name}")


def test_fitted_arrays_are_no_views_with_gaps(section):
    """A pickle gives them other strides, and products with them other last bits."""
    pipeline = make_spatial_pipeline(**SMALL).fit(*section)
    found = dict(arrays_of(pipeline, "pipeline"))
    assert len(found) > 15
    assert [where for where, array in found.items() if not array.flags.forc] == []


# The file that must load forever


@pytest.fixture(scope="module")
def kept():
    with np.load(DATA / "model_v2.npz") as arrays:
        return dict(arrays)


def test_the_file_of_version_2_loads_and_predicts_what_it_did(kept):
    model = sklearn_dpvae.load(DATA / "model_v2.dpvae")
    assert isinstance(model, SpatialModel)
    assert model.genes.tolist() == [f"gene{i}" for i in range(12)]
    assert model.gene_ids.tolist() == [f"ID{i:04}" for i in range(12)]
    assert (model.unit, model.layer, model.spatial_key) == ("µm", "counts", "spatial")
    assert (model.section_key, model.version) == ("section", "0.1.0")
    assert model.whole_counts
    assert model.median_depth == kept["median_depth"]

    X = sp.csr_matrix(kept["X"])
    found = model.answers(X, genes=model.genes, sections=kept["sections"])
    # Other processors and libraries round otherwise.
    close = {"rtol": 1e-5, "atol": 1e-4}
    np.testing.assert_allclose(found.coords, kept["coords"], **close)
    np.testing.assert_allclose(found.std, kept["std"], **close)
    np.testing.assert_allclose(found.latents, kept["latents"], **close)
    expected = model.pipeline[-1].inverse_transform(kept["latents"])
    np.testing.assert_allclose(expected, kept["expression"], **close)


def test_the_file_of_version_2_is_small_and_can_be_fine_tuned(kept):
    assert (DATA / "model_v2.dpvae").stat().st_size + (DATA / "model_v2.npz").stat().st_size < 1e5
    pipeline = sklearn_dpvae.load(DATA / "model_v2.dpvae").pipeline
    before = pipeline.predict(kept["X"])
    pipeline.partial_fit(kept["X"], kept["coords"], sections=kept["sections"])
    assert not np.array_equal(pipeline.predict(kept["X"]), before)


def test_what_made_the_file_still_runs(tmp_path, kept):
    make = runpy.run_path(str(DATA / "make_model_v2.py"))["make"]
    make(tmp_path)
    with np.load(tmp_path / "model_v2.npz") as arrays:
        assert arrays["coords"].shape == kept["coords"].shape
    sklearn_dpvae.load(tmp_path / "model_v2.dpvae")
