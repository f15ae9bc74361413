"""Does `query="auto"` choose well by which statistics a query is z-scored?

    python -m benchmarks.query_scaling DATA [-o query_scaling.json] [--seeds 3] [--tasks TASK ...]

Fits the pipeline once for each split and places the query three times: with "auto", with
"same_section", by the statistics of the reference, and with "new_section", by its own. Prints how
far "auto" moved the query, the median distance to the true places in the frame of the reference
over its diameter, and the disparity; then how much worse "auto" is than the better of the other
two, as a geometric mean over the tasks of each kind. Of tasks with folds, the first is taken.
"""

import copy
import warnings

import numpy as np

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.metrics import procrustes_disparity
from sklearn_dpvae.pipeline._steps import transform_and_shift, transformers

from ._common.arguments import log, parser
from ._common.folder import Folder
from ._common.machine import threads
from ._common.store import Store, fingerprint
from ._common.tables import mean_and_spread, plus_minus, table
from ._common.tasks import find_tasks, preset
from .accuracy.scores import frame_error

PRESETS = ("cells", "spots", "depth", "panel", "part")
# Whole sections by the section before.
NEXT = ("hippo1>2", "hippo3>4", "synovium 1>2", "bulb 1>2")
CHOICES = ("auto", "same_section", "new_section")
SCORES = ("frame error", "disparity")


def asked(model, choice):
    """The fitted pipeline, told by which statistics a query is to be z-scored.

    A fit with "new_section" differs in one thing, that its answers are those for another section.
    """
    model = copy.deepcopy(model)
    [scaler] = (step for step in transformers(model) if hasattr(step, "query"))
    scaler.query = choice
    if choice == "new_section":
        final = model.steps[-1][1]
        final.fitted_ = final.fitted_.for_another_section()
    return model


def measure(split, seed):
    """Scores of each choice, and how far "auto" moved the query."""
    model = make_spatial_pipeline(random_state=seed).fit(split.X, split.coords)
    steps = ((step, {}) for step in transformers(model))
    moved = transform_and_shift(steps, split.query_X, None)[2]
    found = {"moved": float(np.mean(list(moved.values())))}
    for choice in CHOICES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of queries not to be trusted, which some are.
            placed = asked(model, choice).predict(split.query_X)
        found[choice] = {
            "frame error": frame_error(split.places, placed, split.coords),
            "disparity": float(procrustes_disparity(split.query_coords, placed)),
        }
    return found


def as_tables(records):
    """Means over the seeds for each task, and for each kind the loss by the choice."""
    runs = {}
    for record in records:
        runs.setdefault((record["kind"], record["task"]), []).append(record["measured"])
    text, losses = "", {}
    for score in SCORES:
        rows = []
        for (kind, task), found in runs.items():
            values = {c: [run[c][score] for run in found] for c in CHOICES}
            if None in values["auto"]:
                continue
            means = {c: mean_and_spread(v) for c, v in values.items()}
            better = min(means["same_section"][0], means["new_section"][0])
            loss = means["auto"][0] / better
            losses.setdefault(kind, {}).setdefault(score, []).append(loss)
            moved = f"{np.mean([run['moved'] for run in found]):.2f}"
            rows.append([task, moved, *(plus_minus(means[c]) for c in CHOICES), f"{loss:.3f}"])
        text += table([score, "moved", *CHOICES, '"auto" / better one'], rows) + "\n"
    rows = []
    for kind, found in losses.items():
        cells = [f"{np.exp(np.mean(np.log(found[s]))):.3f}" if s in found else "" for s in SCORES]
        rows.append([kind, *cells])
    return text + table(['"auto" / better one', *SCORES], rows)


@threads(1)
def main(argv=None):
    arguments = parser("query_scaling", __doc__, seeds=3)
    arguments.add_argument("--tasks", nargs="+", help="in place of the presets")
    args = arguments.parse_args(argv)
    folder = Folder(args.data)
    if args.tasks is None:
        tasks = [("next section", task) for task in find_tasks(NEXT, folder.files)]
        tasks += [(kind, task) for kind in PRESETS for task in preset(kind)]
    else:
        tasks = [("given", task) for task in find_tasks(args.tasks, folder.files)]
    config = fingerprint(make_spatial_pipeline())
    results = Store(args.output, key=("task", "seed"), config=lambda _: config)
    for seed in range(args.seeds):
        for kind, task in tasks:
            key = {"task": task.label, "seed": seed}
            if not results.missing([key], args.redo):
                continue
            found = measure(next(iter(folder.splits(task, seed))), seed)
            log(f"{key} {found}")
            results.add({"kind": kind, **key, "measured": found})
    print(as_tables(results))


if __name__ == "__main__":
    main()
