"""What the package's training is compared with: loops written by hand, without skorch.

`SameKernels` runs the package's own module and losses, so that its ratio to a fit is the overhead
of the estimator, the net and the batches. `PlainTorch` is what one would write with torch's
stock layers; the same arithmetic, but none of the package's code.
"""

import numpy as np
import torch
from torch import nn

from .internals import loss_of, make_module


class PlainVAE(nn.Module):
    def __init__(self, n_genes, hidden, dropout):
        super().__init__()
        self.encoder = self.layers(n_genes, hidden, dropout)
        self.mean = nn.Linear(hidden[-1], 2)
        self.log_var = nn.Linear(hidden[-1], 2)
        self.decoder = self.layers(2, hidden[::-1], 0.0)
        self.out = nn.Linear(hidden[0], n_genes)
        self.log_scale = nn.Parameter(torch.zeros(()))

    @staticmethod
    def layers(n_in, sizes, dropout):
        layers = []
        for n_out in sizes:
            layers += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.SiLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            n_in = n_out
        return nn.Sequential(*layers)

    def loss(self, x, s):
        hidden = self.encoder(x)
        mean, log_var = self.mean(hidden), self.log_var(hidden).clamp(-12, 6)
        z = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        misfit = 0.5 * (x - self.out(self.decoder(z))).square().sum(1).mean()
        kl = 0.5 * (mean.square() + log_var.exp() - log_var - 1).sum(1).mean()
        pairs = len(z) * (len(z) - 1)
        residual = torch.cdist(z, z) - self.log_scale.exp() * torch.cdist(s, s)
        zc, sc = z - z.mean(0), s - s.mean(0)
        cross = sc.T @ zc
        det = (cross[0, 0] * cross[1, 1] - cross[0, 1] * cross[1, 0]).abs()
        explained = (cross.square().sum() + 2 * det) / (zc.square().sum() * sc.square().sum())
        distance = residual.abs().sum() / pairs
        return (misfit + kl) / x.shape[1] + 0.3 * distance + 1 - explained


class PlainTorch:
    """Stock layers, stock AdamW, `torch.cdist`."""

    fused = None

    def module(self, n_genes, hidden, dropout):
        return PlainVAE(n_genes, hidden, dropout)

    def loss(self, module, x, s):
        return module.loss(x, s)


class SameKernels:
    """The package's module, losses and optimizer."""

    fused = True

    def module(self, n_genes, hidden, dropout):
        return make_module(n_genes, hidden, dropout)

    def loss(self, module, x, s):
        return loss_of(module, x, s)


class Loop:
    """A training loop; every call of `epoch` is one pass over the cells."""

    def __init__(self, kind, X, coords, *, hidden, dropout, batch_size, max_epochs, device="cpu"):
        self.kind, self.X, self.device = kind, X, device
        s = coords - coords.mean(0)
        s = s / np.sqrt(np.mean(s**2))
        self.s = torch.tensor(s, dtype=torch.float32, device=device)
        self.dense = torch.from_numpy(X).to(device) if isinstance(X, np.ndarray) else None
        self.module = kind.module(X.shape[1], hidden, dropout).to(device).train()
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), 3e-3, weight_decay=0.01, fused=kind.fused
        )
        self.n_batches = -(-X.shape[0] // batch_size)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=3e-3, total_steps=max_epochs * self.n_batches + 1
        )
        self.rng = np.random.default_rng(0)

    def epoch(self):
        total = 0.0
        for rows in np.array_split(self.rng.permutation(self.X.shape[0]), self.n_batches):
            index = torch.from_numpy(rows).to(self.device)
            if self.dense is None:
                x = torch.from_numpy(self.X[rows].toarray()).to(self.device)
            else:
                x = self.dense[index]
            self.optimizer.zero_grad()
            loss = self.kind.loss(self.module, x, self.s[index])
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total = total + loss.detach()
        return float(total)
