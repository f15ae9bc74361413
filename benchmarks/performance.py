"""What training and prediction cost, and where the time goes.

    python benchmarks/performance.py                    # everything that needs no large memory
    python benchmarks/performance.py overhead profile   # some parts
    python benchmarks/performance.py scaling pipeline --large   # up to a million cells
    python benchmarks/performance.py --out benchmarks/results

Parts: `overhead` (a fit against a loop written by hand), `profile` (where the time goes),
`kernels` (parts of a step against torch's), `scaling` (cost of an epoch), `memory` (peaks, each in
a process of its own), `pipeline` (counts to positions, likewise), `predict` (against one matrix
product of the shape), `search` (GridSearchCV with one and two jobs). Ratios are of costs measured
in turns in one process, on one thread, in time of the processor; `search` alone looks at the wall
clock. Prints Markdown, and with --out writes performance.json and performance.md; parts that are
not run stay in them as they are. What a GPU does is measured by benchmarks/device.py.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
PARTS = (
    "overhead",
    "profile",
    "kernels",
    "scaling",
    "memory",
    "pipeline",
    "predict",
    "search",
)
parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
parser.add_argument("--repeats", type=int, default=7)
parser.add_argument("--large", action="store_true", help="scaling and pipeline to a million cells")
parser.add_argument("--out", type=Path, default=None, help="folder for JSON and Markdown")
args = parser.parse_args()
if unknown := set(args.parts) - set(PARTS):
    parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
# Before numpy: the libraries read these when they are loaded.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _performance import kernels  # noqa: E402
from _performance.tables import in_markdown  # noqa: E402
from _performance.timing import (  # noqa: E402
    clock,
    costs_of_epochs,
    machine,
    overhead,
    peak_memory,
    section,
    spread,
)
from sklearn.model_selection import GridSearchCV  # noqa: E402
from torch.profiler import ProfilerActivity  # noqa: E402
from torch.profiler import profile as torch_profile  # noqa: E402

from sklearn_dpvae import DPVAESpatialRegressor  # noqa: E402

torch.set_num_threads(1)
NET = {"hidden": (128, 128), "dropout": 0.5, "batch_size": 256}
SMALL = {"hidden": (32,), "dropout": 0.5, "batch_size": 128}


def measure_overhead():
    cases = {
        "3,000 x 2,000 dense, batch 256": (section(3000, 2000), NET),
        "3,000 x 2,000 CSR (10 %), batch 256": (section(3000, 2000, sparse=True), NET),
        "3,000 x 30 dense, one layer of 32, batch 128": (section(3000, 30), SMALL),
        "3,000 x 30 CSR (50 %), one layer of 32, batch 128": (
            section(3000, 30, sparse=True, density=0.5),
            SMALL,
        ),
    }
    for name, ((X, coords), settings) in cases.items():
        epochs = (10 if settings is SMALL else 3) * args.repeats
        found = overhead(X, coords, epochs=epochs, **settings)
        yield {
            "case": name,
            "fit, ms an epoch": found["epoch_ms"]["fit"],
            "over the same kernels in a bare loop": found["over_same_kernels"],
            "over stock torch layers": found["over_plain_torch"],
        }


def measure_scaling():
    sizes = (1000, 10_000, 100_000, 1_000_000) if args.large else (1000, 10_000, 100_000)
    cases = [("cells", (n, 1000, True, 256)) for n in sizes]
    cases += [("genes, dense", (3000, g, False, 256)) for g in (300, 1000, 3000, 10_000)]
    cases += [("genes, CSR", (3000, g, True, 256)) for g in (300, 1000, 3000, 10_000)]
    cases += [("batch", (4096, 1000, False, b)) for b in (64, 256, 1024, 4096)]
    for varied, (n, genes, sparse, batch) in cases:
        X, coords = section(n, genes, sparse=sparse)
        settings = NET | {"batch_size": batch, "max_epochs": 6 if n < 50_000 else 2}
        cost = float(np.min(costs_of_epochs(X, coords, {}, **settings)["fit"]))
        yield {
            "varied": varied,
            "cells": n,
            "genes": genes,
            "storage": "CSR" if sparse else "dense",
            "batch": batch,
            "s an epoch": cost,
            "us a cell": 1e6 * cost / n,
        }


FIT = """
from sklearn_dpvae import DPVAESpatialRegressor
from _performance.timing import section
# What is imported and allocated once, whatever the size.
DPVAESpatialRegressor(max_epochs=1, device="cpu").fit(*section(50, 20))
X, coords = section({n}, {genes}, sparse={sparse}, dtype="{dtype}")
before = peak()
DPVAESpatialRegressor(n_estimators={members}, max_epochs=1, batch_size={batch}, random_state=0,
                      device="cpu").fit(X, coords)
