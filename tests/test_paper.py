"""The experiments of the paper run on any sections, resume, and write what they found."""

import json
import os
import re
from dataclasses import replace

import joblib
import numpy as np
import pytest
from benchmark_sections import write_sections

pytest.importorskip("matplotlib")

from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import morans_i, procrustes_disparity
from sklearn_dpvae.paper import __main__ as paper
from sklearn_dpvae.paper import _fits, _geometry, _models, _sections
from sklearn_dpvae.paper._sections import fetch_sections, read_folder, simulated
from sklearn_dpvae.paper._study import Job, Settings, Study
from sklearn_dpvae.pipeline import SpatialPipeline
from sklearn_dpvae.preprocessing import LogNormalizer

TINY = Settings(
    n_seeds=2,
    weights={"paper": (0.0, 100.0), "package": (0.0, 1.0)},
    epochs={"paper": 3, "package": 2},
    count_epochs={"paper": 2, "package": 1},
    n_permutations=19,
    n_starts=2,
    shares=(0.1,),
)


def failing(*arguments, **labels):
    raise AssertionError("a fit was not read from the cache")


def midpoint(coords, name):
    return {"midpoint": coords.mean(axis=0), "process": os.getpid(), "seconds": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sections(tmp_path_factory.mktemp("sections"))


@pytest.fixture
def study(tmp_path):
    return Study(simulated(2, 50, 20), TINY, tmp_path / "cache", n_jobs=1, verbose=False)


@pytest.mark.slow
def test_all_experiments_are_written_and_resumed(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paper, "QUICK", TINY)
    argv = ["--data", str(folder), "--out", str(tmp_path), "--quick"]
    argv += ["--max-cells", "60", "--n-jobs", "1"]
    assert paper.main(argv) == 0
    said = capsys.readouterr()
    assert "report.html" in said.out
    assert "the paper's recipe" in said.err

    report = json.loads((tmp_path / "report.json").read_text())
    assert report["about"]["sections"] == {
        "pair:section_1": 60,
        "pair:section_2": 60,
        "single": 60,
    }
    assert len(report["experiments"]) == len(paper.EXPERIMENTS)
    for key in ("weights", "losses", "out_of_sample", "transfer", "autocorrelation", "isometry"):
        # Two columns everywhere.
        assert {"paper", "package"} <= report["experiments"][key]["numbers"].keys()
    compared = report["experiments"]["out_of_sample"]["numbers"]["paper"]
    assert all(len(e["VAE"]) == TINY.n_seeds for e in compared["sections"].values())

    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == page.count("<img") > 15
    # It needs no other file.
    assert not re.search(r'(src|href)="(?!data:|#)', page)

    # A second run computes nothing anew.
    monkeypatch.setattr(SpatialPipeline, "fit", failing)
    assert paper.main([*argv, "--quiet"]) == 0
    again = json.loads((tmp_path / "report.json").read_text())
    assert again["experiments"] == report["experiments"]


def test_a_cut_off_run_goes_on(study, monkeypatch):
    job = study.job(study.sections[0], "paper", 0, distance_weight=0.0)
    [first] = study.run([job])
    monkeypatch.setattr(SpatialPipeline, "fit", failing)
    [again] = study.run([job])
    np.testing.assert_array_equal(again["held_out"], first["held_out"])
    other = study.job(study.sections[0], "paper", 0, distance_weight=1.0)
    with pytest.raises(AssertionError, match="not read"):
        study.run([other])


@pytest.mark.slow
def test_results_of_two_processes_are_read_by_one(study, monkeypatch):
    # Of more than a megabyte, which processes are given as a map of a file.
    coords = np.random.RandomState(0).uniform(size=(70_000, 2))
    jobs = [Job(name, midpoint, (coords, name)) for name in ("first", "second")]
    study.n_jobs = 2
    computed = study.run(jobs)
    study.n_jobs = 1
    assert [r["process"] for r in study.run(jobs)] == [r["process"] for r in computed]
    assert os.getpid() not in {r["process"] for r in computed}


@pytest.mark.slow
def test_processes_give_what_one_gives(study, tmp_path):
    jobs = [study.job(s, "paper", 0, distance_weight=10.0) for s in study.sections]
    other = Study(study.sections, TINY, tmp_path / "other", n_jobs=2, verbose=False)
    for one, two in zip(study.run(jobs), other.run(jobs), strict=True):
        np.testing.assert_allclose(one["held_out"], two["held_out"], rtol=1e-4, atol=1e-2)


def test_errors_are_those_of_cells_that_the_fit_has_not_seen(study):
    section = study.sections[1]
    fitted, held_out = section.split(3)
    assert len(held_out) == 10
    assert np.array_equal(np.sort(np.r_[fitted, held_out]), np.arange(50))
    [result] = study.run([study.job(section, "package", 3)])
    model = _fits.make("package", study.params("package", 3))
    model.fit(section.X[fitted], section.coords[fitted])
    expected = procrustes_disparity(section.coords[held_out], model.predict(section.X[held_out]))
    assert _models._disparity(section, 3, result, "held out") == pytest.approx(expected)


def test_a_vae_does_not_look_at_positions(study):
    section = study.sections[0]
    for recipe in ("paper", "package"):
        params = study.models(recipe)["VAE"]
        model = _fits.make(recipe, {**study.params(recipe, 0), **params})
        regressor = model.fit(section.X, section.coords)["dpvae"]
        assert regressor.distance_weight == regressor.alignment_weight == 0
        # Figure 7 draws the distance term all the same.
        assert regressor.history_[-1]["distance"] > 0


def test_sections_that_take_different_numbers_of_epochs_have_one_curve(study, monkeypatch):
    # As "auto" gives them: losses that halve to the end, in 5 and in 9 epochs.
    def run(jobs):
        return [
            {"history": dict.fromkeys(("loss", "reconstruction", "distance"), start * falls)}
            for start, falls in zip(
                (2.0, 10.0), (np.linspace(1, 0.5, n) for n in (5, 9)), strict=True
            )
        ]

    monkeypatch.setattr(study, "run", run)
    finding = _models.losses(study)
    for numbers in (finding.numbers["paper"], finding.numbers["package"]):
        assert numbers["last_share_of_first_loss"] == [0.5, 0.5]
        assert numbers["fall_in_the_last_tenth"] == pytest.approx([0.125, 0.125])
    drawn = finding.figures["losses_package"].axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, np.linspace(1, 0.5, 5))


