"""Benchmarks start, measure what they say, and their committed results are those of the README."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmark_sections import write_sections
from scipy.spatial.distance import cdist

pytest.importorskip("benchmarks", reason="benchmarks are not part of an installed package")

from benchmarks import (
    ablation,
    device,
    imputation,
    mapping,
    missing_genes,
    model_family,
    paper_weight,
    picture,
    places,
    query_scaling,
    regression,
    uncertainty,
)
from benchmarks._common import machine
from benchmarks._common.folder import Folder
from benchmarks._common.store import Store, fingerprint, read
from benchmarks._common.tables import table_of, table_over_seeds
from benchmarks._common.tasks import parse_task
from benchmarks.accuracy import __main__ as accuracy
from benchmarks.accuracy.report import markdown
from benchmarks.performance import __main__ as performance
from benchmarks.reconstruction import __main__ as reconstruction
from benchmarks.reconstruction import anchors
from sklearn_dpvae import DPVAESpatialRegressor

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text):
    """Tables of Markdown: for each, its rows by column."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        head, _, *rows = block.splitlines()
        found.append([dict(zip(cells(head), cells(row), strict=True)) for row in rows])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_sections(tmp_path_factory.mktemp("sections"))


@pytest.mark.parametrize(
    "module",
    [
        ablation,
        accuracy,
        device,
        imputation,
        mapping,
        missing_genes,
        model_family,
        paper_weight,
        performance,
        picture,
        places,
        query_scaling,
        reconstruction,
        regression,
        uncertainty,
    ],
)
def test_every_benchmark_says_how_it_is_called(module, capsys):
    with pytest.raises(SystemExit) as stopped:
        module.main(["--help"])
    assert stopped.value.code == 0
    name = module.__name__.removesuffix(".__main__")
    assert f"usage: python -m {name} " in capsys.readouterr().out
    assert f"python -m {name}" in README


@pytest.mark.parametrize(
    ("name", "as_markdown", "n_tables"),
    [
        ("accuracy", markdown, 3),
        ("queries", markdown, 3),
        ("harder", markdown, 2),
        ("model_family", model_family.table_of_means, None),
        ("paper_weight", paper_weight.report, None),
        ("performance", performance.in_markdown, None),
        ("device", performance.in_markdown, None),
    ],
)
def test_tables_of_the_readme_are_made_of_the_committed_results(name, as_markdown, n_tables):
    shown = [row for table in tables(README) for row in table]
    for table in tables(as_markdown(read(RESULTS / f"{name}.json")))[:n_tables]:
        for row in table:
            # The README leaves out some columns.
            first = list(row.items())[:2]
            assert any(
                other.items() <= row.items() and dict(first).items() <= other.items()
                for other in shown
            ), row


def test_the_ablation_of_the_readme_is_made_of_the_committed_results():
    [found] = tables(ablation.ratios(read(RESULTS / "ablation.json")))
    [shown] = [t for t in tables(README) if "wins" in t[0]]
    assert [(r["changed"], r[""]) for r in found] == [(r["changed"], r[""]) for r in shown]
    for ours, readmes in zip(found, shown, strict=True):
        for column in ("ratio", "within a section", "next section"):
            # The results in the file have four digits.
            assert float(ours[column]) == pytest.approx(float(readmes[column]), abs=2e-3)
    assert {f"{r['changed']}: {r['']}" for r in found} <= set(
        ablation.variants_of(ablation.GROUPS)
    )


def test_the_ablation_of_queries_in_the_readme_is_made_of_the_committed_results():
    records = read(RESULTS / "ablation_queries.json")
    [found] = tables(ablation.of_queries(records))
    [shown] = [t for t in tables(README) if ablation.QUERIES[0] in t[0] and "changed" in t[0]]
    assert found == shown
    assert {record["task"] for record in records} == set(ablation.QUERIES)
    assert {f"{r['changed']}: {r['']}" for r in found} <= set(
        ablation.variants_of(ablation.GROUPS)
    )