"""

PAIRS = """
import numpy
from sklearn_dpvae._network.losses import distance_preservation
from _performance.timing import section
z = torch.randn({n}, 2, requires_grad=True)
s = torch.randn({n}, 2)
before = peak()
distance_preservation(z, s, torch.ones(())).backward()
"""


def measure_memory():
    fits = {
        "20,000 x 1,000 dense float32": dict(n=20_000, genes=1000, sparse=False, dtype="float32"),
        "20,000 x 1,000 dense float64": dict(n=20_000, genes=1000, sparse=False, dtype="float64"),
        "40,000 x 1,000 CSR float32": dict(n=40_000, genes=1000, sparse=True, dtype="float32"),
        "40,000 x 1,000 CSR float64": dict(n=40_000, genes=1000, sparse=True, dtype="float64"),
    }
    for name, case in fits.items():
        found = peak_memory(FIT.format(**case, batch=128, members=2))
        X, _ = section(case["n"], case["genes"], sparse=case["sparse"], dtype=case["dtype"])
        size = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes if case["sparse"] else X.nbytes
        yield {
            "case": f"fit of two members, {name}",
            "X, MB": size / 2**20,
            "beyond X, MB": found["grown_mb"],
            "peak, MB": found["peak_mb"],
        }
    n = 20_000
    for members in (1, 8):
        found = peak_memory(
            FIT.format(n=n, genes=30, sparse=False, dtype="float32", batch=n, members=members)
        )
        yield {
            "case": f"batch_size=20,000 on 20,000 x 30, {members} member{'s' * (members > 1)}",
            "X, MB": n * 30 * 4 / 2**20,
            "beyond X, MB": found["grown_mb"],
            "peak, MB": found["peak_mb"],
        }
    found = peak_memory(PAIRS.format(n=n))
    yield {
        "case": "pair term of 20,000 cells, with its gradient",
        "X, MB": 0.0,
        "beyond X, MB": found["grown_mb"],
        "peak, MB": found["peak_mb"],
    }


PIPELINE = """
import time
import numpy as np
from _performance.timing import section
from sklearn_dpvae import make_spatial_pipeline
make_spatial_pipeline(max_epochs=1, device="cpu").fit(
    *section(50, 20, sparse=True, density=0.5)
)
X, coords = section({n}, {genes}, sparse=True)
X.data = np.ceil(X.data).astype(np.int32)
before = peak()
model = make_spatial_pipeline(random_state=0, device="cpu")
start = time.process_time()
parts = X
for _, step in model.steps[:-1]:
    parts = step.fit_transform(parts, coords)
