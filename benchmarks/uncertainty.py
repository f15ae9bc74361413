"""Is the answer as sure as it says? Coverage of radii and regions, right after `fit`.

    python -m benchmarks.uncertainty [DATA] [-o uncertainty.json] [--seeds 3] [--tasks TASK ...]

The pipeline is as a user makes it, and nobody calibrates. For each task: the share of cells
within their radii of 50, 80 and 95 %, and within the regions of `predict_places` of the same
levels; the log score of the places in nats above a uniform guess; Spearman's correlation of
the standard deviation with the error; and the shares within the radii after `calibrate` on a
fifth of the query, for its other cells.

Without --tasks: a random fifth of every section, every next section of a file, and the presets
spots, depth, part and blocks. Of tasks with folds, the first fold is taken. Where the query is
another section, whose frame nobody knows, true positions are moved rigidly onto the predicted
ones. The last table has the mean and the range over the tasks of each kind.
"""

from itertools import pairwise

import numpy as np
from scipy.stats import spearmanr

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.metrics import place_coverage, place_log_score, procrustes_align

from ._common.arguments import log, parser
from ._common.folder import Folder
from ._common.machine import threads
from ._common.store import Store, fingerprint
from ._common.tables import table, table_over_seeds
from ._common.tasks import SWAMPING_GENES, find_tasks, parse_task, preset

LEVELS = (0.5, 0.8, 0.95)
# Of the query's cells, for `calibrate`.
SPARE = 0.2
PRESETS = ("spots", "depth", "part", "blocks")


def measure(split, seed):
    """Coverage and scores of one split."""
    model = make_spatial_pipeline(random_state=seed).fit(
        split.X, split.coords, sections=split.sections
    )
    X, true = split.query_X, split.query_coords
    sections = None if split.new_section else split.query_sections
    placed, std = model.predict(X, sections=sections, return_std=True)
    if split.new_section:
        true = procrustes_align(true, placed, scaling=False).transform(true)
    error = np.linalg.norm(placed - true, axis=1)

    def within_radii(rows):
        return {
            level: float(np.mean((error <= model.predict_radius(X, level=level))[rows]))
            for level in LEVELS
        }

    everyone = np.ones(len(error), dtype=bool)
    places = model.predict_places(X)
    found = {f"radius {100 * level:.0f} %": v for level, v in within_radii(everyone).items()}
    found |= {
        f"region {100 * level:.0f} %": place_coverage(true, places, level) for level in LEVELS
    }
    found["log score"] = place_log_score(true, places)
    found["Spearman"] = float(spearmanr(std, error)[0])
    spare = np.random.RandomState(seed).permutation(len(error)) < SPARE * len(error)
    model.calibrate(X, np.where(spare[:, None], true, np.nan))
    return found | {
        f"calibrated {100 * level:.0f} %": v for level, v in within_radii(~spare).items()
    }


def default_tasks(folder):
    """(kind, task) of every section, of each two neighbors, and of the presets."""
    for file in folder.files:
        sections = folder.sections_of(file)
        for section in sections:
            text = f"{file}:{section} random"
            yield "random", parse_task(text, dropped_genes=SWAMPING_GENES)
        for a, b in pairwise(sections):
            text = f"{file}:{a} > {b}"
            yield "next section", parse_task(text, dropped_genes=SWAMPING_GENES)
    for name in PRESETS:
        for task in preset(name):
            yield name, task


def by_kind(records, digits=2):
    """Mean and range over the tasks of a kind, each task at its mean over the seeds."""
    tasks = {}
    for record in records:
        tasks.setdefault((record["kind"], record["task"]), []).append(record["measured"])
    kinds = {}
    for (kind, _), runs in tasks.items():
        means = {name: np.mean([run[name] for run in runs]) for name in runs[0]}
        kinds.setdefault(kind, []).append(means)
    head = list(next(iter(kinds.values()))[0]) if kinds else []
    rows = []
    for kind, means in kinds.items():
        columns = [[m[name] for m in means] for name in head]
        cells = [
            f"{np.mean(c):.{digits}f} ({min(c):.{digits}f} to {max(c):.{digits}f})"
            for c in columns
        ]
        rows.append([kind, str(len(means)), *cells])
    return table(["kind", "tasks", *head], rows)


@threads(1)
def main(argv=None):
    arguments = parser("uncertainty", __doc__, seeds=3)
    arguments.add_argument("--tasks", nargs="+", help="in their place")
    args = arguments.parse_args(argv)
    config = fingerprint(make_spatial_pipeline(), LEVELS, SPARE)
    results = Store(args.output, key=("kind", "task", "seed"), config=lambda _: config)
    folder = Folder(args.data)
    if args.tasks:
        tasks = [(task.kind, task) for task in find_tasks(args.tasks, folder.files)]
    else:
        tasks = list(default_tasks(folder))
    for seed in range(args.seeds):
        for kind, task in tasks:
            for key in results.missing(
                [{"kind": kind, "task": task.label, "seed": seed}], args.redo
            ):
                found = measure(next(iter(folder.splits(task, seed))), seed)
                log(f"{key} {found}")
                results.add(key | {"measured": found})
    print(table_over_seeds(results, "task", digits=2))
    print(by_kind(results))


if __name__ == "__main__":
    main()
