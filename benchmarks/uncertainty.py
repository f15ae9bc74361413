"""Does the spread of a prediction mean something? Coverage of radii, and rank correlation.

    python -m benchmarks.uncertainty DATA [-o uncertainty.json] [--seeds 3]

For every .h5ad file's first section: fit on 60 % of the spots, calibrate on 20 %, and look at the
other 20 %. Prints a table: the share of errors within the nominal 50, 80 and 95 % radii, with and
without calibration, and Spearman's correlation of the standard deviation with the error.
"""

import numpy as np
from scipy.stats import spearmanr

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import read_sections

from ._common.arguments import log, parser
from ._common.folder import Folder
from ._common.machine import threads
from ._common.store import Store, fingerprint
from ._common.tables import table_over_seeds
from ._common.tasks import SWAMPING_GENES

LEVELS = (0.5, 0.8, 0.95)


def measure(X, coords, seed):
    """Coverage before and after calibration, and the rank correlation."""
    order = np.random.RandomState(seed).permutation(len(coords))
    test, calibration, train = np.split(order, [len(order) // 5, 2 * len(order) // 5])
    model = make_spatial_pipeline(random_state=seed).fit(X[train], coords[train])
    placed, std = model.predict(X[test], return_std=True)
    error = np.linalg.norm(placed - coords[test], axis=1)

    def coverage(suffix):
        return {
            f"{100 * level:.0f} %{suffix}": float(
                np.mean(error <= model.predict_radius(X[test], level=level))
            )
            for level in LEVELS
        }

    before = coverage("")
    model.calibrate(X[calibration], coords[calibration])
    return before | coverage(" calibrated") | {"Spearman": float(spearmanr(std, error)[0])}


@threads(1)
def main(argv=None):
    args = parser("uncertainty", __doc__, seeds=3).parse_args(argv)
    config = fingerprint(make_spatial_pipeline(), LEVELS)
    results = Store(args.output, key=("section", "seed"), config=lambda _: config)
    for file in Folder(args.data).files:
        wanted = [{"section": file, "seed": seed} for seed in range(args.seeds)]
        todo = results.missing(wanted, args.redo)
        if not todo:
            continue
        data = read_sections(args.data / f"{file}.h5ad")
        rows = np.flatnonzero(data.sections == data.sections[0])
        X = data.X[rows][:, ~np.isin(data.genes, SWAMPING_GENES)]
        for key in todo:
            found = measure(X, data.coords[rows], key["seed"])
            log(f"{key} {found}")
            results.add(key | {"measured": found})
    print(table_over_seeds(results, "section", digits=2))


if __name__ == "__main__":
    main()
