"""What if a query lacks genes that the reference has?

    python -m benchmarks.missing_genes DATA [-o missing_genes.json] [--seeds 3]

Takes a fifth of the spots of four sections at random, fits the pipeline on the others, and takes
genes away from those that are to be placed, a share of them drawn anew for each seed. Prints a
table of disparities: with all genes, with zeros in place of those that are missing, and with
`missing_genes=`.
"""

import numpy as np
from scipy.sparse import csr_matrix

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.metrics import procrustes_disparity

from ._common.arguments import log, parser
from ._common.folder import Folder
from ._common.machine import threads
from ._common.store import Store, fingerprint
from ._common.tables import table_over_seeds
from ._common.tasks import find_tasks

TASKS = ("hippo1 random", "embryo random", "seqFISH+ random", "DBiT random")
SHARES = (0.1, 0.3, 0.5, 0.8)


def measure(split, seed):
    """Disparities: with all genes, and for each share without and with knowledge of it."""
    model = make_spatial_pipeline(n_calibration_folds=None, random_state=seed).fit(
        split.X, split.coords
    )
    rng = np.random.RandomState(seed)
    X = csr_matrix(split.query_X)

    def disparity(X, **told):
        return float(procrustes_disparity(split.query_coords, model.predict(X, **told)))

    found = {"all genes": disparity(X)}
    for share in SHARES:
        missing = rng.permutation(X.shape[1]) < share * X.shape[1]
        lacking = csr_matrix(X.multiply(~missing))
        found[f"{100 * share:.0f} % missing: zeros"] = disparity(lacking)
        found[f"{100 * share:.0f} % missing: told"] = disparity(lacking, missing_genes=missing)
    return found


@threads(1)
def main(argv=None):
    arguments = parser("missing_genes", __doc__, seeds=3)
    arguments.add_argument("--tasks", nargs="+", default=TASKS, help="random tasks in their place")
    args = arguments.parse_args(argv)
    config = fingerprint(make_spatial_pipeline(), SHARES)
    results = Store(args.output, key=("task", "seed"), config=lambda _: config)
    folder = Folder(args.data)
    for task in find_tasks(args.tasks, folder.files):
        wanted = [{"task": task.label, "seed": seed} for seed in range(args.seeds)]
        for key in results.missing(wanted, args.redo):
            [split] = folder.splits(task, key["seed"])
            found = measure(split, key["seed"])
            log(f"{key} {found}")
            results.add(key | {"measured": found})
    print(table_over_seeds(results, "task"))


if __name__ == "__main__":
    main()
