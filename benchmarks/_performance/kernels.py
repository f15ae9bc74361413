"""Parts of a training step beside what torch has for the same."""

import numpy as np
import torch

from sklearn_dpvae._network.dpvae import DPVAE
from sklearn_dpvae._network.layers import Dropout
from sklearn_dpvae._network.losses import distance_preservation

from .timing import clock


def ratios_of(ours, other, repeats=15):
    """Ratios of two functions' costs, run in turns."""
    ratios = []
    for _ in range(repeats):
        start = clock()
        ours()
        middle = clock()
        other()
        ratios.append((middle - start) / (clock() - middle))
    return np.array(ratios)


def pair_term(n_members, n_cells):
    """Value and gradient by tiles over those by `torch.cdist` and autograd."""
    z = torch.randn(n_members, n_cells, 2, requires_grad=True)
    s = torch.randn(n_members, n_cells, 2)
    scale = torch.ones(n_members)

    def naive():
        residual = torch.cdist(z, z) - scale[:, None, None] * torch.cdist(s, s)
        torch.autograd.grad(residual.abs().mean(), z)

    def ours():
        torch.autograd.grad(distance_preservation(z, s, scale).sum(), z)

    return ratios_of(ours, naive)


def dropout(n_members):
    """The package's dropout over torch's, forward, on a default batch."""
    x = torch.randn(n_members, 128, 128)
    mine, torchs = Dropout(0.3), torch.nn.Dropout(0.3)
    return ratios_of(lambda: mine(x), lambda: torchs(x))


def optimizer_step(n_members):
    """One kernel for AdamW over torch's default, on the net of the default pipeline."""
    steps = []
    for fused in (True, None):
        module = DPVAE(20, 2, n_members)
        optimizer = torch.optim.AdamW(module.parameters(), 1e-3, fused=fused)
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        steps.append(optimizer.step)
    return ratios_of(*steps)