def test_a_store_resumes_and_knows_what_is_outdated(tmp_path):
    path = tmp_path / "new" / "results.json"
    configs = {"a": "1", "b": "1"}

    def opened():
        return Store(path, key=("task", "seed"), config=lambda record: configs[record["task"]])

    wanted = [{"task": task, "seed": seed} for task in "ab" for seed in (0, 1)]
    store = opened()
    assert store.missing(wanted) == wanted
    for key in wanted[:3]:
        store.add(key | {"score": 1 / 3, "parts": [{"x": 2 / 3}]})
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]
    assert read(path)[0] == wanted[0] | {
        "score": 0.333333,
        "parts": [{"x": 0.666667}],
        "config": "1",
    }
    assert opened().missing(wanted) == wanted[3:]

    configs["a"] = "2"
    assert opened().missing(wanted) == [*wanted[:2], wanted[3]]
    assert [record["task"] for record in opened()] == ["b"]
    store = opened()
    assert store.missing(wanted[2:], redo=True) == wanted[2:]
    assert list(store) == []
    # Without a path nothing is written.
    memory = Store(None, key=("task",), config=lambda _: "1")
    memory.add({"task": "a"})
    assert len(list(memory)) == 1

    with pytest.raises(ValueError, match="of another benchmark"):
        Store(path, key=("variant",), config=configs.get)
    path.write_text("[]")
    with pytest.raises(ValueError, match="holds no results"):
        opened()


