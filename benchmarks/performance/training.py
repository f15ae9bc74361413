"""The cost of training: beside loops written by hand, by size, and by operation."""

import numpy as np
from skorch.callbacks import Callback
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from sklearn_dpvae import DPVAESpatialRegressor

from .._common.simulated import section
from .._common.timing import clock, spread
from . import bare_loop, internals

NET = {"hidden": (128, 128), "dropout": 0.5, "batch_size": 256}
SMALL = {"hidden": (32,), "dropout": 0.5, "batch_size": 128}


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


def measure_overhead(options):
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
        epochs = (10 if settings is SMALL else 3) * options.repeats
        found = overhead(X, coords, epochs=epochs, **settings)
        yield {
            "case": name,
            "fit, ms an epoch": found["epoch_ms"]["fit"],
            "over the same kernels in a bare loop": found["over_same_kernels"],
            "over stock torch layers": found["over_plain_torch"],
        }


def measure_scaling(options):
    sizes = (1000, 10_000, 100_000, 1_000_000) if options.large else (1000, 10_000, 100_000)
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


def measure_profile(options):
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
        pairs = sum(e.cpu_time_total for e in events if e.key == internals.PAIR_TERM)
        percent = {group: 100 * share for group, share in shares.items()}
        yield {"800 x 30, in %": name, **percent, "of all, the pair term": 100 * pairs / total}
