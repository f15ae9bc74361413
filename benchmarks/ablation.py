"""What does each default buy? One default changed at a time.

    python -m benchmarks.ablation DATA -o ablation.json
    python -m benchmarks.ablation DATA -o ablation.json --groups loss ensemble --seeds 3
    python -m benchmarks.ablation DATA -o queries.json --queries

DATA is a folder as benchmarks.accuracy takes it, and tasks are written as there. A row of the
table is a variant of `make_spatial_pipeline()`; its number is the disparity over that of the
defaults on the same task and seed, as a geometric mean over tasks and seeds: above 1 the default
is better. Tasks that place a fifth of a section and tasks that place another section are also
shown apart, since what wins on both is what a default should be. The standard error is over
pairs of task and seed; `wins` counts those where the variant has the lower disparity.

With `--queries`, one task is taken of each kind of query that users have, single cells, spots,
shallow cells, few genes, a part of the tissue, and the number is the error in the frame of the
reference. The columns are the tasks.

All are positions of the networks, which spares the calibration, but for the row that has it.

Each result is written at once, and a run that was interrupted goes on where it stopped. After a
change of the defaults everything is computed anew.
"""

import tempfile
import time
from dataclasses import dataclass

import numpy as np

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.feature_selection import HighlyVariableGenes
from sklearn_dpvae.metrics import procrustes_disparity

from ._common.arguments import log, parser
from ._common.folder import Folder
from ._common.machine import threads
from ._common.store import Store, fingerprint
from ._common.tables import table
from ._common.tasks import find_tasks
from .accuracy.scores import frame_error

DEFAULTS = "defaults"
TASKS = (
    "hippo1 random",
    "seqFISH+ random",
    "hippo3>4",
    "synovium 1>2",
    "embryo random",
    "DBiT random",
)
QUERIES = (
    "embryo cells random",
    "seqFISH+ spots with 50% query counts",
    "hippo1 random with 20% query counts",
    "embryo cells random with 80 genes",
    "heart 5>6 with half query",
)


