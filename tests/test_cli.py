"""The command line: what it writes, and that errors are one line and status 2."""

import base64
import csv
import json
import os
import pickle
import re
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.neighbors import KNeighborsRegressor
from sklearn.utils import Bunch

import sklearn_dpvae
import sklearn_dpvae.anndata as dpa
from sklearn_dpvae import SpatialModel, SpatialPipeline, make_spatial_pipeline
from sklearn_dpvae.cli import _demo, main
from sklearn_dpvae.cli._files import load_model
from sklearn_dpvae.cli._main import _parser, _say
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import distance_correlation, neighborhood_hits, procrustes_disparity

anndata = pytest.importorskip("anndata")
pandas = pytest.importorskip("pandas")

FAST = ["--quiet", "--set", "max_epochs=1", "--set", "hidden_layer_sizes=(8,)"]


class Marker(TransformerMixin, BaseEstimator):
    """Stands for preprocessing: what is missing is -1, and another section is 1000 away."""

    def __init__(self, query="same_section"):
        self.query = query

    def fit(self, X, y=None):
        return self

    def transform(self, X, *, missing_genes=None):
        X = X.toarray().astype(float) + (1000 if self.query == "new_section" else 0)
        X[:, missing_genes] = -1
        return X


class Placer(RegressorMixin, BaseEstimator):
    """Stands for a fitted regressor: a cell's place is its counts of the first genes."""

    def __init__(self, n_dims=2):
        self.n_dims = n_dims

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X, *, sections=None, return_std=False):
        coords = X[:, : self.n_dims]
        return (coords, np.arange(len(coords)) / 10) if return_std else coords


