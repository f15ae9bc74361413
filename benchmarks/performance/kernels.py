"""Parts of a training step beside what torch has for the same."""

import torch

from .._common.timing import ratios_in_turns, spread
from . import internals

REPEATS = 15


def pair_term(n_members, n_cells):
    """Value and gradient by tiles over those by `torch.cdist` and autograd."""
    z = torch.randn(n_members, n_cells, 2, requires_grad=True)
    s = torch.randn(n_members, n_cells, 2)
    scale = torch.ones(n_members)

    def naive():
        residual = torch.cdist(z, z) - scale[:, None, None] * torch.cdist(s, s)
        torch.autograd.grad(residual.abs().mean(), z)

    def ours():
        torch.autograd.grad(internals.pair_term(z, s, scale).sum(), z)

    return ratios_in_turns(ours, naive, REPEATS)


def dropout(n_members):
    """The package's dropout over torch's, forward, on a default batch."""
    x = torch.randn(n_members, 128, 128)
    mine, torchs = internals.Dropout(0.3), torch.nn.Dropout(0.3)
    return ratios_in_turns(lambda: mine(x), lambda: torchs(x), REPEATS)


def optimizer_step(n_members):
    """One kernel for AdamW over torch's default, on the net of the default pipeline."""
    steps = []
    for fused in (True, None):
        module = internals.make_module(20, n_members=n_members)
        optimizer = torch.optim.AdamW(module.parameters(), 1e-3, fused=fused)
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        steps.append(optimizer.step)
    return ratios_in_turns(*steps, REPEATS)


def measure_kernels(options):
    cases = {
        "pair term over torch.cdist, 8 members x 128 cells": pair_term(8, 128),
        "pair term over torch.cdist, 1 x 1,000": pair_term(1, 1000),
        "pair term over torch.cdist, 1 x 4,000": pair_term(1, 4000),
        "dropout over torch's, 8 x 128 cells x 128 units": dropout(8),
        "AdamW's step as one kernel over torch's default, 8 members": optimizer_step(8),
    }
    for name, ratios in cases.items():
        yield {"case": name, "ratio of costs": spread(ratios)}
