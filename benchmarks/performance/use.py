"""The cost of using a model: prediction, and searches for parameters."""

import os
import time

import numpy as np
from sklearn.model_selection import GridSearchCV

from sklearn_dpvae import DPVAESpatialRegressor

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