def dump_placer(genes, n_dims=2):
    """Write a model that needs no fit, as a pickle."""
    pipeline = SpatialPipeline([("mark", Marker()), ("place", Placer(n_dims))])
    joblib.dump(SpatialModel(pipeline, genes, section_key="section"), "model.joblib")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with a section of two parts, and a stand-in for a model of it."""
    monkeypatch.chdir(tmp_path)
    tissue = make_tissue(60, 12, n_sections=2, random_state=0)
    adata = anndata.AnnData(
        tissue.X,
        obs=pandas.DataFrame(
            {"section": tissue.sections, "age": np.arange(60)}, index=tissue.obs_names
        ),
        var=pandas.DataFrame(index=tissue.genes),
        obsm={"spatial": tissue.coords},
    )
    adata.write_h5ad("section.h5ad")
    dump_placer(tissue.genes)
    return Bunch(tissue=tissue, adata=adata)


def log_normalize(adata):
    """Put logarithms into .X, as scanpy does, and the counts into a layer."""
    adata.layers["counts"] = adata.X.copy()
    X = adata.X.toarray()
    adata.X = np.log1p(X / X.sum(axis=1, keepdims=True) * 1e4)
    return adata


def failure(capsys, *argv):
    """Run a command that fails; returns what it says, which is one line."""
    assert main([str(part) for part in argv]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("placing")]
    assert out == ""
    assert len(lines) == 1
    prefix = "sklearn-dpvae: error: "
    assert lines[0].startswith(prefix)
    return lines[0].removeprefix(prefix)


def names():
    return sorted(os.listdir())


# predict


def test_predict_csv(files, capsys):
    assert main(["predict", "model.joblib", "section.h5ad", "-o", "out.csv"]) == 0
    out, err = capsys.readouterr()
    assert out == "placed 60 cells; wrote out.csv\n"
    assert err == "placing 60 cells\n"
    with open("out.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["barcode", "x", "y", "std"]
    assert [row[0] for row in rows] == files.tissue.obs_names.tolist()
    values = np.array([row[1:] for row in rows], dtype=float)
    np.testing.assert_array_equal(values[:, :2], files.tissue.X[:, :2].toarray())
    np.testing.assert_array_equal(values[:, 2], np.arange(60) / 10)
    assert names() == ["model.joblib", "out.csv", "section.h5ad"]


@pytest.mark.parametrize(("n_dims", "axes"), [(1, ["x"]), (3, ["x", "y", "z"])])
def test_predict_csv_in_other_dimensions(files, n_dims, axes):
    dump_placer(files.tissue.genes, n_dims)
    assert main(["predict", "model.joblib", "section.h5ad", "-o", "out.csv", "-q"]) == 0
    assert Path("out.csv").read_text().splitlines()[0].split(",") == ["barcode", *axes, "std"]


def test_predict_h5ad_is_a_copy_of_the_query(files):
    before = Path("section.h5ad").read_bytes()
    assert main(["predict", "model.joblib", "section.h5ad", "-o", "out.h5ad", "-q"]) == 0
    result = anndata.read_h5ad("out.h5ad")
    np.testing.assert_array_equal(
        result.obsm["spatial_dpvae"], files.tissue.X[:, :2].toarray().astype(float)
    )
    np.testing.assert_array_equal(result.obs["dpvae_std"], np.arange(60) / 10)
    np.testing.assert_array_equal(result.obsm["spatial"], files.tissue.coords)
    assert (result.X != files.tissue.X).nnz == 0
    assert result.obs["age"].tolist() == list(range(60))
    assert result.obs.columns.tolist() == ["section", "age", "dpvae_std"]
    assert Path("section.h5ad").read_bytes() == before


def test_predict_may_write_over_its_query(files):
    assert main(["predict", "model.joblib", "section.h5ad", "-o", "section.h5ad", "-q"]) == 0
    assert "spatial_dpvae" in anndata.read_h5ad("section.h5ad").obsm


def test_predict_for_space_ranger_output(files):
    pytest.importorskip("h5py")
    from test_datasets_readers import write_visium

    write_visium(Path("kidney", "outs"), files.tissue)
    assert main(["predict", "model.joblib", "kidney/outs", "-o", "out.h5ad", "-q"]) == 0
    result = anndata.read_h5ad("out.h5ad")
    assert result.obs_names.tolist() == files.tissue.obs_names.tolist()
    assert result.var_names.tolist() == files.tissue.genes.tolist()
    np.testing.assert_allclose(result.obsm["spatial"], files.tissue.coords)
    assert result.obsm["spatial_dpvae"].shape == (60, 2)


@pytest.mark.filterwarnings("always")
def test_genes_are_aligned_by_name(files, capsys):
    shuffled = files.adata[:, [5, 0, 7, 3, 2, 9, 10, 11]].copy()
    del shuffled.obsm["spatial"]
    shuffled.write_h5ad("query.h5ad")
    assert main(["predict", "model.joblib", "query.h5ad", "-o", "out.csv", "-q"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("sklearn-dpvae: warning: 4 of the model's 12 genes")
    assert len(err.splitlines()) == 1
    values = np.loadtxt("out.csv", delimiter=",", skiprows=1, usecols=(1, 2))
    np.testing.assert_array_equal(values[:, 0], files.tissue.X[:, 0].toarray().ravel())
    np.testing.assert_array_equal(values[:, 1], -1)


def test_statistics_of_the_query_can_be_chosen_late(files):
    def first(*more):
        assert main(["predict", "model.joblib", "section.h5ad", "-o", "o.csv", "-q", *more]) == 0
        return np.loadtxt("o.csv", delimiter=",", skiprows=1, usecols=1)

    np.testing.assert_array_equal(first("--query", "new_section"), first() + 1000)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["model.joblib", "section.h5ad"], "required: -o/--output .see sklearn-dpvae predict --h"),
        (["model.joblib", "section.h5ad", "-o", "out.txt"], r"out\.txt: use \.csv or \.h5ad"),
        (["model.joblib", "section.h5ad", "-o", "no/out.csv"], "there is no folder no"),
        (["model.joblib", "other.h5ad", "-o", "out.csv"], "no such file or folder: other.h5ad"),
        (["model.joblib", "model.joblib", "-o", "out.csv"], "model.joblib is not a readable .h5"),
        (["other.joblib", "section.h5ad", "-o", "out.csv"], "no such model file: other.joblib"),
        ([".", "section.h5ad", "-o", "out.csv"], "is a folder, not a model file"),
        (["section.h5ad", "model.joblib", "-o", "out.csv"], "section.h5ad is not a model file"),
        (["model.joblib", "section.h5ad", "-o", "o.csv", "--layer", "x"], "no layer='x'; it has"),
        (["model.joblib", "section.h5ad", "-o", "o.csv", "--query", "x"], "invalid choice: 'x'"),
        (["model.joblib", "section.h5ad", "-o", "o.csv", "--quer", "x"], "unrecognized arguments"),
    ],
)
def test_predict_errors(files, capsys, argv, message):
    assert re.search(message, failure(capsys, "predict", *argv))
    assert names() == ["model.joblib", "section.h5ad"]


def test_too_few_genes_in_common(files, capsys):
    other = files.adata.copy()
    other.var_names = [f"x{i}" for i in range(12)]
    other.write_h5ad("query.h5ad")
    message = failure(capsys, "predict", "model.joblib", "query.h5ad", "-o", "out.csv")
    assert message.startswith("query.h5ad: only 0 of the model's 12 genes")


# Model files


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "bits"])
def test_damaged_model(files, capsys, damage):
    path = Path("model.joblib")
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "text": b"no model",
            "empty": b"",
            "bits": content[:100] + bytes(100) + content[200:],
        }[damage]
    )
    message = failure(capsys, "evaluate", path, "section.h5ad")
    assert message.startswith("model.joblib is not a model file, or is damaged")


def test_a_model_called_a_pickle_is_written_as_one(files, capsys):
    argv = ["fit", "section.h5ad", "-q", "--set", "max_epochs=1", "--set", "n_estimators=1"]
    assert main([*argv, "-o", "own.joblib"]) == 0
    assert main([*argv, "-o", "own.dpvae"]) == 0
    assert isinstance(joblib.load("own.joblib"), SpatialModel)
    for name in ("own.joblib", "own.dpvae"):
        assert main(["evaluate", name, "section.h5ad", "-q"]) == 0
    capsys.readouterr()


def test_pickles_of_a_model_are_read_too(files, capsys):
    dumped = Path("model.joblib").read_bytes()
    Path("model.pkl").write_bytes(pickle.dumps(joblib.load("model.joblib")))
    assert Path("model.pkl").read_bytes() != dumped
    for name in ("model.joblib", "model.pkl"):
        assert main(["predict", name, "section.h5ad", "-o", f"{name}.csv", "-q"]) == 0
    assert Path("model.joblib.csv").read_bytes() == Path("model.pkl.csv").read_bytes()


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_only_what_is_called_a_pickle_is_unpickled(files, capsys):
    joblib.dump(Bomb(), "model.dpvae")
    message = failure(capsys, "evaluate", "model.dpvae", "section.h5ad")
    assert message.startswith("model.dpvae is not a model file that sklearn_dpvae.save wrote")
    assert "exploded" not in names()


def test_pickle_of_a_pipeline_fitted_on_a_data_frame(files):
    tissue = files.tissue
    frame = pandas.DataFrame(tissue.X.toarray(), columns=tissue.genes)
    joblib.dump(KNeighborsRegressor(1, algorithm="brute").fit(frame, tissue.coords), "knn.joblib")
    assert main(["predict", "knn.joblib", "section.h5ad", "-o", "out.csv", "-q"]) == 0
    header = Path("out.csv").read_text().splitlines()[0]
    assert header == "barcode,x,y"
    placed = np.loadtxt("out.csv", delimiter=",", skiprows=1, usecols=(1, 2))
    np.testing.assert_allclose(placed, tissue.coords)


def test_models_that_do_not_know_their_genes(files, capsys):
    pipeline = make_spatial_pipeline(n_estimators=1, max_epochs=1, random_state=0)
    sklearn_dpvae.save(pipeline.fit(files.tissue.X, files.tissue.coords), "model.dpvae")
    message = failure(capsys, "evaluate", "model.dpvae", "section.h5ad")
    assert message.startswith("model.dpvae holds no model that can be used here: this Spatial")
    assert "SpatialModel(pipeline, genes)" in message


def test_damaged_model_file(files, capsys):
    pipeline = make_spatial_pipeline(random_state=0)
    sklearn_dpvae.save(SpatialModel(pipeline, ["a"]), "model.dpvae")
    content = bytearray(Path("model.dpvae").read_bytes())
    content[len(content) // 2] ^= 255
    Path("model.dpvae").write_bytes(content)
    message = failure(capsys, "evaluate", "model.dpvae", "section.h5ad")
    assert message.startswith("model.dpvae is damaged")


@pytest.mark.parametrize("content", [[1, 2], {"format": "other"}, "text"])
def test_other_joblib_files(files, capsys, content):
    joblib.dump(content, "other.joblib")
    message = failure(capsys, "evaluate", "other.joblib", "section.h5ad")
    assert message.startswith("other.joblib holds no model that can be used here")


def test_models_without_a_choice_of_statistics(files, capsys):
    pipeline = SpatialPipeline([("place", Placer())])
    joblib.dump(SpatialModel(pipeline, files.tissue.genes), "model.joblib")
    message = failure(capsys, "evaluate", "model.joblib", "section.h5ad", "--query", "new_section")
    assert message == "--query: model.joblib has no step that z-scores sections"


# evaluate


def test_evaluate_prints_scores_by_section(files, capsys):
    assert main(["evaluate", "model.joblib", "section.h5ad", "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    header, one, two, both, legend = out.splitlines()
    assert header.split() == ["cells", "disparity", "dist.", "corr.", "hits@10"]
    assert "0 best, 1 worst" in legend
    tissue = files.tissue
    placed = tissue.X[:, :2].toarray().astype(float)
    first = tissue.sections == "section_1"
    for line, name, rows in [(one, "section_1", first), (two, "section_2", ~first)]:
        assert line.split()[:2] == [name, "30"]
        expected = [
            metric(tissue.coords[rows], placed[rows])
            for metric in (procrustes_disparity, distance_correlation, neighborhood_hits)
        ]
        np.testing.assert_allclose(np.array(line.split()[2:], float), expected, atol=5e-4)
    assert both.split()[:2] == ["all", "60"]
    expected = procrustes_disparity(tissue.coords, placed, sections=tissue.sections)
    assert float(both.split()[2]) == pytest.approx(expected, abs=5e-4)


def test_evaluate_one_section(files, capsys):
    del files.adata.obs["section"]
    files.adata.write_h5ad("section.h5ad")
    assert main(["evaluate", "model.joblib", "section.h5ad", "-q"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.filterwarnings("always")
def test_evaluate_a_tiny_section(files, capsys):
    files.adata.obs["section"] = ["one"] + ["few"] * 4 + ["many"] * 55
    files.adata.write_h5ad("section.h5ad")
    assert main(["evaluate", "model.joblib", "section.h5ad", "-q"]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["one"] == ["1", "-", "-", "-"]
    assert rows["few"][0] == "4" and rows["few"][3] == "-"
    assert rows["all"][0] == "60" and "-" not in rows["all"]


def test_evaluate_needs_positions(files, capsys):
    del files.adata.obsm["spatial"]
    files.adata.write_h5ad("section.h5ad")
    message = failure(capsys, "evaluate", "model.joblib", "section.h5ad")
    assert message.startswith("section.h5ad: no positions in obsm['spatial'] to compare with")


@pytest.mark.filterwarnings("always")
def test_evaluate_scores_the_cells_that_have_a_position(files, capsys):
    kept = files.adata[5:].copy()
    kept.write_h5ad("kept.h5ad")
    assert main(["evaluate", "model.joblib", "kept.h5ad", "-q"]) == 0
    expected = capsys.readouterr().out
    files.adata.obsm["spatial"][:5] = np.nan
    files.adata.write_h5ad("section.h5ad")
    assert main(["evaluate", "model.joblib", "section.h5ad", "-q"]) == 0
    out, err = capsys.readouterr()
    assert out == expected
    assert "warning: 5 of 60 cells of section.h5ad have a position that is NaN" in err


# fit, with the real pipeline


def test_fit_then_predict_in_another_process_gives_the_same_bytes(files, capsys):
    argv = ["fit", "section.h5ad", "-o", "fitted.dpvae", "--n-top-genes", "8", *FAST]
    assert main(argv) == 0
    assert capsys.readouterr() == ("", "")
    pipeline = sklearn_dpvae.load("fitted.dpvae").pipeline
    assert pipeline.named_steps["genes"].get_params()["n_top_genes"] == 8
    assert pipeline.named_steps["dpvae"].hidden_layer_sizes == (8,)
    assert pipeline.named_steps["dpvae"].verbose == 0

    predict = ["predict", "fitted.dpvae", "section.h5ad", "-q", "-o"]
    assert main([*predict, "here.csv"]) == 0
    in_another_process(*predict, "there.csv")
    assert Path("here.csv").read_bytes() == Path("there.csv").read_bytes()


def in_another_process(*argv, **options):
    environment = os.environ | {"PYTHONPATH": str(Path(sklearn_dpvae.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, *options.pop("python", ()), "-m", "sklearn_dpvae", *argv],
        check=True,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_model_tells_what_the_fit_knew(files):
    files.adata.layers["raw_counts"] = files.adata.X.copy()
    files.adata.obsm["xy"] = files.adata.obsm["spatial"]
    files.adata.obs["slide"] = files.adata.obs["section"]
    files.adata.write_h5ad("section.h5ad")
    keys = ["--layer", "raw_counts", "--spatial-key", "xy", "--section-key", "slide"]
    argv = ["fit", "section.h5ad", "-o", "m.dpvae", "--unit", "µm", *keys, *FAST]
    assert main(argv) == 0
    model = sklearn_dpvae.load("m.dpvae")
    assert model.version == sklearn_dpvae.__version__
    assert model.genes.tolist() == files.tissue.genes.tolist()
    assert (model.layer, model.spatial_key, model.section_key) == ("raw_counts", "xy", "slide")
    assert (model.unit, model.whole_counts) == ("µm", True)
    assert model.median_depth == np.median(np.asarray(files.tissue.X.sum(axis=1)))


def test_predict_writes_what_anndata_predict_does(files):
    """Layer and keys are those of the fit, unless others are asked for."""
    files.adata.layers["counts"] = files.adata.X.copy()
    files.adata.X = files.adata.X[::-1].copy()
    files.adata.obs = files.adata.obs.rename(columns={"section": "slide"})
    files.adata.write_h5ad("section.h5ad")
    keys = ["--layer", "counts", "--section-key", "slide"]
    assert main(["fit", "section.h5ad", "-o", "m.dpvae", *keys, *FAST]) == 0
    model = sklearn_dpvae.load("m.dpvae")
    for more, options in [([], {}), (["--layer", "X"], {"layer": None})]:
        assert main(["predict", "m.dpvae", "section.h5ad", "-o", "out.h5ad", "-q", *more]) == 0
        found = anndata.read_h5ad("out.h5ad")
        expected = anndata.read_h5ad("section.h5ad")
        dpa.predict(model, expected, **options)
        assert set(found.obsm) == set(expected.obsm) == {"spatial", "spatial_dpvae", "X_dpvae"}
        for key in found.obsm:
            np.testing.assert_array_equal(found.obsm[key], expected.obsm[key])
        pandas.testing.assert_frame_equal(found.obs, expected.obs, check_dtype=False)
        assert found.uns["dpvae"].keys() == expected.uns["dpvae"].keys()
        for key, value in expected.uns["dpvae"].items():
            np.testing.assert_array_equal(found.uns["dpvae"][key], value)


def test_a_file_without_labels_is_the_section_of_its_name(files):
    """Each section is answered in its own frame: that of the second is far away."""
    for name, far in (("section_1", 0.0), ("section_2", 1e6)):
        part = files.adata[files.adata.obs["section"] == name].copy()
        del part.obs["section"]
        part.obsm["spatial"] = part.obsm["spatial"] + far
        part.write_h5ad(f"{name}.h5ad")
    assert main(["fit", "section_1.h5ad", "section_2.h5ad", "-o", "m.dpvae", *FAST]) == 0
    for name, far in (("section_1", False), ("section_2", True)):
        assert main(["predict", "m.dpvae", f"{name}.h5ad", "-o", "out.h5ad", "-q"]) == 0
        placed = anndata.read_h5ad("out.h5ad")
        assert (placed.obsm["spatial_dpvae"] > 5e5).all() == far
        assert placed.obs.columns.tolist() == ["age", "dpvae_std"]


def test_fit_the_papers_recipe(files):
    argv = ["fit", "section.h5ad", "-o", "m.dpvae", "-q", "--preset", "paper"]
    assert main([*argv, "--n-top-genes", "8", "--set", "max_epochs=1"]) == 0
    pipeline = load_model("m.dpvae").pipeline
    assert list(pipeline.named_steps) == ["normalize", "genes", "dpvae"]
    assert pipeline["genes"].n_top_genes == 8
    assert pipeline["dpvae"].alignment_weight == 0
    assert main(["predict", "m.dpvae", "section.h5ad", "-o", "positions.csv"]) == 0


def test_fit_several_files_with_progress(files, capsys):
    for name in ("section_1", "section_2"):
        part = files.adata[files.adata.obs["section"] == name].copy()
        del part.obs["section"]
        part.write_h5ad(f"{name}.h5ad")
    argv = ["fit", "section_1.h5ad", "section_2.h5ad", "-o", "m.dpvae", "--query", "new_section"]
    assert main([*argv, *FAST[1:]]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"fitted in \d+ s; wrote m.dpvae\n", out)
    assert err.startswith("fitting 60 cells x 12 genes, 2 section(s)\n")
    assert "epoch" in err
    scaler = load_model("m.dpvae").pipeline.named_steps["scale"]
    assert scaler.query == "new_section"
    assert scaler.sections_.tolist() == ["section_1", "section_2"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--set", "epochs=3"], "--set epochs: no such parameter; there are activation, "),
        (["--set", "genes__top=3"], "--set genes__top: no such parameter"),
        (["--set", "epochs"], "'epochs' is not of the form NAME=VALUE"),
        (["--set", "max_epochs=-3"], "The 'max_epochs' parameter"),
        (["--set", "likelihood=cauchy"], "The 'likelihood' parameter"),
        (["--n-top-genes", "0"], "n_top_genes"),
        (["--preset", "paper", "--query", "new_section"], "--preset paper does not z-score"),
        (["--seed", "x"], "invalid int value: 'x'"),
        (["--section-key", "slide"], "section_key='slide'; .obs has 'section', 'age'"),
        (["--spatial-key", "xy"], "spatial_key='xy'; .obsm has 'spatial'"),
        (["-o", "."], "is a folder; name a file"),
    ],
)
def test_fit_errors(files, capsys, argv, message):
    assert message in failure(
        capsys, "fit", "section.h5ad", "-o", "fitted.dpvae", "--quiet", *argv
    )
    assert names() == ["model.joblib", "section.h5ad"]


def test_fit_needs_positions(files, capsys):
    del files.adata.obsm["spatial"]
    files.adata.write_h5ad("query.h5ad")
    message = failure(capsys, "fit", "query.h5ad", "-o", "fitted.dpvae")
    assert message.startswith("query.h5ad: no positions in obsm['spatial']")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(files, capsys):
    Path("locked").mkdir(mode=0o500)
    message = failure(capsys, "fit", "section.h5ad", "-o", "locked/model.dpvae")
    assert "cannot write to the folder locked" in message


@pytest.mark.skipif("SKLEARN_DPVAE_DATA" not in os.environ, reason="needs real sections")
def test_real_section_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    section = Path(os.environ["SKLEARN_DPVAE_DATA"]) / "mouse_cortex_seqfishplus.h5ad"
    assert main(["fit", str(section), "-o", "m.dpvae", "-q", "--set", "max_epochs=5"]) == 0
    assert main(["predict", "m.dpvae", str(section), "-o", "o.h5ad", "-q"]) == 0
    assert main(["evaluate", "m.dpvae", str(section), "-q"]) == 0
    placed = anndata.read_h5ad("o.h5ad")
    assert np.isfinite(placed.obsm["spatial_dpvae"]).all()
    assert float(capsys.readouterr().out.splitlines()[-2].split()[2]) < 0.9


# Options that several commands share


def test_quiet_says_nothing_and_json_is_read(files, capsys):
    argv = ["predict", "model.joblib", "section.h5ad", "-o", "out.csv"]
    assert main([*argv, "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*argv, "-q", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"output": "out.csv", "n_cells": 60, "n_genes_missing": 0}
    assert main(["evaluate", "model.joblib", "section.h5ad", "--json", "-q"]) == 0
    rows = json.loads(capsys.readouterr().out)
    expected = procrustes_disparity(
        files.tissue.coords, files.tissue.X[:, :2].toarray(), sections=files.tissue.sections
    )
    assert set(rows) == {"section_1", "section_2", "all"}
    assert rows["all"]["disparity"] == pytest.approx(expected)


def test_a_score_that_is_missing_says_why(files, capsys):
    files.adata[:6].copy().write_h5ad("few.h5ad")
    assert main(["evaluate", "model.joblib", "few.h5ad", "-q"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^all +6 .* -$", out, re.MULTILINE)
    assert re.search(r"^- for all: .*k=10", out, re.MULTILINE)
    assert main(["evaluate", "model.joblib", "few.h5ad", "-q", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["all"]
    assert row["neighborhood_hits_10"] is None
    assert "k=10" in row["notes"][0]


def test_positions_go_to_stdout(files, capsys):
    assert main(["predict", "model.joblib", "section.h5ad", "-o", "out.csv", "-q"]) == 0
    assert main(["predict", "model.joblib", "section.h5ad", "-o", "-", "-q"]) == 0
    out = capsys.readouterr().out
    assert out == Path("out.csv").read_text().replace("\r\n", "\n")


def test_a_reader_that_has_enough_is_no_error(files):
    reading, writing = os.pipe()
    os.close(reading)
    argv = ["predict", "model.joblib", "section.h5ad", "-o", "-", "-q"]
    program = f"import sys, test_cli; sys.exit(test_cli.main({argv}))"
    paths = [str(Path(__file__).parent), *sys.path]
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_anchors_of_a_key_and_of_a_table(files, capsys):
    assert main(["fit", "section.h5ad", "-o", "m.dpvae", *FAST]) == 0
    known = np.full((60, 2), np.nan)
    rows = [0, 9, 20, 28, 31, 40, 50, 59]
    known[rows] = files.tissue.coords[rows] + 7
    files.adata.obsm["known"] = known
    files.adata.write_h5ad("section.h5ad")
    lines = [f"{files.adata.obs_names[i]},{known[i, 0]},{known[i, 1]}" for i in rows]
    Path("known.csv").write_text("\n".join(["barcode,x,y", *lines]))
    for given in ("known", "known.csv"):
        argv = ["predict", "m.dpvae", "section.h5ad", "-q", "-o", f"{given}.h5ad"]
        assert main([*argv, "--anchors", given]) == 0
        placed = anndata.read_h5ad(f"{given}.h5ad")
        np.testing.assert_allclose(placed.obsm["spatial_dpvae"][rows], known[rows])
        assert set(placed.obsm) == {"spatial", "known", "spatial_dpvae", "X_dpvae"}
    capsys.readouterr()
    argv = ["predict", "m.dpvae", "section.h5ad", "-q", "-o", "o.csv", "--anchors"]
    assert "neither a key of .obsm (known, spatial) nor a file" in failure(capsys, *argv, "no")
    Path("known.csv").write_text("\n".join(["barcode,x,y", *lines, "cell_x,1,2"]))
    assert "1 barcodes are not in the query (cell_x)" in failure(capsys, *argv, "known.csv")
    Path("known.csv").write_text("barcode,x,y\na,here,there\n")
    assert "not a table of barcode, x, y" in failure(capsys, *argv, "known.csv")
    Path("known.csv").write_text("barcode,x,y\na,1\n")
    assert "lines of unequal length" in failure(capsys, *argv, "known.csv")
    for empty in ("", "barcode,x,y\n"):
        Path("known.csv").write_text(empty)
        assert "no line below the header" in failure(capsys, *argv, "known.csv")
    name = files.adata.obs_names[9]
    Path("known.csv").write_text("\n".join(["barcode,x,y", *lines, f"{name},9999,9999"]))
    assert f"two places for {name}" in failure(capsys, *argv, "known.csv")
    # The same line twice, cells that are not known, and the table that 'predict' writes.
    Path("known.csv").write_text(
        "\n".join(["barcode,x,y", *lines, lines[0], f"{files.adata.obs_names[1]},,"])
    )
    assert main([*argv, "known.csv"]) == 0
    with open("o.csv") as file:
        assert file.readline() == "barcode,x,y,std\n"
    assert main([*argv[:-2], "again.csv", "--anchors", "o.csv"]) == 0
    # Columns go by their names.
    swapped = [f"{files.adata.obs_names[i]},{known[i, 1]},{known[i, 0]},left" for i in rows]
    Path("known.csv").write_text("\n".join(["barcode,Y,x,side", *swapped]))
    assert main([*argv[:-2], "swapped.h5ad", "--anchors", "known.csv"]) == 0
    placed = anndata.read_h5ad("swapped.h5ad").obsm["spatial_dpvae"]
    np.testing.assert_allclose(placed[rows], known[rows])
    np.testing.assert_allclose(
        np.genfromtxt("again.csv", delimiter=",", skip_header=1)[:, 1:3],
        np.genfromtxt("o.csv", delimiter=",", skip_header=1)[:, 1:3],
    )


def test_remedies_are_those_of_the_command(files, capsys):
    assert main(["fit", "section.h5ad", "-o", "m.dpvae", "-q", *FAST]) == 0
    known = np.full((60, 2), np.nan)
    known[:2] = files.tissue.coords[:2]
    files.adata.obsm["known"] = known
    files.adata.write_h5ad("section.h5ad")
    capsys.readouterr()
    argv = ["predict", "m.dpvae", "section.h5ad", "-q", "-o", "o.csv", "--anchors", "known"]
    message = failure(capsys, *argv)
    assert message.startswith("section.h5ad: 2 anchor(s)")
    assert message.endswith("at least 3 are needed. Give more anchors.")
    _say("warning", "no trust: sklearn_dpvae.anndata.check says more.")
    said = capsys.readouterr().err
    assert said == "sklearn-dpvae: warning: no trust: sklearn-dpvae check MODEL QUERY says more.\n"


def test_what_is_read_is_not_overwritten(files, capsys):
    Path("known.csv").write_text("barcode,x,y\n")
    before = {name: Path(name).read_bytes() for name in names()}
    os.symlink("section.h5ad", "link.dpvae")
    message = failure(capsys, "fit", "section.h5ad", "-o", "section.h5ad", *FAST)
    assert "has the name of a data file; name a model, such as section.dpvae" in message
    for argv in (
        ["fit", "section.h5ad", "-o", "link.dpvae", *FAST],
        ["tune", "section.h5ad", "-o", "link.dpvae", *FAST],
        ["fit", "section.h5ad", "--for-query", "section.h5ad", "-o", "link.dpvae", *FAST],
        ["map", "model.joblib", "section.h5ad", "-o", "section.h5ad"],
        ["predict", "model.joblib", "section.h5ad", "--anchors", "known.csv", "-o", "known.csv"],
    ):
        assert "would overwrite what is read" in failure(capsys, *argv)
    assert {name: Path(name).read_bytes() for name in before} == before


def test_device(files, capsys):
    assert main(["fit", "section.h5ad", "-o", "m.dpvae", "--device", "cpu", *FAST]) == 0
    assert load_model("m.dpvae").pipeline["dpvae"].device == "auto"
    capsys.readouterr()
    message = failure(capsys, "fit", "section.h5ad", "-o", "n.dpvae", "--device", "abacus", *FAST)
    assert message.startswith("device='abacus' cannot be used here")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("command", ["fit", "tune", "report"])
def test_logarithms_are_noticed_and_the_layer_of_counts_named(files, capsys, command):
    log_normalize(files.adata).write_h5ad("section.h5ad")
    output = "page.html" if command == "report" else "m.dpvae"
    more = ["--grid", "dropout=0.1"] if command == "tune" else []
    argv = [command, "section.h5ad", "-o", output, *more, *FAST]
    assert main(argv) == 0
    # One warning, which says how to get the counts.
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "log-normalized" in line] == [
        "sklearn-dpvae: warning: .X of section is log-normalized already, but SpatialPipeline "
        "takes counts: they are in --layer counts."
    ]


@pytest.mark.filterwarnings("default")
def test_evaluate_takes_the_layer_that_predict_takes(files, capsys):
    assert main(["fit", "section.h5ad", "-o", "m.dpvae", *FAST]) == 0
    assert main(["evaluate", "m.dpvae", "section.h5ad", "-q", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    log_normalize(files.adata).write_h5ad("section.h5ad")
    assert main(["evaluate", "m.dpvae", "section.h5ad", "-q", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "layer='counts' is taken" in err
    assert json.loads(out) == expected


def test_counts_of_a_layer_are_looked_for(files):
    files.adata.layers["counts"] = files.adata.X.copy()
    files.adata.X = files.adata.X.multiply(0.3).tocsr()
    files.adata.write_h5ad("section.h5ad")
    with pytest.warns(UserWarning, match="layer='counts' is taken"):
        fit = import_module("sklearn_dpvae.cli._commands").fit
        fit(
            _parser().parse_args(
                ["fit", "section.h5ad", "-o", "m.dpvae", "--layer", "auto", *FAST]
            )
        )
    assert load_model("m.dpvae").layer == "counts"


def test_results_of_another_model_are_replaced(files):
    files.adata.obsm["X_dpvae"] = np.zeros((60, 3))
    files.adata.uns["dpvae"] = {"old": 1}
    files.adata.write_h5ad("section.h5ad")
    assert main(["predict", "model.joblib", "section.h5ad", "-o", "out.h5ad", "-q"]) == 0
    placed = anndata.read_h5ad("out.h5ad")
    assert "X_dpvae" not in placed.obsm
    assert "old" not in placed.uns["dpvae"]


# tune


def test_tune_tries_all_and_fits_the_best(files, capsys):
    argv = ["tune", "section.h5ad", "-o", "best.dpvae", *FAST, "--n-top-genes", "12"]
    grid = ["--grid", "genes__n_top_genes=6,9", "--grid", "hidden_layer_sizes=(4,),(5,4)"]
    assert main([*argv, *grid, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)
    assert told["left_out"] == "whole sections"
    tried = [row["params"] for row in told["candidates"]]
    assert len(tried) == 4
    assert [len(row["by_fold"]) for row in told["candidates"]] == [2] * 4
    errors = [row["disparity"] for row in told["candidates"]]
    assert errors == sorted(errors)
    pipeline = sklearn_dpvae.load("best.dpvae").pipeline
    assert pipeline["genes"].n_top_genes == tried[0]["genes__n_top_genes"]
    assert list(pipeline["dpvae"].hidden_layer_sizes) == tried[0]["dpvae__hidden_layer_sizes"]
    assert pipeline.n_calibration_folds == 4

    # The error of a fold is that of a fit without it.
    rest = files.tissue.sections == "section_1"
    left_out = ~rest
    by_hand = make_spatial_pipeline(
        n_top_genes=tried[0]["genes__n_top_genes"],
        max_epochs=1,
        hidden_layer_sizes=tuple(tried[0]["dpvae__hidden_layer_sizes"]),
        random_state=0,
        n_calibration_folds=None,
    ).fit(files.tissue.X[rest], files.tissue.coords[rest])
    error = procrustes_disparity(
        files.tissue.coords[left_out], by_hand.predict(files.tissue.X[left_out])
    )
    assert any(abs(error - found) < 1e-6 for found in told["candidates"][0]["by_fold"])


def test_tune_draws_and_says_what_it_does(files, capsys):
    argv = ["tune", "section.h5ad", "-o", "best.dpvae", "--grid", "dropout=0.1,0.2,0.3"]
    more = ["--n-iter", "1", "--folds", "blocks", "--n-folds", "2", *FAST[1:]]
    assert main([*argv, *more]) == 0
    out, err = capsys.readouterr()
    assert "trying 1 combinations on 60 cells x 12 genes, 2 section(s), leaving out blocks" in err
    assert "[2/2] dropout=0." in err
    assert out.startswith("disparity (0 best, 1 worst) of blocks of tissue")
    assert out.endswith("wrote best.dpvae\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--grid", "epochs=1,2"], "--grid epochs: no such parameter; there are activation"),
        (["--grid", "dropout"], "not of the form NAME=VALUE"),
        (["--n-iter", "0"], "--n-iter 0: at least 1"),
        (["--folds", "blocks", "--n-folds", "1"], "--n-folds 1: at least 2"),
        (["--folds", "sections", "--section-key", "one"], "only one section; use blocks"),
    ],
)
def test_tune_errors(files, capsys, argv, message):
    files.adata.obs["one"] = "a"
    files.adata.write_h5ad("section.h5ad")
    assert message in failure(capsys, "tune", "section.h5ad", "-o", "m.dpvae", "-q", *argv)
    assert names() == ["model.joblib", "section.h5ad"]


# report


@pytest.mark.filterwarnings("always")
def test_report_is_one_page_with_all_in_it(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    tissue = make_tissue(120, 30, random_state=0)
    adata = anndata.AnnData(
        tissue.X,
        obs=pandas.DataFrame(index=tissue.obs_names),
        var=pandas.DataFrame(
            {"feature_types": ["Gene Expression"] * 28 + ["Antibody Capture"] * 2},
            index=[*tissue.genes[:-1], "<CD3>"],
        ),
        obsm={"spatial": tissue.coords},
    )
    adata.write_h5ad("brain.h5ad")
    argv = ["report", "brain.h5ad", "-o", "brain.html", "--unit", "µm", "--n-folds", "2"]
    assert main([*argv, "--json", "--n-top-genes", "10", *FAST[1:]]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["left_out"] == "blocks of tissue"
    assert "2 of 30 features that are not genes" in err
    page = Path("brain.html").read_text(encoding="utf-8")
    assert names() == ["brain.h5ad", "brain.html"]
    for name, row in told["errors"].items():
        assert f"<td>{name}</td>" in page.replace(' class="n"', "")
        assert f"{row['disparity']:.4g}" in page
        assert 0 < row["disparity"] < 1
    assert "2 Antibody Capture" in page
    assert "10 of 28 genes are selected" in page
    assert "median radius (µm)" in page
    pictures = re.findall(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == page.count("<img ") == 1
    assert "its 120 cells" in pictures[0][0]
    assert base64.b64decode(pictures[0][1]).startswith(b"\x89PNG")
    # Nothing is fetched.
    assert not re.search(r"(src|href)=.https?:", page)


def test_report_errors(files, capsys):
    assert "use .html or .htm" in failure(capsys, "report", "section.h5ad", "-o", "a.pdf")


# demo


@pytest.fixture
def demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return ["demo", "--n-cells", "100", *FAST]


def test_demo_scores_and_draws(demo, capsys):
    pytest.importorskip("matplotlib")
    assert main(demo) == 0
    out, err = capsys.readouterr()
    assert err == ""
    header, ours, baseline, *_, seconds, wrote = out.splitlines()
    assert "disparity" in header
    assert ours.split()[:2] == ["DPVAE", "20"]
    assert baseline.startswith("kNN(15) on 30 PCs")
    assert re.fullmatch(r"fitted and predicted in \d+ s", seconds)
    assert wrote == "wrote dpvae_demo.png"
    assert names() == ["dpvae_demo.png"]
    assert Path("dpvae_demo.png").read_bytes().startswith(b"\x89PNG")


def test_demo_says_what_it_does(demo, capsys):
    assert main([part for part in demo if part != "--quiet"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("a synthetic tissue: 80 cells with positions to learn from, 20 to place")


def test_demo_without_matplotlib(demo, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(demo) == 0
    assert 'for a picture: pip install "sklearn-dpvae[plot]"' in capsys.readouterr().out
    assert names() == []
    message = failure(capsys, *demo, "-o", "tissue.png")
    assert "drawing the demo needs matplotlib" in message


def test_demo_errors_come_before_the_work(demo, capsys, monkeypatch):
    monkeypatch.setattr(_demo, "make_tissue", None)
    assert "--n-cells 99: the demo needs at least 100" in failure(capsys, *demo, "--n-cells", 99)
    assert "there is no folder no" in failure(capsys, *demo, "-o", "no/tissue.png")
    assert "use .png" in failure(capsys, *demo, "-o", "tissue.txt")


# The program


def test_no_command_and_unknown_command(capsys):
    assert "required: COMMAND (see sklearn-dpvae --help)" in failure(capsys)
    assert "invalid choice: 'draw'" in failure(capsys, "draw")


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["fit", "--help"]])
def test_help_and_version(argv, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 0
    assert "sklearn-dpvae" in capsys.readouterr().out


def test_interrupt(monkeypatch, capsys):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(_demo, "demo", interrupt)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "sklearn-dpvae: error: interrupted\n"


def test_bugs_show_their_traceback(monkeypatch):
    def fail(arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(_demo, "demo", fail)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


@pytest.mark.parametrize("argv", ["--help", "--version"])
def test_help_does_not_wait_for_torch(argv):
    told = in_another_process(argv, python=["-X", "importtime"]).stderr
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "sklearn_dpvae.cli._main" in imported
    assert not imported & {"torch", "numpy", "sklearn", "scipy"}


def test_help_says_that_pickles_run_code(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    assert "A pickle runs code" in " ".join(capsys.readouterr().out.split())


def test_module_is_the_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sklearn-dpvae", "fit"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("sklearn_dpvae", run_name="__main__")
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("sklearn-dpvae: error: the following arguments are")
