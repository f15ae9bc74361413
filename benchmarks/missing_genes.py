"""What if a query lacks genes that the reference has?

    python benchmarks/missing_genes.py DATA_DIR [--seeds 3]

Takes a fifth of the spots of four sections at random, fits the pipeline on the others, and takes
genes away from those that are to be placed, a share of them drawn anew for each seed. Prints a
table of disparities: with all genes, with zeros in place of those that are missing, and with
`missing_genes=`.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _accuracy.tasks import Folder, preset  # noqa: E402
from scipy.sparse import csr_matrix  # noqa: E402

from sklearn_dpvae import make_spatial_pipeline  # noqa: E402
from sklearn_dpvae.metrics import procrustes_disparity  # noqa: E402

TASKS = ("hippo1 random", "embryo random", "seqFISH+ random", "DBiT random")
SHARES = (0.1, 0.3, 0.5, 0.8)


def measure(split, seed):
    """Disparities: with all genes, and for each share without and with knowledge of it."""
    model = make_spatial_pipeline(random_state=seed).fit(split.X, split.coords)
    rng = np.random.RandomState(seed)
    X = csr_matrix(split.query_X)

    def disparity(X, **told):
        return procrustes_disparity(split.query_coords, model.predict(X, **told))

    found = [disparity(X)]
    for share in SHARES:
        missing = rng.permutation(X.shape[1]) < share * X.shape[1]
        lacking = csr_matrix(X.multiply(~missing))
        found += [disparity(lacking), disparity(lacking, missing_genes=missing)]
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of .h5ad files")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    folder = Folder(args.data)
    tasks = {task.label: task for task in preset("ten")}
    heads = [f"{100 * s:.0f} % missing: {w}" for s in SHARES for w in ("zeros", "told")]
    print("| task | all genes | " + " | ".join(heads) + " |")
    print("|---" * (2 + len(heads)) + "|")
    for name in TASKS:
        runs = np.array(
            [
                measure(split, seed)
                for seed in range(args.seeds)
                for split in folder.splits(tasks[name], seed)
            ]
        )
        means, spreads = runs.mean(axis=0), runs.std(axis=0)
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(means, spreads, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
