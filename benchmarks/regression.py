"""Fail where training has become slow: python -m benchmarks.regression (about a minute).

Only ratios of costs measured side by side in one process are looked at, so that the speed of the
machine does not matter. Bounds are generous: this is to catch what makes training half as fast
again, not to measure; benchmarks.performance does that.
"""

import argparse
import sys

import numpy as np

from ._common.machine import threads
from ._common.simulated import section
from .performance.kernels import dropout, pair_term
from .performance.training import NET, SMALL, overhead


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


@threads(1)
def main(argv=None):
    argparse.ArgumentParser(
        prog="python -m benchmarks.regression", description=__doc__.splitlines()[0]
    ).parse_args(argv)
    failed = False
    for name, ratio, bound in ratios():
        within = ratio <= bound
        failed |= not within
        print(f"{'ok  ' if within else 'SLOW'} {name}: {ratio:.2f} (bound {bound})", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