def test_a_file_survives_a_run_that_is_cut_off(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    store = Store(path, key=("seed",), config=lambda _: "1")
    store.add({"seed": 0})
    before = path.read_text()
    monkeypatch.setattr(os, "replace", lambda *_: pytest.fail("cut off"))
    with pytest.raises(pytest.fail.Exception):
        store.add({"seed": 1})
    assert path.read_text() == before


def test_a_fingerprint_is_of_the_class_and_of_all_parameters():
    model = DPVAESpatialRegressor()
    assert fingerprint(model) == fingerprint(DPVAESpatialRegressor())
    assert fingerprint(model) != fingerprint(DPVAESpatialRegressor(max_epochs=7))
    assert fingerprint(model, 1) != fingerprint(model, 2)
    other = type("Other", (DPVAESpatialRegressor,), {})()
    assert fingerprint(model) != fingerprint(other)


def test_tables_of_records():
    spread = {"median": 1.0, "low": 0.5, "high": 2.0}
    rows = [
        {"case": "a", "n": 12345, "s": 0.12345, "ratio": spread},
        {"case": "b", "n": 1, "s": 1234.5, "more": 0.123456},
    ]
    [found] = tables(table_of(rows, formats={"more": ".5f"}))
    assert found == [
        {"case": "a", "n": "12,345", "s": "0.123", "ratio": "1.00 (0.50 to 2.00)", "more": ""},
        {"case": "b", "n": "1", "s": "1,234", "ratio": "", "more": "0.12346"},
    ]
    records = [{"task": "t", "measured": {"x": value}} for value in (1.0, 3.0)]
    assert tables(table_over_seeds(records, "task", digits=1)) == [
        [{"task": "t", "x": "2.0 ± 1.0"}]
    ]


def test_a_limit_on_threads_ends(monkeypatch):
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    with machine.threads(before + 1):
        assert torch.get_num_threads() == before + 1
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == str(before + 1)
    assert torch.get_num_threads() == before
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_ablation_changes_one_default_at_a_time(folder, tmp_path, monkeypatch, capsys):
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
    [rows] = tables(again.out)
    row = next(row for row in rows if row[""] == "not clipped")
    ratios = [
        r["disparity"] / d["disparity"]
        for r in results
        for d in results
        if (r["variant"], d["variant"]) == (names[1], names[0]) and r["task"] == d["task"]
    ]
    assert row["ratio"] == f"{np.sqrt(np.prod(ratios)):.3f}"
    assert [row["within a section"], row["next section"]] == [f"{r:.3f}" for r in ratios]


def test_ablation_of_queries_goes_by_the_error_in_the_frame(folder, tmp_path, monkeypatch, capsys):
    made = ablation.make_spatial_pipeline
    monkeypatch.setattr(
        ablation, "make_spatial_pipeline", lambda **params: made(**params | {"max_epochs": 2})
    )
    tasks = ["single random", "single random with 50% query counts"]
    options = [str(folder), "-o", str(tmp_path / "queries.json"), "--queries", "--seeds", "1"]
    results = ablation.main([*options, "--tasks", *tasks, "--groups", "query"])
    [rows] = tables(capsys.readouterr().out)
    assert [row[""] for row in rows] == list(ablation.GROUPS["query"])
    errors = {(r["variant"], r["task"]): r["frame_error"] for r in results}
    for row in rows:
        ratios = [errors[f"query: {row['']}", t] / errors["defaults", t] for t in tasks]
        assert [row[t] for t in tasks] == [f"{ratio:.3f}" for ratio in ratios]
        assert row["ratio"] == f"{np.sqrt(np.prod(ratios)):.3f}"


def test_ablation_names_parameters_that_exist():
    for variants in ablation.GROUPS.values():
        for params in variants.values():
            ablation.make_spatial_pipeline().set_params(**params)
    # A section of 800 cells has five batches an epoch, of four fifths of its cells.
    assert ablation.Steps(400).epochs(800) == 80


def test_device_benchmark_says_what_a_step_does(tmp_path, capsys):
    options = ["epoch", "--device", "cpu", "--cells", "300", "--repeats", "1"]
    rows = device.main([*options, "--out", str(tmp_path)])["epoch"]["rows"]
    [record] = read(tmp_path / "device.json")
    assert record["rows"] == rows
    assert record["machine"]["device"] == "cpu"
    assert "| bound |" in capsys.readouterr().out
    assert [row["precision"] for row in rows] == ["float32", "bfloat16"] * 3
    for row in rows:
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


def test_device_benchmark_starts_as_a_script(tmp_path):
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "device.py", "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage: python -m benchmarks.device" in done.stdout


def quick(module, monkeypatch, **params):
    made = module.make_spatial_pipeline
    monkeypatch.setattr(module, "make_spatial_pipeline", lambda **k: made(**k | params))


@pytest.mark.filterwarnings("ignore:.*of the model's 60 genes")
def test_missing_genes_benchmark(folder, tmp_path, monkeypatch, capsys):
    quick(missing_genes, monkeypatch, n_estimators=1, max_epochs=20)
    output = tmp_path / "missing.json"
    options = [str(folder), "-o", str(output), "--seeds", "1", "--tasks", "single random"]
    missing_genes.main(options)
    [record] = read(output)
    found = list(record["measured"].values())
    assert len(found) == 1 + 2 * len(missing_genes.SHARES)
    assert found[0] < found[-1] < 1
    [[row]] = tables(capsys.readouterr().out)
    assert row["80 % missing: told"] == f"{found[-1]:.3f} ± 0.000"
    monkeypatch.setattr(missing_genes, "measure", None)
    missing_genes.main(options)


def test_query_scaling_benchmark(folder, tmp_path, monkeypatch, capsys):
    quick(query_scaling, monkeypatch, n_estimators=1, max_epochs=20)
    output = tmp_path / "scaling.json"
    task = "pair:section_1 > section_2"
    options = [str(folder), "-o", str(output), "--seeds", "1", "--tasks", task]
    query_scaling.main(options)
    [record] = read(output)
    found = record["measured"]
    assert 0 <= found["moved"] <= 1
    text = capsys.readouterr().out
    [row] = [row for part in tables(text) for row in part if row.get("disparity") == task]
    better = min(found[choice]["disparity"] for choice in ("same_section", "new_section"))
    loss = float(row['"auto" / better one'])
    assert loss == pytest.approx(found["auto"]["disparity"] / better, abs=0.01)
    # What is asked of a pipeline that was fitted with "auto" is what another fit would say.
    split = next(Folder(folder).splits(parse_task(task), 0))
    make = query_scaling.make_spatial_pipeline
    model = make(random_state=0).fit(split.X, split.coords)
    for choice in ("same_section", "new_section"):
        other = make(query=choice, random_state=0).fit(split.X, split.coords)
        expected = other.predict(split.query_X)
        found = query_scaling.asked(model, choice).predict(split.query_X)
        np.testing.assert_array_equal(found, expected)
    assert model.named_steps["scale"].query == "auto"


def test_paper_weight_benchmark(folder, tmp_path, monkeypatch, capsys):
    made = paper_weight.make_paper_pipeline
    monkeypatch.setattr(
        paper_weight, "make_paper_pipeline", lambda **params: made(**params | {"max_epochs": 40})
    )
    monkeypatch.setattr(paper_weight, "WEIGHTS", (0.0, 1000.0))
    options = ["--seeds", "1", "--tasks", "single random"]
    paper_weight.main([str(folder), "-o", str(tmp_path / "r.json"), *options])
    [section, held_out, fitted] = tables(capsys.readouterr().out)[0]
    assert section["1000"] == held_out["1000"]
    assert float(fitted["1000"]) < float(held_out["1000"]) < float(held_out["0"])


def test_uncertainty_benchmark(folder, monkeypatch, capsys):
    quick(uncertainty, monkeypatch, n_estimators=2, max_epochs=20)
    monkeypatch.setattr(uncertainty, "PRESETS", ())
    uncertainty.main([str(folder), "--seeds", "1"])
    rows, kinds = tables(capsys.readouterr().out)
    next_section = "pair:section_1 > section_2"
    sections = ["pair:section_1", "pair:section_2", "single:single"]
    randoms = [f"{name} random" for name in sections]
    assert [row["task"] for row in rows] == [*randoms[:2], next_section, randoms[2]]
    for row in rows:
        shares = {name: float(cell.split()[0]) for name, cell in row.items() if "%" in name}
        for kind in ("radius", "region", "calibrated"):
            of_levels = [shares[f"{kind} {level} %"] for level in (50, 80, 95)]
            assert 0 <= of_levels[0] <= of_levels[1] <= of_levels[2] <= 1
        assert shares["calibrated 95 %"] > 0.7
    assert [(row["kind"], row["tasks"]) for row in kinds] == [
        ("random", "3"),
        ("next section", "1"),
    ]
    found = [float(row["radius 80 %"].split()[0]) for row in rows if row["task"] in randoms]
    mean, low, high = re.findall(r"[0-9.]+", kinds[0]["radius 80 %"])
    assert float(mean) == pytest.approx(np.mean(found), abs=0.011)
    assert (float(low), float(high)) == (min(found), max(found))


def test_places_benchmark(folder, tmp_path, monkeypatch, capsys):
    quick(places, monkeypatch, n_estimators=2, max_epochs=20)
    output = tmp_path / "places.json"
    options = [str(folder), "-o", str(output), "--tasks", "single random"]
    places.main([*options, "pair:section_1 > section_2"])
    [within, _] = [record["measured"] for record in read(output)]
    assert within["predict_places"]["log score"] > within["normal"]["log score"] > 0
    assert within["predict_places"]["area"] < 1
    [rows] = tables(capsys.readouterr().out)
    assert [row["method"] for row in rows] == 2 * ["predict_places", "normal", "neighbors"]
    assert rows[0]["95 %"] == f"{within['predict_places']['95 %']:.2f} ± 0.00"


def test_places_benchmark_where_some_cells_are_known(folder, tmp_path, monkeypatch, capsys):
    quick(places, monkeypatch, n_estimators=2, max_epochs=20)
    output = tmp_path / "places.json"
    task = "pair:section_1 > section_2"
    places.main([str(folder), "-o", str(output), "--tasks", task, "--known", "5", "50"])
    few, many = (record["measured"]["predict_places"] for record in read(output))
    assert many["log score"] > few["log score"]
    [rows] = tables(capsys.readouterr().out)
    assert [row["method"] for row in rows] == 2 * ["predict_places", "normal", "without"]
    assert [row["known"] for row in rows] == 3 * ["5 %"] + 3 * ["50 %"]


def test_picture(folder, tmp_path, monkeypatch):
    quick(picture, monkeypatch, n_estimators=2, max_epochs=20)
    output = tmp_path / "maps.png"
    picture.main([str(folder), "-o", str(output), "--task", "single random"])
    assert output.read_bytes().startswith(b"\x89PNG")


def test_imputation_benchmark(folder, tmp_path, monkeypatch, capsys):
    quick(imputation, monkeypatch, n_estimators=2, max_epochs=20)
    output = tmp_path / "imputation.json"
    options = [str(folder), "-o", str(output), "--tasks", "pair:section_1 > section_2"]
    methods = ["anchors", "equations", "pose", "partial_fit", "alone", "knn"]
    imputation.main([*options, "--percents", "2", "20", "--methods", *methods])
    few, many = (record for record in read(output) if record["layout"] == "random")
    assert (few["n_anchors"], many["n_anchors"]) == (3, 30)
    # With three anchors there is nothing to learn from but the pose.
    assert few["measured"]["anchors"] == few["measured"]["equations"]
    assert "partial_fit" not in few["measured"]
    assert set(many["measured"]) == set(methods)
    assert many["measured"]["anchors"]["error"] < 1
    assert many["measured"]["pose"]["near/far"] == 1
    errors, gains = tables(capsys.readouterr().out)
    assert [row["known"] for row in errors] == [
        f"{percent} %, {layout}" for layout in ("random", "spread") for percent in (2, 20)
    ]
    assert errors[0]["alone"] == ""
    assert gains[1]["pose"] == "1.000 ± 0.000"


def test_layouts_of_anchors():
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 10, (400, 2))

    def nearest(known):
        return cdist(coords, coords[known]).min(axis=1).max()

    by_layout = {
        layout: imputation.choose_anchors(coords, 25, layout, np.random.default_rng(1))
        for layout in ("random", "spread", "half", "grid")
    }
    assert len(by_layout["random"]) == len(by_layout["spread"]) == 25
    assert 20 < len(by_layout["grid"]) < 40
    assert len(by_layout["half"]) == 200
    assert max(nearest(by_layout["spread"]), nearest(by_layout["grid"])) < nearest(
        by_layout["random"]
    )
    with pytest.raises(ValueError, match="no layout 'corner'"):
        imputation.choose_anchors(coords, 25, "corner", rng)


