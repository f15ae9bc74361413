"""What training costs on a device, beside what the device can do. Made for GPUs.

    python benchmarks/device.py --out benchmarks/results            # CUDA where there is any
    python benchmarks/device.py epoch --device cpu --cells 3000     # one part, elsewhere

Parts: `limits` (arithmetic, bandwidth and the cost of one small operation, all measured), `fit`
(seconds of a fit at the defaults on 3,600 x 1,000, the first of a process and later ones),
`epoch` (one pass over --cells cells of 1,000 genes, CSR on the host). `epoch` also counts what a
step does, in floating-point operations, bytes read and written, and operations of torch, and
says how long each would take at the limit; the longest is called the bound. Bytes are those of
all arguments and results: what a cache keeps is not moved, so that their share can pass 100 %.
`waits` is how often a step waits for the device, which torch tells of CUDA only. Times are of the
wall clock: leave the device alone meanwhile.
"""

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _accuracy.files import write_whole  # noqa: E402
from _performance.tables import in_markdown  # noqa: E402
from _performance.timing import machine, section, spread  # noqa: E402
from skorch.callbacks import Callback  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from sklearn_dpvae import DPVAESpatialRegressor  # noqa: E402
from sklearn_dpvae._fitted.fitting import pick_device  # noqa: E402

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
                "waits": "" if counted.waits is None else counted.waits,
            }


MEASURES = {"limits": measure_limits, "fit": measure_fit, "epoch": measure_epoch}


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(MEASURES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cells", type=int, default=1_000_000, help="of the part epoch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for device.json")
    args = parser.parse_args(argv)
    if unknown := set(args.parts) - set(MEASURES):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {list(MEASURES)}")
    args.device = pick_device(args.device)
    kind = torch.device(args.device).type
    name = torch.cuda.get_device_name(args.device) if kind == "cuda" else kind
    results = {"device": name, "cores": os.cpu_count(), "machine": machine()}
    for part in args.parts or MEASURES:
        results[part] = list(MEASURES[part](args))
        print(in_markdown(part, results[part]), flush=True)
        if args.out is not None:
            write_whole(args.out / "device.json", json.dumps(results, indent=1) + "\n")
    return results


if __name__ == "__main__":
    main()
