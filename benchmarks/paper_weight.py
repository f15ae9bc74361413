"""Which lambda suits the paper's recipe? The paper varies it over decades and names none.

    python -m benchmarks.paper_weight DATA [-o paper_weight.json] [--seeds 1]

Takes a fifth of the cells of each section at random, fits `make_paper_pipeline` on the others (on
300 of them in large sections) with lambda from 0 over decades, and prints a table of disparities:
of the cells that were held out, for each section, their mean over sections, and that of the cells
of the fit.
"""

import numpy as np

from sklearn_dpvae import make_paper_pipeline
from sklearn_dpvae.metrics import procrustes_disparity

from ._common.arguments import log, parser
from ._common.folder import Folder
from ._common.machine import threads
from ._common.store import Store, fingerprint
from ._common.tables import table
from ._common.tasks import find_tasks

WEIGHTS = (0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
TASKS = (
    "hippo1 random",
    "seqFISH+ random",
    "synovium random",
    "embryo random with 300 cells",
    "DBiT random with 300 cells",
)


def measure(split, weight, seed):
    """Disparities of cells that were held out and of those of the fit."""
    model = make_paper_pipeline(distance_weight=weight, random_state=seed)
    model.fit(split.X, split.coords)
    return {
        "held out": float(procrustes_disparity(split.query_coords, model.predict(split.query_X))),
        "fitted": float(procrustes_disparity(split.coords, model.predict(split.X))),
    }


def report(records):
    """A row for each section and two for their means, a column for each lambda."""
    records = list(records)
    weights = sorted({r["weight"] for r in records})

    def row(label, part, score):
        means = [
            np.mean([r["measured"][score] for r in part if r["weight"] == weight])
            for weight in weights
        ]
        return [label, *(f"{mean:.3f}" for mean in means)]

    tasks = list(dict.fromkeys(r["task"] for r in records))
    rows = [row(t, [r for r in records if r["task"] == t], "held out") for t in tasks]
    rows += [row(f"mean, {score}", records, score) for score in ("held out", "fitted")]
    return table(["lambda", *(f"{weight:g}" for weight in weights)], rows)


@threads(1)
def main(argv=None):
    arguments = parser("paper_weight", __doc__, seeds=1)
    arguments.add_argument("--tasks", nargs="+", default=TASKS, help="random tasks in their place")
    args = arguments.parse_args(argv)
    config = fingerprint(make_paper_pipeline(distance_weight=0.0))
    results = Store(args.output, key=("task", "weight", "seed"), config=lambda _: config)
    folder = Folder(args.data)
    for seed in range(args.seeds):
        for task in find_tasks(args.tasks, folder.files):
            wanted = [{"task": task.label, "weight": w, "seed": seed} for w in WEIGHTS]
            for key in results.missing(wanted, args.redo):
                [split] = folder.splits(task, seed)
                found = measure(split, key["weight"], seed)
                log(f"{key} {found}")
                results.add(key | {"measured": found})
    print(report(results))


if __name__ == "__main__":
    main()
