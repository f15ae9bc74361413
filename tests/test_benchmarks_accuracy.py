"""The accuracy benchmark runs on any folder of sections, resumes, and says what it ran."""

import joblib
import numpy as np
import pytest
from benchmark_sections import write_sections
from scipy.spatial.distance import pdist
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

pytest.importorskip("benchmarks", reason="benchmarks are not part of an installed package")

from benchmarks._common.folder import Folder
from benchmarks._common.store import read
from benchmarks._common.tasks import parse_task, preset
from benchmarks.accuracy import __main__ as accuracy
from benchmarks.accuracy import methods
from benchmarks.accuracy.prepared import Prepared
from benchmarks.accuracy.report import by_task, compare
from benchmarks.accuracy.scores import score


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sections(tmp_path_factory.mktemp("sections"))


@pytest.fixture
def fast(monkeypatch):
    """Our pipeline with two epochs: what is tested is the benchmark, not the method."""
    made = methods.make_spatial_pipeline
    monkeypatch.setattr(
        methods,
        "make_spatial_pipeline",
        lambda **params: made(**params | {"max_epochs": 2}),
    )


def run(folder, output, *options):
    records = accuracy.main([str(folder), "-o", str(output), "--seeds", "2", *options])
    return by_task(records)


def test_runs_resumes_and_reports(fast, folder, tmp_path, capsys):
    output, summary_file = tmp_path / "out" / "results.json", tmp_path / "summary.json"
    tasks = ["single random", "pair:section_1 > section_2"]
    options = ["--tasks", *tasks, "--methods", "dpvae", "knn15_pc30", "mean", "pls4+ours"]
    summary = run(folder, output, *options, "--summary", str(summary_file))

    assert list(summary) == tasks
    random, transfer = (summary[task] for task in tasks)
    assert list(random) == ["dpvae", "mean", "knn15_pc30", "pls4+ours"]
    assert all(cell["coverage"][0] == 1.0 for cell in random.values())
    assert random["mean"]["disparity"] == [1.0, 0.0, 2]
    assert random["knn15_pc30"]["disparity"][0] < 0.6
    # Without randomness in split and method one seed tells all.
    assert transfer["knn15_pc30"]["disparity"][2] == 1
    assert transfer["dpvae"]["disparity"][2] == 2
    written = by_task(read(summary_file))
    assert written["single random"]["dpvae"]["disparity"] == pytest.approx(
        random["dpvae"]["disparity"], rel=1e-5
    )
    compared = compare(summary, ["mean", "knn15_pc30"])
    row = compared["tasks"]["single random"]
    assert row["best"] == "knn15_pc30"
    expected = random["dpvae"]["disparity"][0] / random["knn15_pc30"]["disparity"][0]
    assert row["ratio"] == pytest.approx(expected)
    assert compared["overall"]["n_tasks"] == 2
    in_frame = compare(summary, ["mean", "knn15_pc30"], by="frame_error")["tasks"]["single random"]
    errors = [random[name]["frame_error"][0] for name in ("dpvae", "knn15_pc30")]
    assert in_frame["ratio"] == pytest.approx(errors[0] / errors[1])
    first = capsys.readouterr()
    assert "| single random |" in first.out
    assert "error in the frame of the reference" in first.out
    assert first.err.count("disparity") == 4 * 2 + 1 * 2 + 3 * 1

    before = output.read_text()
    again = run(folder, output, *options)
    captured = capsys.readouterr()
    assert "disparity" not in captured.err
    assert captured.out == first.out
    assert output.read_text() == before
    assert again.keys() == summary.keys()

    run(folder, output, "--tasks", *tasks, "--methods", "pls4+ours", "--redo")
    captured = capsys.readouterr()
    assert captured.err.count("disparity") == 2 + 1
    assert captured.out == first.out


def test_the_papers_lambda_is_chosen_without_the_query(folder, monkeypatch):
    made = methods.make_paper_pipeline
    monkeypatch.setattr(
        methods, "make_paper_pipeline", lambda **params: made(**params | {"max_epochs": 40})
    )
    [split] = Folder(folder).splits(parse_task("single random"), 0)
    placed = {
        weights: methods.Paper(*weights).run(Prepared(split), 0)[0]
        for weights in ((0.0,), (1000.0,), (0.0, 1000.0))
    }
    np.testing.assert_array_equal(placed[0.0, 1000.0], placed[1000.0,])
    assert not np.array_equal(placed[0.0,], placed[1000.0,])


