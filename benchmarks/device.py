"""What training costs on a device, beside what the device can do. Made for GPUs.

    python -m benchmarks.device --out benchmarks/results         # CUDA where there is any
    python -m benchmarks.device epoch --device cpu --cells 3000  # one part, elsewhere

Parts: `limits` (arithmetic, bandwidth and the cost of one small operation, all measured), `fit`
(seconds of a fit at the defaults on 3,600 x 1,000, the first of a process and later ones),
`epoch` (one pass over --cells cells of 1,000 genes, CSR on the host). `epoch` also counts what a
step does, in floating-point operations, bytes read and written, and operations of torch, and
says how long each would take at the limit; the longest is called the bound. Bytes are those of
all arguments and results: what a cache keeps is not moved, so that their share can pass 100 %.
`waits` is how often a step waits for the device, which torch tells of CUDA only. Times are of the
wall clock: leave the device alone meanwhile. `python benchmarks/device.py` does the same from any
folder, with the package installed or not.
"""

import argparse
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

if not __package__:  # called as a script: start again as a module of the repository
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    sys.exit(subprocess.call([sys.executable, "-m", "benchmarks.device", *sys.argv[1:]]))

import numpy as np
import torch
from skorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sklearn_dpvae import DPVAESpatialRegressor

from ._common.machine import machine
from ._common.simulated import section
from ._common.store import Store, fingerprint
from ._common.tables import table_of
from ._common.timing import spread

PRECISIONS = ("float32", "bfloat16")


def finish(device):
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work, device, repeats):
    """The shortest of some runs, after one that is not counted."""
    found = []
    for _ in range(1 + repeats):
        finish(device)
        start = time.perf_counter()
        work()
        finish(device)
        found.append(time.perf_counter() - start)
    return min(found[1:])


def limits(device, repeats):
    """Operations a second by precision, bytes a second, and seconds of one small operation."""
    large = torch.device(device).type == "cuda"
    n = 8192 if large else 1024
    arithmetic = {}
    for precision in PRECISIONS:
        a = torch.randn(n, n, device=device, dtype=getattr(torch, precision))
        arithmetic[precision] = 2 * n**3 / seconds(lambda a=a: a @ a, device, repeats)
    values = torch.zeros(2**28 if large else 2**25, device=device)
    bandwidth = 2 * values.nbytes / seconds(values.clone, device, repeats)
    one = torch.zeros(1, device=device)
    launch = seconds(lambda: [one.add(1) for _ in range(1000)], device, repeats) / 1000
    return {"arithmetic": arithmetic, "bandwidth": bandwidth, "launch": launch}


class Traffic(TorchDispatchMode):
    """Operations of torch that do something, and the bytes of what they read and wrote."""

    def __init__(self):
        super().__init__()
        self.n_operations = self.n_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.n_operations += 1
            tensors = {id(x): x for x in tree_leaves((args, kwargs, found)) if torch.is_tensor(x)}
            self.n_bytes += sum(x.nbytes for x in tensors.values())
        return found


class CountStep(Callback):
    """What one step does, without the optimizer's part."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        batch = next(iter(X))
        net.train_step_single(batch)  # libraries start at first use
        with FlopCounterMode(display=False) as counter:
            net.train_step_single(batch)
        with Traffic() as self.traffic:
            net.train_step_single(batch)
        self.flops = counter.get_total_flops()
        self.waits = None
        if torch.device(net.device).type == "cuda":
            self.waits = waits_of(lambda: net.train_step_single(batch))


def waits_of(work):
    """How often work on CUDA makes the host wait, as torch itself notices."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("synchroniz" in str(w.message) for w in caught)


def measure_limits(args):
    found = limits(args.device, args.repeats)
    yield {
        **{f"{p}, TFLOP/s": v / 1e12 for p, v in found["arithmetic"].items()},
        "copy, GB/s": found["bandwidth"] / 1e9,
        "one small operation, us": 1e6 * found["launch"],
    }


def measure_fit(args):
    X, coords = section(3600, 1000)
    for precision in PRECISIONS:
        times = []
        for _ in range(1 + args.repeats):
            start = time.perf_counter()
            DPVAESpatialRegressor(device=args.device, precision=precision, random_state=0).fit(
                X, coords
            )
            times.append(time.perf_counter() - start)
        yield {
            "case": "default fit, 3,600 x 1,000",
            "precision": precision,
            "first, s": times[0],
            "later, s": spread(times[1:]),
        }


def measure_epoch(args):
    X, coords = section(args.cells, 1000, sparse=True)
    can = limits(args.device, args.repeats)
    for members, batch in ((1, 256), (8, 128), (1, 4096)):
        batch = min(batch, args.cells)
        for precision in PRECISIONS:
            counted = CountStep()
            model = DPVAESpatialRegressor(
                n_estimators=members,
                max_samples=1.0,
                batch_size=batch,
                max_epochs=1 + args.repeats,
                precision=precision,
                device=args.device,
                random_state=0,
                callbacks=[counted],
            ).fit(X, coords)
            epoch = float(np.median([row["dur"] for row in model.history_[1:]]))
            step = epoch / -(-args.cells // batch)
            shares = {
                "arithmetic": counted.flops / can["arithmetic"][precision] / step,
                "traffic": counted.traffic.n_bytes / can["bandwidth"] / step,
                "launches": counted.traffic.n_operations * can["launch"] / step,
            }
            yield {
                "cells": args.cells,
                "nets": members,
                "batch": batch,
                "precision": precision,
                "s an epoch": epoch,
                "us a step": 1e6 * step,
                "GFLOP/s": counted.flops / step / 1e9,
                **{f"{name}, % of the step": 100 * share for name, share in shares.items()},
                "bound": max(shares, key=shares.__getitem__),
                **({} if counted.waits is None else {"waits": counted.waits}),
            }


MEASURES = {"limits": measure_limits, "fit": measure_fit, "epoch": measure_epoch}


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.device",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(MEASURES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cells", type=int, default=1_000_000, help="of the part epoch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for device.json")
    args = parser.parse_args(argv)
    if unknown := set(args.parts) - set(MEASURES):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {list(MEASURES)}")
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.device(args.device).type
    name = torch.cuda.get_device_name(args.device) if kind == "cuda" else kind
    here = {"device": name, "cores": os.cpu_count()} | machine()
    # Always measured anew: what is there may be of another device.
    config = fingerprint(here, args.cells, args.repeats)
    path = None if args.out is None else args.out / "device.json"
    results = Store(path, key=("part",), config=lambda _: config)
    parts = args.parts or list(MEASURES)
    for part in parts:
        rows = list(MEASURES[part](args))
        results.add({"part": part, "machine": here, "rows": rows})
        print(f"### {part}\n\n{table_of(rows)}", flush=True)
    return {record["part"]: record for record in results}


if __name__ == "__main__":
    main()