def test_mapping_benchmark(folder, tmp_path, monkeypatch, capsys):
    quick(mapping, monkeypatch, n_estimators=1, max_epochs=10)
    monkeypatch.setattr(mapping, "LABELS", {"pair:section_1 > section_2": "kind"})
    monkeypatch.setattr(mapping, "COMPOSITION", {"single spots": "kind"})
    output = tmp_path / "mapping.json"
    mapping.main([str(folder), "-o", str(output), "--genes", "pair:section_1 > section_2"])
    genes, labels, composition = (record["measured"] for record in read(output))
    assert genes["by expression"]["Pearson"] > 0.1
    assert labels["by expression"]["accuracy"] > 0.5
    assert labels["by expression"]["log loss"] < labels["by place"]["log loss"]
    assert 0 < composition["by expression"]["divergence"] < 0.5
    shown = tables(capsys.readouterr().out)
    assert [rows[0]["method"] for rows in shown] == 3 * ["by expression"]


def test_costs_of_a_mapping_are_measured_in_processes_of_their_own(capsys):
    mapping.main(["--cost", "300", "100"])
    *measured, dense = capsys.readouterr().out.splitlines()
    free, full = map(json.loads, measured)
    assert dense.endswith("single precision: 0 MB")
    assert [free["method"], full["method"]] == ["map_cells", "map_cells with a capacity"]
    most = "most cells in a location"
    assert full[most] <= 3 < free[most]
    assert free["peak MB"] > free["of which mapping"] >= 0


