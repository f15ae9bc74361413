"""The accuracy benchmark runs on any folder of sections, resumes, and says what it ran."""

import json
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.utils import Bunch

from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae.datasets import make_tissue

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def accuracy():
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks are not part of an installed package")
    path = list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    import accuracy

    yield accuracy
    sys.path[:] = path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One file of two sections, and one of a single section without labels."""
    anndata = pytest.importorskip("anndata")
    path = tmp_path_factory.mktemp("sections")
    tissue = make_tissue(450, 60, n_sections=3, random_state=0)
    for name, labels in {"pair": ("section_1", "section_2"), "single": ("section_3",)}.items():
        rows = np.isin(tissue.sections, labels)
        adata = anndata.AnnData(tissue.X[rows], obsm={"spatial": tissue.coords[rows]})
        adata.var_names = tissue.genes
        if len(labels) > 1:
            adata.obs["section"] = tissue.sections[rows]
        adata.write_h5ad(path / f"{name}.h5ad")
    return path


@pytest.fixture
def fast(accuracy, monkeypatch):
    """Our pipeline with two epochs: what is tested is the benchmark, not the method."""
    from _accuracy import methods

    made = methods.make_spatial_pipeline
    monkeypatch.setattr(
        methods,
        "make_spatial_pipeline",
        lambda **params: made(**params | {"max_epochs": 2}),
    )
    return accuracy


def run(accuracy, folder, output, *options):
    return accuracy.main([str(folder), "-o", str(output), "--seeds", "2", *options])


def test_runs_resumes_and_reports(fast, folder, tmp_path, capsys):
    output, summary_file = tmp_path / "out" / "results.json", tmp_path / "summary.json"
    tasks = ["single random", "pair:section_1 > section_2"]
    options = ["--tasks", *tasks, "--methods", "dpvae", "knn15_pc30", "mean", "pls4+ours"]
    summary = run(fast, folder, output, *options, "--summary", str(summary_file))

    assert list(summary) == tasks
    random, transfer = (summary[task] for task in tasks)
    assert list(random) == ["dpvae", "mean", "knn15_pc30", "pls4+ours"]
    assert all(cell["coverage"][0] == 1.0 for cell in random.values())
    assert random["mean"]["disparity"] == [1.0, 0.0, 2]
    assert random["knn15_pc30"]["disparity"][0] < 0.6
    # Without randomness in split and method one seed tells all.
    assert transfer["knn15_pc30"]["disparity"][2] == 1
    assert transfer["dpvae"]["disparity"][2] == 2
    compared = json.loads(summary_file.read_text())["compared"]["all"]
    row = compared["tasks"]["single random"]
    assert row["ratio"] == pytest.approx(row["disparity"][0] / row["best_disparity"][0], abs=1e-4)
    assert compared["overall"]["n_tasks"] == 2
    first = capsys.readouterr()
    assert "| single random |" in first.out
    assert first.err.count("disparity") == 4 * 2 + 1 * 2 + 3 * 1

    before = output.read_text()
    again = run(fast, folder, output, *options)
    captured = capsys.readouterr()
    assert "disparity" not in captured.err
    assert captured.out == first.out
    assert output.read_text() == before
    assert again.keys() == summary.keys()

    run(fast, folder, output, *options, "--redo", "pls4+ours")
    captured = capsys.readouterr()
    assert captured.err.count("disparity") == 2 + 1
    assert captured.out == first.out


def test_tasks_of_folds_and_of_several_sections(accuracy, folder, tmp_path):
    tasks = ["single block", "pair contiguous", "pair+single loso", "pair > single"]
    output = tmp_path / "results.json"
    summary = run(accuracy, folder, output, "--tasks", *tasks, "--methods", "svr1_pc30")
    folds = {
        (r["task"], r["seed"]): r["fold_disparities"]
        for r in json.loads(output.read_text())["runs"]
    }
    assert {key: len(of_task) for key, of_task in folds.items()} == {
        ("single block", 0): 5,
        ("single block", 1): 5,
        ("pair contiguous", 0): 5,
        ("pair contiguous", 1): 5,
        ("pair+single loso", 0): 3,
        ("pair > single", 0): 1,
    }
    assert folds["pair+single loso", 0][2] == folds["pair > single", 0][0]
    assert "pooled_disparity" in summary["single block"]["svr1_pc30"]
    assert "pooled_disparity" not in summary["pair+single loso"]["svr1_pc30"]


def test_parallel_run_gives_the_same(accuracy, folder, tmp_path):
    options = ["--tasks", "single random", "pair random", "--methods", "pls4", "ridge"]
    one = run(accuracy, folder, tmp_path / "one.json", *options)
    # Threads, because processes would take seconds to import torch.
    with joblib.parallel_config("threading"), np.printoptions(precision=2):
        two = run(accuracy, folder, tmp_path / "two.json", *options, "--n-jobs", "2")
    for task in one:
        for method in one[task]:
            for score in ("disparity", "spearman", "hits10", "hits20", "median_error"):
                assert one[task][method][score] == two[task][method][score]


def test_splits_are_those_of_the_definition(accuracy, folder):
    from _accuracy.tasks import Folder, parse_task

    sections = Folder(folder)
    split = next(sections.splits(parse_task("pair:section_2 random"), 3))
    expected = np.random.RandomState(3).permutation(150)
    np.testing.assert_array_equal(split.query_rows, expected[:30])
    assert not split.new_section
    assert set(split.sections) == {"pair:section_2"}

    tasks = [task.label for task in sections.default_tasks()]
    assert tasks == [
        "pair:section_1 random",
        "pair:section_1 block",
        "pair:section_2 random",
        "pair:section_2 block",
        "pair:section_1 > section_2",
        "single:single random",
        "single:single block",
    ]
    assert next(sections.splits(parse_task(tasks[-2], files=sections.files), 0)).X.shape[1] == 60


def test_tasks_are_made_harder_as_their_names_say(accuracy, folder):
    from _accuracy.tasks import Folder, parse_task

    sections = Folder(folder)

    def split(text, seed=0):
        return next(sections.splits(parse_task(text), seed))

    whole = split("single random")
    panel = split("single random with 12 genes")
    counts = whole.X.toarray()
    assert panel.X.shape == (120, 12)
    columns = {column.tobytes() for column in counts.T}
    assert all(column.tobytes() in columns for column in panel.X.toarray().T)
    np.testing.assert_array_equal(panel.coords, whole.coords)

    shallow = split("single random with 10% counts")
    assert shallow.X.shape == whole.X.shape
    assert (shallow.X.toarray() <= counts).all()
    assert shallow.X.sum() / whole.X.sum() == pytest.approx(0.1, rel=0.05)
    assert shallow.query_X.sum() / whole.query_X.sum() == pytest.approx(0.1, rel=0.1)

    few = split("pair:section_1 > section_2 with 40 cells")
    assert few.X.shape[0] == len(few.coords) == 40
    assert len(few.query_coords) == 150
    # The draw is another one for each seed, also where the split is not.
    assert parse_task("a > b with 40 cells").split_depends_on_seed
    other = split("pair:section_1 > section_2 with 40 cells", seed=1)
    assert not np.array_equal(few.coords, other.coords)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("single random with a smile", "with N genes"),
        ("single sideways", "must end in one of random"),
        ("other random", r"no other\.h5ad; it has pair, single"),
        ("pair:section_9 random", "no section 'section_9'"),
        ("pair >", "nothing to place"),
    ],
)
def test_wrong_tasks_are_refused(accuracy, folder, tmp_path, task, message):
    with pytest.raises(ValueError, match=message):
        run(accuracy, folder, tmp_path / "r.json", "--tasks", task, "--methods", "mean")


def test_wrong_methods_and_empty_folders_are_refused(accuracy, folder, tmp_path):
    with pytest.raises(ValueError, match="no method magic; there are dpvae"):
        run(accuracy, folder, tmp_path / "r.json", "--methods", "magic")
    with pytest.raises(FileNotFoundError, match=r"no \.h5ad file"):
        run(accuracy, tmp_path, tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


def test_cells_that_are_not_placed_count_against_coverage(accuracy):
    from _accuracy.scores import score

    true = np.random.RandomState(0).rand(50, 2)
    placed = true.copy()
    placed[:5] = np.nan
    result = score(true, placed, np.full(50, "a"), np.ones(50))
    assert result["coverage"] == 0.9
    assert 0 < result["disparity"] < 0.3
    assert score(true, true, np.full(50, "a"), np.ones(50))["hits20"] == 1.0


def test_presets_name_each_task_once(accuracy):
    from _accuracy.tasks import preset

    ten = preset("ten")
    assert len({task.label for task in ten}) == len(ten) == 10
    assert {t.kind for t in ten} == {"random", "block", "transfer"}
    assert all(bool(t.dropped_genes) == t.label.startswith("hippo") for t in ten)
    harder = preset("harder")
    assert len({task.label for task in harder}) == len(harder) == 18
    assert [(t.n_genes, t.percent, t.n_cells) for t in harder[::6]] == [
        (120, None, None),
        (None, 10, None),
        (None, None, 300),
    ]


def test_ablation_changes_one_default_at_a_time(accuracy, folder, tmp_path, monkeypatch, capsys):
    import ablation

    made = ablation.make_spatial_pipeline
    monkeypatch.setattr(
        ablation, "make_spatial_pipeline", lambda **params: made(**params | {"max_epochs": 2})
    )
    output = tmp_path / "ablation.json"
    options = ["--tasks", "single random", "pair:section_1 > section_2", "--seeds", "1"]
    options = [str(folder), "-o", str(output), *options, "--groups", "z-scores"]
    results = ablation.main(options)
    names = ["defaults", *(f"z-scores: {label}" for label in ablation.GROUPS["z-scores"])]
    assert [r["variant"] for r in results] == 2 * names
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == len(results)

    assert ablation.main(options) == results
    again = capsys.readouterr()
    assert again.err == ""
    assert again.out == shown.out
    table = {row.split("|")[2].strip(): row.split("|")[3:] for row in again.out.splitlines()[2:-1]}
    ratios = [
        r["disparity"] / d["disparity"]
        for r in results
        for d in results
        if (r["variant"], d["variant"]) == (names[1], names[0]) and r["task"] == d["task"]
    ]
    assert table["not clipped"][0].strip() == f"{np.sqrt(np.prod(ratios)):.3f}"
    assert [c.strip() for c in table["not clipped"][1:3]] == [f"{r:.3f}" for r in ratios]


def test_ways_of_training_do_what_they_are_called(accuracy):
    from _accuracy.training import AveragedWeights, Mixup

    rng = np.random.default_rng(0)
    X, coords = rng.normal(size=(60, 4)).astype(np.float32), rng.uniform(size=(60, 2))

    def fitted(*callbacks):
        model = DPVAESpatialRegressor(
            n_estimators=2, max_epochs=3, batch_size=16, random_state=0, callbacks=list(callbacks)
        )
        return model.fit(X, coords).predict(X)

    plain = fitted()
    np.testing.assert_array_equal(fitted(AveragedWeights(0.0)), plain)
    assert not np.allclose(fitted(AveragedWeights(0.9)), plain)

    x, s = torch.arange(12.0).view(2, 3, 2), torch.arange(6.0).view(2, 3, 1)
    given, compared = {"x": x}, {"s": s, "target": x}
    Mixup(0.5).on_batch_begin(None, batch=(given, compared))
    assert given["x"] is compared["target"]
    share = (given["x"] - x) / (x.roll(1, dims=1) - x)
    assert ((share >= 0) & (share <= 0.5)).all()
    torch.testing.assert_close(share[..., :1], (compared["s"] - s) / (s.roll(1, dims=1) - s))
    # The tensors that the batch was cut from stay as they were.
    torch.testing.assert_close(x, torch.arange(12.0).view(2, 3, 2))


def test_ablation_names_parameters_that_exist(accuracy):
    import ablation

    for variants in ablation.GROUPS.values():
        for params in variants.values():
            ablation.make_spatial_pipeline().set_params(**params)
    # A section of 800 cells has five batches an epoch, of four fifths of its cells.
    assert ablation.Steps(400).epochs(800) == 80


@pytest.mark.slow
def test_device_benchmark_says_what_a_step_does(accuracy, tmp_path, capsys):
    import device

    options = ["epoch", "--device", "cpu", "--cells", "300", "--repeats", "1"]
    results = device.main([*options, "--out", str(tmp_path)])
    assert json.loads((tmp_path / "device.json").read_text())["epoch"] == results["epoch"]
    assert "| bound |" in capsys.readouterr().out
    assert [row["precision"] for row in results["epoch"]] == ["float32", "bfloat16"] * 3
    for row in results["epoch"]:
        assert row["bound"] in ("arithmetic", "traffic", "launches")
        # Forward, and gradients of weights and of inputs but the first layer's.
        first, later = 1000 * 128, 128 * 128 + 128 * 4 + 2 * 128 + 128 * 128 + 128 * 1000
        cells = min(row["batch"], 300 // -(-300 // row["batch"]))
        flops = row["nets"] * cells * 2 * (2 * first + 3 * later)
        counted = row["GFLOP/s"] * 1e3 * row["us a step"]
        # And some for the terms on positions.
        assert flops < counted < 1.05 * flops
    with pytest.raises(SystemExit):
        device.main(["nonsense"])
    assert "choose from" in capsys.readouterr().err


def test_missing_genes_benchmark(accuracy, monkeypatch):
    import missing_genes

    tissue = make_tissue(200, 60, random_state=0)
    pipeline = missing_genes.make_spatial_pipeline
    quick = {"n_estimators": 1, "max_epochs": 20}
    monkeypatch.setattr(missing_genes, "make_spatial_pipeline", lambda **k: pipeline(**k, **quick))
    split = Bunch(
        X=tissue.X[:150],
        coords=tissue.coords[:150],
        query_X=tissue.X[150:],
        query_coords=tissue.coords[150:],
    )
    found = missing_genes.measure(split, seed=0)
    assert len(found) == 1 + 2 * len(missing_genes.SHARES)
    assert found[0] < found[-1] < 1