@dataclass(frozen=True)
class Steps:
    """About this many steps of the optimizer, whatever the number of cells."""

    n_steps: int

    def epochs(self, n_cells):
        return max(self.n_steps // max(int(0.8 * n_cells / 128), 1), 1)


# Parameters of the pipeline, by the names `set_params` takes.
GROUPS = {
    "genes": {
        "500 genes": {"genes__n_top_genes": 500},
        "1,000 genes": {"genes__n_top_genes": 1000},
        "4,000 genes": {"genes__n_top_genes": 4000},
        "highly variable genes": {"genes": HighlyVariableGenes(2000)},
        "also genes of less than 1 % of the cells": {"genes__min_cells": 0},
    },
    "logarithm": {
        "pseudocount 1": {"normalize__pseudocount": 1.0},
        "pseudocount 2": {"normalize__pseudocount": 2.0},
        "pseudocount 10": {"normalize__pseudocount": 10.0},
        "at 10,000 counts a cell, pseudocount 1": {
            "normalize__target_sum": 1e4,
            "normalize__pseudocount": 1.0,
        },
    },
    "z-scores": {
        "not clipped": {"scale__clip": None},
        "clipped at 2": {"scale__clip": 2.0},
        "clipped at 5": {"scale__clip": 5.0},
    },
    "components": {
        "the genes themselves": {"components": "passthrough"},
        "10": {"components__n_components": 10},
        "30": {"components__n_components": 30},
        "50": {"components__n_components": 50},
        "not smoothed": {"components__smoothing": 0.0},
        "smoothed by 0.8": {"components__smoothing": 0.8},
        "8 neighbors": {"components__n_neighbors": 8},
        "genes not weighted": {"components__autocorrelation_power": 0.0},
        "genes weighted by I^0.5": {"components__autocorrelation_power": 0.5},
        "components not weighted": {"components__component_power": 0.0},
        "components weighted by I^2": {"components__component_power": 2.0},
        "rows of any length": {"components__unit_rows": False},
    },
    "query": {
        "as of the same section": {"scale__query": "same_section"},
        "as of another section": {"scale__query": "new_section"},
        "not thinned": {"n_thinned": 0},
        "thinned 2 times": {"n_thinned": 2},
        "thinned 10 times": {"n_thinned": 10},
        "medians of places": {"n_calibration_folds": 4},
    },
    "loss": {
        "no distance term": {"dpvae__distance_weight": 0.0},
        "distance_weight 0.3": {"dpvae__distance_weight": 0.3},
        "distance_weight 3": {"dpvae__distance_weight": 3.0},
        "no alignment term": {"dpvae__alignment_weight": 0.0},
        "no alignment term, distance_weight 3": {
            "dpvae__alignment_weight": 0.0,
            "dpvae__distance_weight": 3.0,
        },
        "alignment_weight 1": {"dpvae__alignment_weight": 1.0},
        "neither distance nor alignment": {
            "dpvae__distance_weight": 0.0,
            "dpvae__alignment_weight": 0.0,
        },
        "no ELBO": {"dpvae__elbo_weight": 0.0},
        "ELBO of a third": {"dpvae__distance_weight": 3.0, "dpvae__alignment_weight": 9.0},
        "ELBO of three times": {"dpvae__distance_weight": 0.3, "dpvae__alignment_weight": 1.0},
        "KL divergence ten times smaller": {"dpvae__kl_weight": 0.1},
        "squared distances": {"dpvae__distance_loss": "squared"},
        "pairs of the kNN mask": {"dpvae__mask": "knn"},
    },
    "ensemble": {
        "1 net, all cells": {"dpvae__n_estimators": 1, "dpvae__max_samples": 1.0},
        "4 nets": {"dpvae__n_estimators": 4},
        "16 nets": {"dpvae__n_estimators": 16},
        "all cells": {"dpvae__max_samples": 1.0},
        "60 % of the cells": {"dpvae__max_samples": 0.6},
    },
    "net": {
        "one hidden layer": {"dpvae__hidden_layer_sizes": (128,)},
        "three hidden layers": {"dpvae__hidden_layer_sizes": (128, 128, 128)},
        "layers of 64": {"dpvae__hidden_layer_sizes": (64, 64)},
        "layers of 256": {"dpvae__hidden_layer_sizes": (256, 256)},
        "ReLU": {"dpvae__activation": "relu"},
        "no layer norm": {"dpvae__layer_norm": False},
        "no dropout": {"dpvae__dropout": 0.0},
        "dropout 0.5": {"dpvae__dropout": 0.5},
        "no noise on the inputs": {"dpvae__input_noise": 0.0},
        "noise of 0.04 on the inputs": {"dpvae__input_noise": 0.04},
        "noise of 0.16 on the inputs": {"dpvae__input_noise": 0.16},
        "input dropout 0.1, no noise": {"dpvae__input_dropout": 0.1, "dpvae__input_noise": 0.0},
        "no weight decay": {"dpvae__weight_decay": 0.0},
        "weight decay 0.1": {"dpvae__weight_decay": 0.1},
    },
    "training": {
        "about 200 steps": {"dpvae__max_epochs": Steps(200)},
        "about 400 steps": {"dpvae__max_epochs": Steps(400)},
        "about 1,000 steps": {"dpvae__max_epochs": Steps(1000)},
        "lr 0.002": {"dpvae__lr": 2e-3},
        "lr 0.01": {"dpvae__lr": 1e-2},
        "constant lr 0.001": {"dpvae__lr": 1e-3, "dpvae__lr_schedule": "constant"},
        "batches of 64": {"dpvae__batch_size": 64},
        "batches of 256": {"dpvae__batch_size": 256},
        "stopped early": {"dpvae__early_stopping": True},
    },
    "precision": {"bfloat16": {"dpvae__precision": "bfloat16"}},
}


def variants_of(groups):
    """Parameters by the name of the variant, `DEFAULTS` first."""
    named = {f"{group}: {label}": p for group in groups for label, p in GROUPS[group].items()}
    return {DEFAULTS: {}} | named


def run(split, params, *, seed, memory):
    """Scores of a variant on one split, and the processor seconds of its fit."""
    model = make_spatial_pipeline(
        random_state=seed, device="cpu", memory=memory, n_calibration_folds=None
    )
    n_cells = len(split.coords)
    params = {k: v.epochs(n_cells) if isinstance(v, Steps) else v for k, v in params.items()}
    model.set_params(**params)
    start = time.process_time()
    model.fit(split.X, split.coords, sections=split.sections)
    seconds = time.process_time() - start
    # A section that the reference does not have has no frame there.
    sections = None if split.new_section else split.query_sections
    placed = model.predict(split.query_X, sections=sections)
    disparity = procrustes_disparity(split.query_coords, placed, sections=split.query_sections)
    error = frame_error(split.places, placed, split.coords)
    scores = {"disparity": float(disparity), "seconds": seconds}
    return scores if error is None else scores | {"frame_error": error}


def logs_of_ratios(records, score):
    """Of each variant, for each task and seed, to the defaults on the same."""
    defaults = {(r["task"], r["seed"]): r[score] for r in records if r["variant"] == DEFAULTS}
    logs = {}
    for r in records:
        pair = r["task"], r["seed"]
        if r["variant"] != DEFAULTS and pair in defaults:
            logs.setdefault(r["variant"], {})[pair] = np.log(r[score] / defaults[pair])
    return logs


def of_queries(records):
    """The table of kinds of queries: a row for each variant, a column for each task.

    Tasks are left out whose query has no places in the frame of the reference.
    """
    records = [r for r in records if "frame_error" in r]
    logs = logs_of_ratios(records, "frame_error")
    tasks = list(dict.fromkeys(r["task"] for r in records))
    rows = []
    for variant, found in logs.items():
        values = list(found.values())
        of_tasks = [
            _ratio([value for (own, _), value in found.items() if own == task]) for task in tasks
        ]
        rows.append([*variant.split(": ", 1), _ratio(values), *of_tasks])
    return table(["changed", "", "ratio", *tasks], rows)


def ratios(records):
    """The table: a row for each variant, ratios to the defaults on the same task and seed."""
    logs = logs_of_ratios(records, "disparity")
    rows = []
    for variant, found in logs.items():
        values = np.array(list(found.values()))
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        transfer = np.array([">" in task for task, _ in found])
        rows.append(
            [
                *variant.split(": ", 1),
                _ratio(values),
                _ratio(values[~transfer]),
                _ratio(values[transfer]),
                f"{error:.3f}",
                f"{np.sum(values < 0)} of {len(values)}",
            ]
        )
    head = ["changed", "", "ratio", "within a section", "next section", "standard error", "wins"]
    return table(head, rows)


def _ratio(logs):
    return f"{np.exp(np.mean(logs)):.3f}" if len(logs) else ""


@threads(1)
def main(argv=None):
    arguments = parser("ablation", __doc__, seeds=2)
    arguments.add_argument("--tasks", nargs="+", help="tasks in place of the usual")
    arguments.add_argument("--queries", action="store_true", help="a task of each kind of query")
    arguments.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    args = arguments.parse_args(argv)

    folder = Folder(args.data)
    tasks = find_tasks(args.tasks or (QUERIES if args.queries else TASKS), folder.files)
    variants = variants_of(args.groups)
    configs = {
        name: fingerprint(make_spatial_pipeline().set_params(**params))
        for name, params in variants.items()
    }
    results = Store(
        args.output,
        key=("variant", "task", "seed"),
        config=lambda record: configs.get(record["variant"]),
    )
    for seed in range(args.seeds):
        for task in tasks:
            wanted = [{"variant": v, "task": task.label, "seed": seed} for v in variants]
            todo = results.missing(wanted, args.redo)
            splits = list(folder.splits(task, seed)) if todo else []
            # The steps before the net are fitted once where variants share them.
            with tempfile.TemporaryDirectory() as memory:
                for key in todo:
                    params = variants[key["variant"]]
                    parts = [run(split, params, seed=seed, memory=memory) for split in splits]
                    means = {name: float(np.mean([p[name] for p in parts])) for name in parts[0]}
                    log(f"{key} {means}")
                    results.add(key | means)
    print((of_queries if args.queries else ratios)(list(results)))
    return list(results)


if __name__ == "__main__":
    main()
