"""Peaks of memory, and the whole way from counts to positions, each in a process of its own."""

from .._common.machine import peak_of_fresh_process
from .._common.simulated import section

FIT = """
from sklearn_dpvae import DPVAESpatialRegressor
from benchmarks._common.simulated import section
# What is imported and allocated once, whatever the size.
DPVAESpatialRegressor(max_epochs=1, device="cpu").fit(*section(50, 20))
X, coords = section({n}, {genes}, sparse={sparse}, dtype="{dtype}")
before = peak_memory()
DPVAESpatialRegressor(n_estimators={members}, max_epochs=1, batch_size={batch}, random_state=0,
                      device="cpu").fit(X, coords)
"""

PAIRS = """
from benchmarks.performance.internals import pair_term
z = torch.randn({n}, 2, requires_grad=True)
s = torch.randn({n}, 2)
before = peak_memory()
pair_term(z, s, torch.ones(())).backward()
"""


def measure_memory(options):
    fits = {
        "20,000 x 1,000 dense float32": dict(n=20_000, genes=1000, sparse=False, dtype="float32"),
        "20,000 x 1,000 dense float64": dict(n=20_000, genes=1000, sparse=False, dtype="float64"),
        "40,000 x 1,000 CSR float32": dict(n=40_000, genes=1000, sparse=True, dtype="float32"),
        "40,000 x 1,000 CSR float64": dict(n=40_000, genes=1000, sparse=True, dtype="float64"),
    }
    for name, case in fits.items():
        found = peak_of_fresh_process(FIT.format(**case, batch=128, members=2))
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
        found = peak_of_fresh_process(
            FIT.format(n=n, genes=30, sparse=False, dtype="float32", batch=n, members=members)
        )
        yield {
            "case": f"batch_size=20,000 on 20,000 x 30, {members} member{'s' * (members > 1)}",
            "X, MB": n * 30 * 4 / 2**20,
            "beyond X, MB": found["grown_mb"],
            "peak, MB": found["peak_mb"],
        }
    found = peak_of_fresh_process(PAIRS.format(n=n))
    yield {
        "case": "pair term of 20,000 cells, with its gradient",
        "X, MB": 0.0,
        "beyond X, MB": found["grown_mb"],
        "peak, MB": found["peak_mb"],
    }


PIPELINE = """
import time
import numpy as np
from benchmarks._common.simulated import section
from sklearn_dpvae import make_spatial_pipeline
make_spatial_pipeline(max_epochs=1, device="cpu").fit(
    *section(50, 20, sparse=True, density=0.5)
)
X, coords = section({n}, {genes}, sparse=True)
X.data = np.ceil(X.data).astype(np.int32)
before = peak_memory()
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


def measure_pipeline(options):
    """Counts to positions at the defaults, the training passes over the cells ten times."""
    genes = 2000
    for n in (10_000, 100_000, 1_000_000) if options.large else (10_000, 100_000):
        found = peak_of_fresh_process(PIPELINE.format(n=n, genes=genes))
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
