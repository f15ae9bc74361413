"""Does the spread of a prediction mean something? Coverage of radii, and rank correlation.

    python benchmarks/uncertainty.py DATA_DIR [--seeds 3]

For every .h5ad file's first section: fit on 60 % of the spots, calibrate on 20 %, and look at the
other 20 %. Prints a table: the share of errors within the nominal 50, 80 and 95 % radii, with and
without calibration, and Spearman's correlation of the standard deviation with the error.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import read_sections

LEVELS = (0.5, 0.8, 0.95)
# Genes of these names swamp the libraries of the mouse brain sections.
UNWANTED = ["Gm42418", "Rn18s-rs5", "mt-Rnr1", "mt-Rnr2"]


def measure(X, coords, seed):
    """Coverage before and after calibration, and the rank correlation."""
    order = np.random.RandomState(seed).permutation(len(coords))
    test, calibration, train = np.split(order, [len(order) // 5, 2 * len(order) // 5])
    model = make_spatial_pipeline(random_state=seed).fit(X[train], coords[train])
    placed, std = model.predict(X[test], return_std=True)
    error = np.linalg.norm(placed - coords[test], axis=1)

    def coverage():
        return [np.mean(error <= model.predict_radius(X[test], level=p)) for p in LEVELS]

    before = coverage()
    model.calibrate(X[calibration], coords[calibration])
    return np.array([*before, *coverage(), spearmanr(std, error)[0]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of .h5ad files")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)

    names = " | ".join(f"{100 * p:.0f} %" for p in LEVELS)
    print(f"| section | {names} | {names.replace(' %', ' % calibrated')} | Spearman |")
    print("|---" * (2 * len(LEVELS) + 2) + "|")
    for path in sorted(options.data.glob("*.h5ad")):
        data = read_sections(path)
        rows = np.flatnonzero(data.sections == data.sections[0])
        X = data.X[rows][:, ~np.isin(data.genes, UNWANTED)]
        runs = np.array([measure(X, data.coords[rows], s) for s in range(options.seeds)])
        cells = [f"{m:.2f} ± {s:.2f}" for m, s in zip(runs.mean(0), runs.std(0), strict=True)]
        print(f"| {path.stem} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