def test_keys_of_the_cache_do_not_change_with_use(study):
    section = study.sections[0]
    jobs = [study.job(section, "paper", 0), Job("whole", len, (section,))]
    before = [joblib.hash(job.arguments) for job in jobs]
    for X in (section.X, jobs[0].arguments[2]):
        LogNormalizer().fit_transform(X)
        assert X.has_canonical_format
    assert [joblib.hash(job.arguments) for job in jobs] == before
    assert joblib.hash(study.job(section, "paper", 0).arguments) == before[0]


def test_three_anchors_fix_the_plane(study):
    coords = np.random.RandomState(1).uniform(size=(15, 2))
    loose = _geometry.solve_with_anchors(coords, 1, 2)["errors"]
    fixed = _geometry.solve_with_anchors(coords, 3, 2)["errors"]
    assert max(fixed) < 1e-3 < 0.1 < max(loose)


def test_some_experiments_on_a_simulated_tissue(tmp_path):
    argv = ["--out", str(tmp_path), "--quick", "--only", "mantel", "masks", "--max-cells", "40"]
    assert paper.main([*argv, "--n-jobs", "1", "-q"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["experiments"]) == ["mantel", "masks"]
    assert list(report["about"]["sections"]) == ["section_1", "section_2", "section_3"]
    assert report["experiments"]["masks"]["numbers"]["share_of_pairs"]["no mask"] == 1
    with pytest.raises(SystemExit):
        paper.main(["--out", str(tmp_path), "--only", "figure_7"])


def test_a_cut_off_run_leaves_what_it_found(tmp_path, monkeypatch):
    monkeypatch.setitem(paper.EXPERIMENTS, "masks", failing)
    argv = ["--out", str(tmp_path), "--quick", "--max-cells", "40", "--n-jobs", "1", "-q"]
    with pytest.raises(AssertionError):
        paper.main([*argv, "--only", "mantel", "masks"])
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["experiments"]) == ["mantel"]
    assert report["about"]["experiments that are still to be run"] == ["masks"]
    assert "<img" in (tmp_path / "report.html").read_text()


