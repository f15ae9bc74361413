"""Every likelihood, with and without the terms on positions, in every form of the model.

    python -m benchmarks.model_family DATA -o model_family.json
    python -m benchmarks.model_family DATA -o model_family.json --quick

DATA is a folder as benchmarks.accuracy takes it, and tasks are written as there. The genes
themselves are the input of the net, as in the paper: components that are smooth in space would
hide what the terms do.

Reported are, of the cells that are placed, the Procrustes disparity of their positions (0 is
best), the mean over the latent dimensions of Moran's I and Geary's C on the graph of the five
nearest neighbors (I grows and C falls with spatial order), and the processor seconds of the fit,
of which only the first of a task and seed chooses genes. Differences are paired: same task, seed,
likelihood and form of the model, with terms on positions and without. Each result is written at
once, and a run that was interrupted goes on where it stopped.
"""

import itertools
import tempfile
import time
from pathlib import Path

import numpy as np

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.metrics import gearys_c, morans_i, procrustes_disparity

from ._common.arguments import log, parser
from ._common.folder import Folder
from ._common.machine import threads
from ._common.store import Store, fingerprint, rounded, write
from ._common.tables import mean_and_spread, plus_minus, table
from ._common.tasks import PRESETS, find_tasks

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
_BATCH_SIZE, _N_STEPS, _MIN_EPOCHS = 128, 400, 10
FULL = {"n_top_genes": 500, "n_estimators": 1, "batch_size": _BATCH_SIZE}
# The logarithm of the paper, log(1 + x), and all genes as candidates.
PREPROCESSING = {"normalize__pseudocount": 1.0, "genes__min_cells": 0}
QUICK = {"n_top_genes": 200, "n_estimators": 1, "hidden_layer_sizes": (64,), "max_epochs": 40}
_CELLS_OF_QUICK = 800


def make_model(likelihood, weights, variant, quick, **params):
    """The pipeline that is measured, on the genes themselves."""
    params |= (QUICK if quick else FULL) | WEIGHTS[weights] | VARIANTS[variant]
    model = make_spatial_pipeline(
        n_spatial_components=None, n_calibration_folds=None, likelihood=likelihood, **params
    )
    return model.set_params(**PREPROCESSING)


def run(split, likelihood, weights, variant, *, seed, quick, memory):
    """Fit one model and measure it on the cells that it has not seen."""
    X, coords, sections = split.X, split.coords, split.sections
    if quick and len(coords) > _CELLS_OF_QUICK:
        rows = np.random.default_rng(seed).choice(len(coords), _CELLS_OF_QUICK, replace=False)
        X, coords, sections = X[rows], coords[rows], sections[rows]
    epochs = max(_N_STEPS // -(-len(coords) // _BATCH_SIZE), _MIN_EPOCHS)
    model = make_model(
        likelihood,
        weights,
        variant,
        quick,
        query="new_section" if split.new_section else "same_section",
        memory=memory,
        random_state=seed,
        **{} if quick else {"max_epochs": epochs},
    )
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


def select(records, **key):
    return [r for r in records if key.items() <= r.items()]


def means(results):
    """Mean, standard deviation and number of seeds of each measure, for each task and model."""
    seeds = {}
    for r in results:
        key = r["task"], r["likelihood"], r["variant"], r["weights"]
        seeds.setdefault(key, []).append(r)
    names = ("task", "likelihood", "variant", "weights")
    return [
        dict(zip(names, key, strict=True))
        | {measure: mean_and_spread([r[measure] for r in own]) for measure in MEASURES}
        for key, own in seeds.items()
    ]


def table_of_means(records):
    """Means over tasks of the records of `means`; a cell has the measure at all of `WEIGHTS`."""
    rows = []
    for likelihood, variant in itertools.product(LIKELIHOODS, VARIANTS):
        runs = [
            select(records, likelihood=likelihood, variant=variant, weights=w) for w in WEIGHTS
        ]
        if not all(runs):
            continue
        cells = [
            " → ".join(f"{np.mean([r[measure][0] for r in own]):.{digits}f}" for own in runs)
            for measure, digits in MEASURES.items()
        ]
        rows.append([likelihood, variant, *cells])
    return table(["likelihood", "model", "disparity", "Moran's I", "Geary's C", "seconds"], rows)


def differences(results, weights, **key):
    """For each measure, the differences that the terms of `weights` make to no term."""
    found = {"disparity": [], "moran": [], "geary": []}
    for r in select(results, weights="0", **key):
        pair = {name: r[name] for name in ("task", "seed", "likelihood", "variant")}
        for other in select(results, weights=weights, **pair):
            for measure, values in found.items():
                values.append(other[measure] - r[measure])
    return {measure: np.array(values) for measure, values in found.items()}


def differences_table(results):
    """Paired differences to no term, of all runs and of groups of them."""
    groups = {"all": {}}
    for name in ("task", "likelihood", "variant"):
        groups |= {r[name]: {name: r[name]} for r in results}
    rows = []
    for weights, (label, key) in itertools.product(list(WEIGHTS)[1:], groups.items()):
        found = differences(results, weights, **key)
        cells = []
        for measure, sign in {"disparity": -1, "moran": 1, "geary": -1}.items():
            mean, spread, n = mean_and_spread(found[measure])
            change = plus_minus([mean, spread])
            cells += [change if mean < 0 else f"+{change}"]
            cells += [f"{np.mean(sign * found[measure] > 0):.0%}"]
        rows.append([weights, label, str(n), *cells])
    head = ["terms", "pairs of", "pairs"]
    head += ["disparity", "falls", "Moran's I", "grows", "Geary's C", "falls"]
    return table(head, rows)


@threads(1)
def main(argv=None):
    arguments = parser("model_family", __doc__, seeds=1)
    arguments.add_argument("--tasks", nargs="+", default=list(PRESETS["family"]))
    arguments.add_argument("--quick", action="store_true", help="fewer cells, genes and weights")
    arguments.add_argument("--summary", type=Path, help="JSON of means and spreads")
    args = arguments.parse_args(argv)

    models = list(itertools.product(LIKELIHOODS, WEIGHTS, VARIANTS))
    sizes = (_N_STEPS, _MIN_EPOCHS, _CELLS_OF_QUICK)
    configs = {
        (*model, quick): fingerprint(make_model(*model, quick), sizes)
        for model in models
        for quick in (False, True)
    }
    results = Store(
        args.output,
        key=("task", "seed", "likelihood", "weights", "variant", "quick"),
        config=lambda r: configs.get((r["likelihood"], r["weights"], r["variant"], r["quick"])),
    )
    folder = Folder(args.data)
    for seed, task in itertools.product(range(args.seeds), find_tasks(args.tasks, folder.files)):
        split = next(folder.splits(task, seed))
        several = len(np.unique(split.sections)) > 1
        wanted = [
            {"task": task.label, "seed": seed, "likelihood": likelihood, "weights": weights}
            | {"variant": variant, "quick": args.quick}
            for likelihood, weights, variant in models
            # One batch is no condition.
            if several or variant != "batch"
        ]
        with tempfile.TemporaryDirectory() as memory:
            for key in results.missing(wanted, args.redo):
                model = key["likelihood"], key["weights"], key["variant"]
                measured = run(split, *model, seed=seed, quick=args.quick, memory=memory)
                log(f"{key} {measured}")
                results.add(key | measured)
    found = select(results, quick=args.quick)
    if args.summary:
        write(args.summary, rounded(means(found)))
    print(f"Weights: {' → '.join(WEIGHTS)}\n")
    print(table_of_means(means(found)))
    print(differences_table(found))


if __name__ == "__main__":
    main()
