"""The cost of using a model: prediction, searches for parameters, and the start of a program."""

import os
import subprocess
import sys
import time

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.preprocessing import LogNormalizer

from .._common.simulated import section
from .._common.timing import clock, spread


def measure_predict(options):
    for n, genes, sparse in ((10_000, 1000, False), (10_000, 1000, True), (100_000, 30, False)):
        X, coords = section(n, genes, sparse=sparse)
        model = DPVAESpatialRegressor(max_epochs=1, random_state=0, device="cpu")
        model.fit(X[:2000], coords[:2000])
        units = model.n_estimators * 128
        dense = X.toarray() if sparse else X
        weights = np.ones((genes, units))
        seconds, ratios = [], []
        for _ in range(options.repeats):
            start = clock()
            model.predict(X)
            middle = clock()
            # In chunks, as prediction: the result of all rows at once would be 1 kB a cell.
            for rows in range(0, n, 4096):
                dense[rows : rows + 4096].astype(np.float64) @ weights
            seconds.append(middle - start)
            ratios.append((middle - start) / (clock() - middle))
        yield {
            "case": f"{n:,} x {genes:,} {'CSR' if sparse else 'dense'}",
            "cells a second": n / float(np.median(seconds)),
            "over one product X @ W of all first layers": spread(ratios),
        }


def clock_of_all():
    """Time of the processor that this process and its workers have taken."""
    import psutil  # comes with dask's distributed, and so with the extra "test"

    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def measure_search(options):
    X, coords = section(500, 30)
    seconds, work = {1: [], 2: []}, {1: [], 2: []}
    model = DPVAESpatialRegressor(n_estimators=2, max_epochs=20, random_state=0, device="cpu")
    grid = {"distance_weight": [0.3, 1.0, 3.0, 10.0]}
    for repeat in range(1 + options.repeats // 2):
        for n_jobs in seconds:
            start, used = time.perf_counter(), clock_of_all()
            GridSearchCV(model, grid, cv=4, n_jobs=n_jobs, refit=False).fit(X, coords)
            if repeat:  # the first round starts the workers
                seconds[n_jobs].append(time.perf_counter() - start)
                work[n_jobs].append(clock_of_all() - used)
    one, two = (np.array(found) for found in seconds.values())
    yield {
        "case": "GridSearchCV, 4 candidates x 4 folds, 500 x 30",
        "n_jobs=1, s": float(np.median(one)),
        "n_jobs=2, s": float(np.median(two)),
        "speed-up": spread(one / two),
        "time of all processors, 2 over 1": spread(np.array(work[2]) / np.array(work[1])),
        "load of the machine over its cores": os.getloadavg()[0] / os.cpu_count(),
    }


def measure_latency(options):
    tissue = make_tissue(600, 300, random_state=0)
    X, coords = tissue.X[:500], tissue.coords[:500]
    rows = [tissue.X[i : i + 1] for i in range(500, 600)]
    ours = make_spatial_pipeline(random_state=0, device="cpu").fit(X, coords)
    # What the same question costs where a plain pipeline answers it.
    nearest = make_pipeline(
        LogNormalizer(), MaxAbsScaler(), TruncatedSVD(20, random_state=0), KNeighborsRegressor(10)
    ).fit(X, coords)
    calls = {
        "predict": ours.predict,
        "predict_radius": ours.predict_radius,
        "nearest neighbors on components": nearest.predict,
    }
    for name, call in calls.items():
        seconds = []
        for row in rows[: 10 * options.repeats]:
            start = clock()
            call(row)
            seconds.append(clock() - start)
        yield {"case": f"{name}, one row of 300 genes", "ms": spread(1e3 * np.array(seconds))}


START = """
import time
{before}
start = time.process_time()
{measured}
print(time.process_time() - start)
"""
# All that is imported when it is first asked for.
EVERYTHING = (
    "import sklearn_dpvae\nfor name in sklearn_dpvae.__all__: getattr(sklearn_dpvae, name)"
)


def measure_start(options):
    libraries = "import torch, sklearn.pipeline, sklearn.decomposition, skorch"
    command = "from sklearn_dpvae.cli import main\ntry: main(['{}'])\nexcept SystemExit: pass"
    cases = {
        "import of torch, scikit-learn and skorch": ("", libraries),
        "import of the whole package after them": (libraries, EVERYTHING),
        "sklearn-dpvae --version": ("", command.format("--version")),
        "sklearn-dpvae --help": ("", command.format("--help")),
    }
    for name, (before, measured) in cases.items():
        script = START.format(before=before, measured=measured)
        seconds = []
        for _ in range(options.repeats):
            run = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, check=True
            )
            seconds.append(float(run.stdout.split()[-1]))
        yield {"case": name, "s": spread(seconds)}