def test_tasks_of_folds_and_of_several_sections(folder, tmp_path):
    tasks = ["single block", "pair contiguous", "pair+single loso", "pair > single"]
    output = tmp_path / "results.json"
    summary = run(folder, output, "--tasks", *tasks, "--methods", "svr1_pc30")
    folds = {(r["task"], r["seed"]): r["fold_disparities"] for r in read(output)}
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


def test_parallel_run_gives_the_same(folder, tmp_path):
    options = ["--tasks", "single random", "pair random", "--methods", "pls4", "ridge"]
    one = run(folder, tmp_path / "one.json", *options)
    # Threads, because processes would take seconds to import torch.
    with joblib.parallel_config("threading"), np.printoptions(precision=2):
        two = run(folder, tmp_path / "two.json", *options, "--n-jobs", "2")
    for task in one:
        for method in one[task]:
            for name in ("disparity", "spearman", "hits10", "hits20", "median_error"):
                assert one[task][method][name] == two[task][method][name]


def test_splits_are_those_of_the_definition(folder):
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


def test_baselines_z_score_a_whole_section_by_itself_and_a_part_by_the_reference(folder):
    sections = Folder(folder)

    def means(text):
        split = next(sections.splits(parse_task(text), 0))
        return Prepared(split).standard[1].mean(axis=0)

    np.testing.assert_allclose(means("pair:section_1 > section_2"), 0, atol=1e-5)
    assert np.abs(means("pair:section_1 > section_2 with half query")).max() > 0.1


def test_tasks_are_made_harder_as_their_names_say(folder):
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


def test_spots_are_sums_of_half_of_the_cells(folder):
    sections = Folder(folder)

    def split(text):
        return next(sections.splits(parse_task(text), 0))

    whole = sections.load([("single", None)])
    spots = split("single spots")
    assert len(spots.query_coords) == 75
    hidden = whole.X[spots.query_rows].sum()
    assert spots.X.sum() + hidden == whole.X.sum()
    assert 75 / 8 < len(spots.coords) < 75 / 2
    # All cells of a spot lie within its square.
    shown = np.setdiff1d(np.arange(150), spots.query_rows)
    nearest = np.linalg.norm(whole.coords[shown, None] - spots.coords, axis=2).min(axis=1)
    assert nearest.max() < np.sqrt(2) * pdist(spots.coords).min()

    shallow = split("single spots with 20% query counts")
    assert shallow.X.sum() == spots.X.sum()
    assert shallow.query_X.sum() / hidden == pytest.approx(0.2, rel=0.1)

    kind = split("single spots with most frequent kind query")
    kinds = sections.labels(whole, "kind")
    assert len(np.unique(kinds[kind.query_rows])) == 1
    assert set(kind.query_rows) < set(spots.query_rows)


def test_parts_of_a_query_lie_on_one_side(folder):
    sections = Folder(folder)
    whole = next(sections.splits(parse_task("pair:section_1 > section_2"), 0))
    for part, size in {"half": 75, "quarter": 37}.items():
        split = next(
            sections.splits(parse_task(f"pair:section_1 > section_2 with {part} query"), 0)
        )
        assert abs(len(split.query_coords) - size) <= 1
        assert set(split.query_rows) < set(whole.query_rows)
        np.testing.assert_array_equal(split.coords, whole.coords)
        # A line parts the cells that are placed from the others.
        inside = np.isin(whole.query_rows, split.query_rows)
        if part == "half":
            told = LinearDiscriminantAnalysis().fit(whole.query_coords, inside)
            assert told.score(whole.query_coords, inside) > 0.95


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
def test_wrong_tasks_are_refused(folder, tmp_path, task, message):
    with pytest.raises(ValueError, match=message):
        run(folder, tmp_path / "r.json", "--tasks", task, "--methods", "mean")


def test_wrong_methods_and_empty_folders_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="no method magic; there are dpvae"):
        run(folder, tmp_path / "r.json", "--methods", "magic")
    with pytest.raises(FileNotFoundError, match=r"no \.h5ad file"):
        run(tmp_path, tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


def test_cells_that_are_not_placed_count_against_coverage():
    true = np.random.RandomState(0).rand(50, 2)
    placed = true.copy()
    placed[:5] = np.nan
    result = score(true, placed, np.full(50, "a"), np.ones(50))
    assert result["coverage"] == 0.9
    assert 0 < result["disparity"] < 0.3
    assert score(true, true, np.full(50, "a"), np.ones(50))["hits20"] == 1.0


def test_presets_name_each_task_once():
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
