"""Clocks, inputs, and ratios of costs measured side by side."""

import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from skorch.callbacks import Callback

from sklearn_dpvae import DPVAESpatialRegressor

from . import bare_loop

# Time of this process alone: a busy machine slows it by shared caches, but not by waiting.
clock = time.process_time


class InTurn(Callback):
    """Measure the epochs of a fit and, after each of them, one of every other loop."""

    def __init__(self, loops):
        self.loops = loops
        self.seconds = {name: [] for name in ("fit", *loops)}

    def on_train_begin(self, net, **kwargs):
        self.start_ = clock()

    def on_epoch_end(self, net, **kwargs):
        self.seconds["fit"].append(clock() - self.start_)
        for name, loop in self.loops.items():
            start = clock()
            loop.epoch()
            self.seconds[name].append(clock() - start)
        self.start_ = clock()


def section(n_cells, n_genes, *, sparse=False, density=0.1, dtype=np.float32, seed=0):
    """Expression without meaning, of the shape and density asked for, and positions."""
    rng = np.random.default_rng(seed)
    coords = rng.uniform(size=(n_cells, 2))
    if not sparse:
        return rng.standard_normal((n_cells, n_genes), dtype=np.float32).astype(dtype), coords
    per_row = max(1, round(density * n_genes))
    indptr = np.arange(0, n_cells * per_row + 1, per_row)
    # One sorted column from each of `per_row` equal bins: distinct without sorting.
    edges = np.linspace(0, n_genes, per_row + 1).astype(np.int32)
    indices = rng.integers(edges[:-1], edges[1:], size=(n_cells, per_row), dtype=np.int32)
    values = rng.uniform(0.5, 2, size=n_cells * per_row).astype(dtype)
    return sp.csr_matrix((values, indices.ravel(), indptr), shape=(n_cells, n_genes)), coords


def costs_of_epochs(X, coords, loops, *, hidden, dropout, batch_size, max_epochs):
    """Costs of the epochs of a fit of one member and of other loops, but the first."""
    turns = InTurn(loops)
    DPVAESpatialRegressor(
        n_estimators=1,
        hidden_layer_sizes=hidden,
        dropout=dropout,
        batch_size=batch_size,
        max_epochs=max_epochs,
        random_state=0,
        device="cpu",
        callbacks=[turns],
    ).fit(X, coords)
    return {name: np.array(seconds[1:]) for name, seconds in turns.seconds.items()}


def overhead(X, coords, *, epochs, **settings):
    """Cost of an epoch of a fit over that of each bare loop, and the spread of the ratios.

    Epochs of all of them are run in turns, so that they meet the same machine: each ratio is of
    two costs that were measured within a second.
    """
    settings["max_epochs"] = epochs + 1
    kinds = {"same_kernels": bare_loop.SameKernels(), "plain_torch": bare_loop.PlainTorch()}
    loops = {name: bare_loop.Loop(kind, X, coords, **settings) for name, kind in kinds.items()}
    seconds = costs_of_epochs(X, coords, loops, **settings)
    return {
        "epoch_ms": {name: 1e3 * float(np.median(v)) for name, v in seconds.items()},
        **{f"over_{name}": spread(seconds["fit"] / seconds[name]) for name in kinds},
    }


def spread(values):
    """Median, and first and third quartile."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": float(middle), "low": float(low), "high": float(high)}


def peak_memory(code):
    """Megabytes by which a fresh process grew between X and the end of the code, at the peak.

    The code makes `X` and `coords`, sets ``before = peak()``, and goes on; what it prints is
    returned in words. On Linux only.
    """
    script = (
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]!r}\n"
        "import torch; torch.set_num_threads(1)\n"
        # Not ru_maxrss, which starts at that of the process that started this one.
        "def peak():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(line.split()[1] for line in lines if line.startswith('VmHWM'))\n"
        f"{code}\n"
        "print(before, peak())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    *printed, before, after = done.stdout.split()
    before, after = int(before) / 2**10, int(after) / 2**10
    return {
        "before_mb": before,
        "peak_mb": after,
        "grown_mb": after - before,
        "printed": printed,
    }


def machine():
    return {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