def test_reconstruction_benchmark_of_speed_and_scale(tmp_path, monkeypatch, capsys):
    output = tmp_path / "reconstruction.json"
    options = ["--sizes", "120", "--seeds", "1", "-o", str(output)]
    [row] = reconstruction.main(["speed", *options])
    assert row["latents, float64: ratio"] == pytest.approx(
        row["scikit-learn, s"] / row["latents, float64: s"], rel=1e-4
    )
    assert row["from classical MDS: steps"] < row["latents, float64: steps"]
    [row] = reconstruction.main(["scale", *options, "--anchors", "30"])
    assert row["error"] < 0.05
    assert row["stress over the exact one's"] == pytest.approx(1, abs=0.01)
    assert [record["table"] for record in read(output)] == ["speed", "scale"]
    capsys.readouterr()


@pytest.mark.parametrize(("amount", "count"), [("0", 0), ("3", 3), ("1%", 3), ("20%", 40)])
def test_amounts_of_anchors(amount, count):
    assert anchors.count_of(amount, 200) == count


def test_ten_anchors_of_each_kind():
    coords = np.random.default_rng(0).uniform(size=(300, 2))
    kinds = anchors.ten_of_each_kind(coords, np.random.default_rng(0))
    assert all(len(set(indices)) == 10 for indices in kinds.values())
    spans = {kind: np.ptp(coords[indices], axis=0).prod() for kind, indices in kinds.items()}
    assert spans["heap"] < 0.1 < spans["random"] < spans["spread"]


def test_performance_benchmark_measures_the_parts_asked_for(tmp_path, monkeypatch, capsys):
    calls = []

    def part(options):
        calls.append(options.repeats)
        yield {"case": "a", "s": 0.5}

    monkeypatch.setattr(performance, "PARTS", {"kernels": part, "search": part})
    output = ["-o", str(tmp_path / "performance.json"), "--repeats", "2"]
    found = performance.main(["search", *output])
    assert list(found) == ["search"]
    assert found["search"]["machine"]["threads"] == 1
    performance.main(output)
    assert calls == [2, 2]
    performance.main(["search", *output, "--redo"])
    assert calls == [2, 2, 2]
    assert "### search" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        performance.main(["nonsense"])
    assert "choose from kernels, search" in capsys.readouterr().err


def test_regression_fails_beyond_a_bound(monkeypatch, capsys):
    monkeypatch.setattr(regression, "ratios", lambda: iter([("a", 1.2, 1.25), ("b", 0.5, 0.8)]))
    assert regression.main([]) == 0
    monkeypatch.setattr(regression, "ratios", lambda: iter([("a", 1.3, 1.25), ("b", 0.5, 0.8)]))
    assert regression.main([]) == 1
    assert "SLOW a: 1.30 (bound 1.25)" in capsys.readouterr().out
