"""Does the spread of a prediction mean something? Coverage of radii, and rank correlation.

    python -m benchmarks.uncertainty [DATA] [-o uncertainty.json] [--seeds 3] [--files NAME ...]

For every section: fit on 60 % of the spots, calibrate on 20 %, and look at the other 20 %. For
every two sections of a file that follow each other: fit on the first, calibrate on a fifth of the
second, and look at its others; true positions are moved rigidly onto the predicted ones, as the
second section has a frame of its own. Prints a table: the share of errors within the nominal 50,
80 and 95 % radii, right after the fit, for queries of which half of the counts are taken, and
after calibration; and Spearman's correlation of the standard deviation with the error.
"""

from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from scipy.stats import spearmanr

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.metrics import procrustes_align

from ._common.arguments import log, parser
from ._common.folder import Folder
from ._common.machine import threads
from ._common.store import Store, fingerprint
from ._common.tables import table_over_seeds
from ._common.tasks import SWAMPING_GENES

LEVELS = (0.5, 0.8, 0.95)


def measure(data, reference, query, seed, *, next_section):
    """Coverage of radii for the cells of a query, and the rank correlation."""
    rng = np.random.RandomState(seed)
    spare = np.zeros(len(query), dtype=bool)
    spare[: round(len(query) * (0.2 if next_section else 0.5))] = True
    spare = rng.permutation(spare)
    model = make_spatial_pipeline(
        query="new_section" if next_section else "same_section", random_state=seed
    )
    model.fit(data.X[reference], data.coords[reference])
    X, coords = data.X[query], data.coords[query]
    placed, std = model.predict(X, return_std=True)
    if next_section:
        coords = procrustes_align(coords, placed, scaling=False).transform(coords)

    def coverage(suffix, X, placed):
        error = np.linalg.norm(placed - coords, axis=1)
        return {
            f"{100 * level:.0f} %{suffix}": float(
                np.mean((error <= model.predict_radius(X, level=level))[~spare])
            )
            for level in LEVELS
        }

    found = coverage("", X, placed)
    half = sp.csr_matrix(X, dtype=np.float64)
    half.data = rng.binomial(half.data.astype(np.int64), 0.5).astype(np.float64)
    found |= coverage(" half", half, model.predict(half))
    model.calibrate(X, np.where(spare[:, None], coords, np.nan))
    error = np.linalg.norm(placed - coords, axis=1)[~spare]
    found |= coverage(" calibrated", X, placed)
    return found | {"Spearman": float(spearmanr(std[~spare], error)[0])}


def tasks(folder, file, seed):
    """Name, cells to fit on and to ask about of each section, and of each two neighbors."""
    sections = folder.sections_of(file)
    data = folder.load([(file, None)], SWAMPING_GENES)
    rows = {s: np.flatnonzero(data.sections == f"{file}:{s}") for s in sections}
    for section, own in rows.items():
        order = np.random.RandomState(seed).permutation(own)
        n = round(0.6 * len(own))
        name = file if len(sections) == 1 else f"{file}:{section}"
        yield name, data, order[:n], order[n:], False
    for a, b in pairwise(sections):
        yield f"{file}:{a} > {b}", data, rows[a], rows[b], True


@threads(1)
def main(argv=None):
    arguments = parser("uncertainty", __doc__, seeds=3)
    arguments.add_argument("--files", nargs="+", help="those to look at; all by default")
    args = arguments.parse_args(argv)
    config = fingerprint(make_spatial_pipeline(), LEVELS)
    results = Store(args.output, key=("section", "seed"), config=lambda _: config)
    folder = Folder(args.data)
    for seed in range(args.seeds):
        for file in args.files or folder.files:
            for name, data, reference, query, next_section in tasks(folder, file, seed):
                for key in results.missing([{"section": name, "seed": seed}], args.redo):
                    found = measure(data, reference, query, seed, next_section=next_section)
                    log(f"{key} {found}")
                    results.add(key | {"measured": found})
    print(table_over_seeds(results, "section", digits=2))


if __name__ == "__main__":
    main()