def test_one_section_a_file_cannot_be_transferred(study):
    study.sections = study.sections[:1]
    assert _models.transfer(study) is None


def test_folders(folder, tmp_path):
    sections = read_folder(folder, max_cells=100, min_cells=50)
    assert [s.name for s in sections] == ["pair:section_1", "pair:section_2", "single"]
    assert [len(s.coords) for s in sections] == [100, 100, 100]
    everything = read_folder(folder, max_cells=1000, min_cells=50)
    whole = {tuple(xy) for xy in everything[0].coords}
    assert {tuple(xy) for xy in sections[0].coords} < whole
    with pytest.raises(ValueError, match="no section of 400 or more cells"):
        read_folder(folder, max_cells=1000, min_cells=400)
    with pytest.raises(FileNotFoundError, match=r"holds no \.h5ad file"):
        read_folder(tmp_path, max_cells=100, min_cells=50)


def test_visium_sections_of_a_block_belong_together(monkeypatch):
    def fetch(name):
        tissue = make_tissue(30, 8, random_state=len(name))
        tissue.X[0] = 0
        return tissue

    monkeypatch.setattr(_sections, "fetch_visium", fetch)
    sections = fetch_sections(max_cells=20, min_cells=10)
    assert len(sections) == 27
    assert all(s.X.shape == (20, 8) and s.X.sum(axis=1).min() > 0 for s in sections)
    posterior = [s.name for s in sections if s.file == "V1_Mouse_Brain_Sagittal_Posterior"]
    assert posterior == [
        "V1_Mouse_Brain_Sagittal_Posterior",
        "V1_Mouse_Brain_Sagittal_Posterior_Section_2",
    ]
    assert fetch_sections(max_cells=20, min_cells=30) == []


def test_models_are_fitted_on_some_sections_of_a_file(study):
    first, second, third = study.sections = simulated(3, 20, 10)
    other = replace(third, name="other", file="other")
    study.sections.append(other)
    assert study.fitted_sections() == study.sections
    study.settings = replace(TINY, n_sections=2)
    assert study.by_file() == {"simulated": [first, second], "other": [other]}
    assert study.fitted_sections() == [first, second, other]
    assert study.fitted_sections(1) == [first, other]


def test_moran_of_table_1_is_that_of_the_latents_of_held_out_cells(study):
    study.settings = replace(TINY, n_seeds=1)
    finding = _models.autocorrelation(study)
    section = study.sections[0]
    held_out = section.split(0)[1]
    for name, likelihood in (("dp-VAE", {}), ("scVI, dp-VAE", {"likelihood": "nb"})):
        params = study.params("paper", 0, **study.models("paper")["dp-VAE"], **likelihood)
        model = _fits.make("paper", params)
        model.fit(section.counts(section.split(0)[0]), section.coords[section.split(0)[0]])
        latents = model.transform(section.counts(held_out))
        expected = morans_i(latents, section.coords[held_out]).mean()
        of_name = finding.numbers["paper"]["models"][name]["held out"]
        assert of_name["mean"][0] == pytest.approx(expected, abs=1e-4)
        assert of_name["morans_i"] == [[pytest.approx(expected, abs=1e-4)]]


def test_jobs_are_reported(tmp_path, capsys):
    study = Study(simulated(1, 30, 10), TINY, tmp_path, n_jobs=1)
    study.run([Job("one of one", _geometry.solve_with_anchors, (np.eye(5)[:, :2], 3, 1))])
    assert "1/1 one of one" in capsys.readouterr().err


def test_simulated_sections_are_those_of_the_tissue():
    tissue = make_tissue(100, 20, n_sections=2, random_state=0)
    first, second = simulated(2, 50, 20)
    assert first.X.shape == second.X.shape
    np.testing.assert_array_equal(
        second.coords, tissue.coords[np.asarray(tissue.sections) == second.name]
    )
