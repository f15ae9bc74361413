"""Every likelihood, with and without the terms on positions, in every form of the model.

    python benchmarks/model_family.py DATA_DIR -o model_family.json
    python benchmarks/model_family.py DATA_DIR -o model_family.json --quick

DATA_DIR, the environment variable SKLEARN_DPVAE_DATA by default, is a folder as
benchmarks/accuracy.py takes it, and tasks are written as there. The genes themselves are the input
of the net, as in the paper: components that are smooth in space would hide what the terms do.

Reported are, of the cells that are placed, the Procrustes disparity of their positions (0 is
best), the mean over the latent dimensions of Moran's I and Geary's C on the graph of the five
nearest neighbors (I grows and C falls with spatial order), and the processor seconds of the fit,
of which only the first of a task and seed chooses genes. Differences are paired: same task, seed,
likelihood and form of the model, with terms on positions and without. Each result is written as
soon as it is there, and a run that was interrupted goes on where it stopped; the tables (as
Markdown) and, with --summary, means and differences (as JSON) are made of all of them.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from _accuracy.files import write_whole  # noqa: E402
from _accuracy.tasks import Folder, parse_task  # noqa: E402

from sklearn_dpvae import make_spatial_pipeline  # noqa: E402
from sklearn_dpvae.metrics import gearys_c, morans_i, procrustes_disparity  # noqa: E402

_BRAIN_DROPPED = ("Gm42418", "Rn18s-rs5", "mt-Rnr1", "mt-Rnr2")
TASKS = {
    "brain 1+3>2": ("mouse_brain_st2k:Hippo1+Hippo3 > Hippo2", _BRAIN_DROPPED),
    "synovium 1+2 random": ("human_synovium_st:RA4_1+RA4_2 random", ()),
    "seqFISH+ random": ("mouse_cortex_seqfishplus random", ()),
}
LIKELIHOODS = ("gaussian", "poisson", "nb", "zinb")
WEIGHTS = {
    "0": {"distance_weight": 0.0, "alignment_weight": 0.0},
    "distance": {"distance_weight": 1.0, "alignment_weight": 0.0},
    # A third of the weights of the present defaults.
    "default": {"distance_weight": 0.3, "alignment_weight": 1.0},
}
VARIANTS = {
    "plain": {},
    "batch": {},
    "knn mask": {"mask": "knn"},
    "hierarchy": {"n_components": (32, 8, 2)},
}
MEASURES = {"disparity": 3, "moran": 2, "geary": 2, "seconds": 1}  # with their digits
# A single net, since this compares models and not ensembles of them.
FULL = {"n_top_genes": 500, "n_estimators": 1}
# The logarithm of the paper, log(1 + x), and all genes as candidates.
PREPROCESSING = {"normalize__pseudocount": 1.0, "genes__min_cells": 0}
_N_STEPS, _BATCH_SIZE, _MIN_EPOCHS = 400, 128, 10
QUICK = {"n_top_genes": 200, "n_estimators": 1, "hidden_layer_sizes": (64,), "max_epochs": 40}
_CELLS_OF_QUICK = 800


def run(split, likelihood, weights, variant, *, seed, quick, memory):
    """Fit one model and measure it on the cells that it has not seen."""
    X, coords, sections = split.X, split.coords, split.sections
    if quick and len(coords) > _CELLS_OF_QUICK:
        rows = np.random.default_rng(seed).choice(len(coords), _CELLS_OF_QUICK, replace=False)
        X, coords, sections = X[rows], coords[rows], sections[rows]
    epochs = max(_N_STEPS // -(-len(coords) // _BATCH_SIZE), _MIN_EPOCHS)
    size = QUICK if quick else FULL | {"max_epochs": epochs, "batch_size": _BATCH_SIZE}
    model = make_spatial_pipeline(
        query="new_section" if split.new_section else "same_section",
        n_spatial_components=None,
        likelihood=likelihood,
        memory=memory,
        random_state=seed,
        **size | WEIGHTS[weights] | VARIANTS[variant],
    )
    model.set_params(**PREPROCESSING)
    batch = sections if variant == "batch" else None
    start = time.process_time()
    model.fit(X, coords, sections=sections, batch=batch)
    seconds = time.process_time() - start
    query = {"sections": split.query_sections}
    Z = model.transform(split.query_X, **query)
    predicted = model.predict(split.query_X, **query)
    return {
        "disparity": procrustes_disparity(split.query_coords, predicted, **query),
        "moran": float(np.mean(morans_i(Z, split.query_coords, n_neighbors=5, **query))),
        "geary": float(np.mean(gearys_c(Z, split.query_coords, n_neighbors=5, **query))),
        "seconds": seconds,
    }


def mean_and_spread(values):
    """Mean, standard deviation and number of values."""
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return [round(float(np.mean(values)), 4), round(float(spread), 4), len(values)]


def select(results, **key):
    return [r for r in results if key.items() <= r.items()]


def table(results):
    """Means over tasks and seeds, in Markdown; each cell holds the measure at all of `WEIGHTS`."""
    lines = [
        f"Weights: {' → '.join(WEIGHTS)}",
        "",
        "| likelihood | model | disparity | Moran's I | Geary's C | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for likelihood, variant in itertools.product(LIKELIHOODS, VARIANTS):
        runs = [
            select(results, likelihood=likelihood, variant=variant, weights=w) for w in WEIGHTS
        ]
        if not all(runs):
            continue
        cells = [
            " → ".join(f"{np.mean([r[measure] for r in own]):.{digits}f}" for own in runs)
            for measure, digits in MEASURES.items()
        ]
        lines.append(f"| {likelihood} | {variant} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def differences(results, weights, **key):
    """Of each measure, the differences that the terms of `weights` make to none."""
    found = {"disparity": [], "moran": [], "geary": []}
    for r in select(results, weights="0", **key):
        pair = {name: r[name] for name in ("task", "seed", "likelihood", "variant")}
        for other in select(results, weights=weights, **pair):
            for measure, values in found.items():
                values.append(other[measure] - r[measure])
    return {measure: np.array(values) for measure, values in found.items()}


def differences_table(results):
    """Paired differences to no term, of all runs and of groups of them, in Markdown."""
    groups = {"all": {}}
    for name in ("task", "likelihood", "variant"):
        groups |= {r[name]: {name: r[name]} for r in results}
    lines = [
        "| terms | pairs of | pairs | disparity | falls | Moran's I | grows | Geary's C | falls |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for weights, (label, key) in itertools.product(list(WEIGHTS)[1:], groups.items()):
        found = differences(results, weights, **key)
        cells = []
        for measure, sign in {"disparity": -1, "moran": 1, "geary": -1}.items():
            mean, spread, n = mean_and_spread(found[measure])
            cells += [f"{mean:+.3f} ± {spread:.3f}", f"{np.mean(sign * found[measure] > 0):.0%}"]
        lines.append(f"| {weights} | {label} | {n} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def summary(results):
    """Mean, standard deviation and number of seeds of each measure, one line a model."""
    lines = []
    for names in itertools.product(
        dict.fromkeys(r["task"] for r in results), LIKELIHOODS, VARIANTS, WEIGHTS
    ):
        key = dict(zip(("task", "likelihood", "variant", "weights"), names, strict=True))
        if own := select(results, **key):
            measured = {m: mean_and_spread([r[m] for r in own]) for m in MEASURES}
            lines.append(json.dumps(key | measured))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", nargs="?", default=os.environ.get("SKLEARN_DPVAE_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=Path("model_family.json"))
    parser.add_argument("--tasks", nargs="+", help="tasks in place of the three built-in ones")
    parser.add_argument("--quick", action="store_true", help="fewer cells, genes and weights")
    parser.add_argument("--summary", type=Path, help="where means and differences go, as JSON")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    args = parser.parse_args(argv)
    if not args.data_dir:
        parser.error("name a folder of .h5ad files, or set SKLEARN_DPVAE_DATA")
    folder = Folder(args.data_dir)
    tasks = [parse_task(text, label, dropped) for label, (text, dropped) in TASKS.items()]
    if args.tasks:
        tasks = [parse_task(text, files=folder.files) for text in args.tasks]
    done = json.loads(args.output.read_text()) if args.output.exists() else []
    for seed, task in itertools.product(range(args.seeds), tasks):
        split = next(folder.splits(task, seed=seed))
        several = len(np.unique(split.sections)) > 1
        with tempfile.TemporaryDirectory() as memory:
            for likelihood, weights, variant in itertools.product(LIKELIHOODS, WEIGHTS, VARIANTS):
                key = {"task": task.label, "likelihood": likelihood, "weights": weights}
                key |= {"variant": variant, "quick": args.quick, "seed": seed}
                known = any(key.items() <= r.items() for r in done)
                # One batch is no condition.
                if known or (variant == "batch" and not several):
                    continue
                setting = (likelihood, weights, variant)
                measured = run(split, *setting, seed=seed, quick=args.quick, memory=memory)
                print(json.dumps(key | measured), flush=True)
                done.append(key | measured)
                write_whole(args.output, json.dumps(done, indent=1) + "\n")
    results = [r for r in done if r["quick"] == args.quick]
    text = table(results) + "\n" + differences_table(results)
    args.output.with_suffix(".md").write_text(text)
    if args.summary:
        args.summary.write_text(summary(results))
    print(text)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