ready = time.process_time()
model.steps[-1][1].fit(parts, coords)
fitted = time.process_time()
del parts
model.predict(X)
print(ready - start, fitted - ready, time.process_time() - fitted)
"""


def measure_pipeline():
    """Counts to positions at the defaults, the training passes over the cells ten times."""
    genes = 2000
    for n in (10_000, 100_000, 1_000_000) if args.large else (10_000, 100_000):
        found = peak_memory(PIPELINE.format(n=n, genes=genes))
        before, fit, predict = (float(value) for value in found["printed"])
        yield {
            "case": f"{n:,} x {genes:,}",
            "steps before the net, s": before,
            "training, s": fit,
            "placing all cells, s": predict,
            "X, MB": n * (8 * genes // 10 + 4) / 2**20,
            "beyond X, MB": found["grown_mb"],
            "peak, MB": found["peak_mb"],
        }


def measure_predict():
    for n, genes, sparse in ((10_000, 1000, False), (10_000, 1000, True), (100_000, 30, False)):
        X, coords = section(n, genes, sparse=sparse)
        model = DPVAESpatialRegressor(max_epochs=1, random_state=0, device="cpu")
        model.fit(X[:2000], coords[:2000])
        units = model.n_estimators * 128
        dense = X.toarray() if sparse else X
        weights = np.ones((genes, units))
        seconds, ratios = [], []
        for _ in range(args.repeats):
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


def measure_search():
    X, coords = section(500, 30)
    seconds, work = {1: [], 2: []}, {1: [], 2: []}
    model = DPVAESpatialRegressor(n_estimators=2, max_epochs=20, random_state=0, device="cpu")
    grid = {"distance_weight": [0.3, 1.0, 3.0, 10.0]}
    for repeat in range(1 + args.repeats // 2):
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


# The first group whose words occur in the name of an operation takes it.
GROUPS = {
    "matrix products": ("bmm", "aten::mm", "addmm"),
    "layer norm": ("layer_norm",),
    "random numbers": ("random_", "normal_", "bernoulli", "uniform_"),
    "optimizer's kernel": ("_fused_adam", "_foreach"),
    "gathers and copies": ("index", "copy", "aten::cat", "aten::to", "empty", "fill", "zero"),
    "other kernels": ("aten::",),
    "Python, autograd, dispatch": ("",),
}


def measure_profile():
    X, coords = section(800, 30)
    for name, members in (("default, eight members", 8), ("one member", 1)):
        model = DPVAESpatialRegressor(
            n_estimators=members, max_epochs=20, random_state=0, device="cpu"
        )
        model.fit(X, coords)
        with torch_profile(activities=[ProfilerActivity.CPU]) as profiled:
            model.fit(X, coords)
        events = profiled.key_averages()
        total = sum(event.self_cpu_time_total for event in events)
        shares = dict.fromkeys(GROUPS, 0.0)
        for event in events:
            group = next(g for g, words in GROUPS.items() if any(w in event.key for w in words))
            shares[group] += event.self_cpu_time_total / total
        pairs = sum(e.cpu_time_total for e in events if e.key == "_DistancePreservation")
        percent = {group: 100 * share for group, share in shares.items()}
        yield {"800 x 30, in %": name, **percent, "of all, the pair term": 100 * pairs / total}


def measure_kernels():
    cases = {
        "pair term over torch.cdist, 8 members x 128 cells": kernels.pair_term(8, 128),
        "pair term over torch.cdist, 1 x 1,000": kernels.pair_term(1, 1000),
        "pair term over torch.cdist, 1 x 4,000": kernels.pair_term(1, 4000),
        "dropout over torch's, 8 x 128 cells x 128 units": kernels.dropout(8),
        "AdamW's step as one kernel over torch's default, 8 members": kernels.optimizer_step(8),
    }
    for name, ratios in cases.items():
        yield {"case": name, "ratio of costs": spread(ratios)}


def main():
    results = {}
    if args.out is not None and (args.out / "performance.json").exists():
        results = json.loads((args.out / "performance.json").read_text())
    results["machine"] = machine()
    for part in args.parts or PARTS:
        results[part] = list(globals()[f"measure_{part}"]())
        print(in_markdown(part, results[part]), flush=True)
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
            results = {name: results[name] for name in ("machine", *PARTS) if name in results}
            text = [in_markdown(name, rows) for name, rows in results.items() if name in PARTS]
            (args.out / "performance.json").write_text(json.dumps(results, indent=1) + "\n")
            (args.out / "performance.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
