"""What does each default buy? One default changed at a time.

    python benchmarks/ablation.py DATA_DIR -o ablation.json
    python benchmarks/ablation.py DATA_DIR -o ablation.json --groups loss ensemble --seeds 3

DATA_DIR is a folder as benchmarks/accuracy.py takes it, and tasks are written as there. A row of
the table is a variant of `make_spatial_pipeline()`; its number is the disparity over that of the
defaults on the same task and seed, as a geometric mean over tasks and seeds: above 1 the default
is better. Tasks that place a fifth of a section and tasks that place another section are also
shown apart, since what wins on both is what a default should be. The standard error is over
pairs of task and seed; `wins` counts those where the variant has the lower disparity.

Each result is written as soon as it is there, and a run that was interrupted goes on where it
stopped. After a change of the defaults, start from an empty file.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from _accuracy.files import write_whole  # noqa: E402
from _accuracy.tasks import PRESETS, Folder, parse_task, preset  # noqa: E402
from _accuracy.training import AveragedWeights, Mixup  # noqa: E402

from sklearn_dpvae import make_spatial_pipeline  # noqa: E402
from sklearn_dpvae.feature_selection import HighlyVariableGenes  # noqa: E402
from sklearn_dpvae.metrics import procrustes_disparity  # noqa: E402

DEFAULTS = "defaults"
TASKS = (
    "hippo1 random",
    "seqFISH+ random",
    "hippo3>4",
    "synovium 1>2",
    "embryo random",
    "DBiT random",
)


class Steps:
    """About this many steps of the optimizer, whatever the number of cells."""

    def __init__(self, n_steps):
        self.n_steps = n_steps

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
        "average of the weights": {"dpvae__callbacks": [AveragedWeights(0.98)]},
        "mixtures of two cells": {"dpvae__callbacks": [Mixup(0.2)]},
    },
    "precision": {"bfloat16": {"dpvae__precision": "bfloat16"}},
}

# What gains little alone and could gain more together.
_THREE_LAYERS = {"dpvae__hidden_layer_sizes": (128, 128, 128)}
_LONGER = {"dpvae__max_epochs": Steps(1000)}
GROUPS["more of it"] = {
    "about 1,000 steps": _LONGER,
    "three layers": _THREE_LAYERS,
    "three layers, about 1,000 steps": _THREE_LAYERS | _LONGER,
    "three layers, lr 0.01": _THREE_LAYERS | {"dpvae__lr": 1e-2},
    "three layers, about 1,000 steps, lr 0.01": _THREE_LAYERS | _LONGER | {"dpvae__lr": 1e-2},
    "three layers, about 1,000 steps, z-scores clipped at 5": _THREE_LAYERS
    | _LONGER
    | {"scale__clip": 5.0},
    "layers of 256, about 1,000 steps": _LONGER | {"dpvae__hidden_layer_sizes": (256, 256)},
}


def run(split, params, *, seed, memory):
    """Disparity of a variant on one split, and the processor seconds of its fit."""
    model = make_spatial_pipeline(
        query="new_section" if split.new_section else "same_section",
        random_state=seed,
        device="cpu",
        memory=memory,
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
    return {"disparity": float(disparity), "seconds": seconds}


def table(results, variants):
    """Markdown: a row a variant, ratios to the defaults on the same task and seed."""
    found = {(r["variant"], r["task"], r["seed"]): r for r in results}
    lines = [
        "| changed | | ratio | within a section | next section | standard error | wins |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (group, label), name in variants.items():
        logs = {
            (task, seed): np.log(r["disparity"] / found[DEFAULTS, task, seed]["disparity"])
            for (variant, task, seed), r in found.items()
            if variant == name and (DEFAULTS, task, seed) in found
        }
        if not logs:
            continue
        values = np.array(list(logs.values()))
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        cells = [_ratio(values)]
        for transfer in (False, True):
            cells.append(_ratio([v for (task, _), v in logs.items() if (">" in task) == transfer]))
        cells += [f"{error:.3f}", f"{np.sum(values < 0)} of {len(values)}"]
        lines.append(f"| {group} | {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ratio(logs):
    return f"{np.exp(np.mean(logs)):.3f}" if len(logs) else ""


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("data_dir", type=Path, help="folder of .h5ad files")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON of all results")
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="tasks in place of the usual")
    parser.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds, from 0 on")
    parser.add_argument("--table", type=Path, help="markdown file of the table")
    args = parser.parse_args(argv)

    torch.set_num_threads(1)
    folder = Folder(args.data_dir)
    named = {task.label: task for name in PRESETS for task in preset(name)}
    tasks = [named.get(text) or parse_task(text, files=folder.files) for text in args.tasks]
    settings = {DEFAULTS: {}}
    variants = {}
    for group in args.groups:
        for label, params in GROUPS[group].items():
            variants[group, label] = f"{group}: {label}"
            settings[variants[group, label]] = params

    results = json.loads(args.output.read_text()) if args.output.exists() else []
    done = {(r["variant"], r["task"], r["seed"]) for r in results}
    for seed in range(args.seeds):
        for task in tasks:
            todo = [name for name in settings if (name, task.label, seed) not in done]
            splits = list(folder.splits(task, seed)) if todo else []
            # The steps before the net are fitted once where variants share them.
            with tempfile.TemporaryDirectory() as memory:
                for name in todo:
                    with threadpool_limits(1):
                        parts = [
                            run(split, settings[name], seed=seed, memory=memory)
                            for split in splits
                        ]
                    means = {key: float(np.mean([p[key] for p in parts])) for key in parts[0]}
                    record = {"variant": name, "task": task.label, "seed": seed} | means
                    print(json.dumps(record), file=sys.stderr, flush=True)
                    results.append(record)
                    lines = ",\n".join(map(json.dumps, results))
                    write_whole(args.output, f"[\n{lines}\n]\n")
    text = table(results, variants)
    if args.table:
        args.table.write_text(text, encoding="utf-8")
    print(text)
    return results


if __name__ == "__main__":
    main()
