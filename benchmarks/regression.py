"""Fail where training has become slow: python benchmarks/regression.py (about a minute).

Only ratios of costs measured side by side in one process are looked at, so that the speed of the
machine does not matter. Bounds are generous: this is to catch what makes training half as fast
again, not to measure; performance.py does that.
"""

import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _performance.kernels import dropout, pair_term  # noqa: E402
from _performance.timing import overhead, section  # noqa: E402

torch.set_num_threads(1)

NET = {"hidden": (128, 128), "dropout": 0.5, "batch_size": 256}
SMALL = {"hidden": (32,), "dropout": 0.5, "batch_size": 128}


def ratios():
    """Each ratio with its bound."""
    dense, coords = section(3000, 2000)
    sparse, _ = section(3000, 2000, sparse=True)
    small, _ = section(3000, 30)
    fit = {
        "epoch over bare loop, dense": overhead(dense, coords, epochs=9, **NET),
        "epoch over bare loop, CSR": overhead(sparse, coords, epochs=9, **NET),
        "epoch over bare loop, small net": overhead(small, coords, epochs=41, **SMALL),
    }
    bounds = (1.25, 1.25, 1.5)
    for (name, found), bound in zip(fit.items(), bounds, strict=True):
        yield name, found["over_same_kernels"]["median"], bound
        yield f"{name} of stock torch", found["over_plain_torch"]["median"], bound
    yield "pair term over torch.cdist", np.median(pair_term(1, 1500)), 0.8
    yield "dropout over torch's", np.median(dropout(8)), 1.5


def main():
    failed = False
    for name, ratio, bound in ratios():
        within = ratio <= bound
        failed |= not within
        print(f"{'ok  ' if within else 'SLOW'} {name}: {ratio:.2f} (bound {bound})", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
