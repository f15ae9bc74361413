"""Layers with a leading axis of ensemble members."""

import math

import torch
from torch import Tensor, nn

from .random import generator_on

# Of weights and buffers, whatever the caller's default is.
FLOAT = torch.float32


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x @ weight + bias of each member.

    Under torch's autocast the factors of the product are rounded, and nothing else: a bias may be
    larger than the differences that matter, such as the logarithm of a gene's share.
    """
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.bmm(x, weight).to(bias.dtype) + bias
    return torch.baddbmm(bias, x, weight)


class EnsembleLinear(nn.Module):
    """One `nn.Linear` for each member, computed as one batched product.

    Parameters
    ----------
    n_members, n_inputs, n_outputs : int

    Notes
    -----
    Each member starts as `nn.Linear` does, uniform within 1 / sqrt(n_inputs).
    """

    def __init__(self, n_members: int, n_inputs: int, n_outputs: int):
        super().__init__()
        bound = 1.0 / math.sqrt(n_inputs)
        self.weight = nn.Parameter(torch.empty(n_members, n_inputs, n_outputs, dtype=FLOAT))
        self.bias = nn.Parameter(torch.empty(n_members, 1, n_outputs, dtype=FLOAT))
        for parameter in (self.weight, self.bias):
            generator = generator_on(parameter.device)
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n_members, n_cells, n_inputs) to (n_members, n_cells, n_outputs)."""
        return affine(x, self.weight, self.bias)


class EnsembleLayerNorm(nn.Module):
    """Layer normalization over the last axis, with gains and shifts of each member."""

    def __init__(self, n_members: int, n_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_members, 1, n_features, dtype=FLOAT))
        self.bias = nn.Parameter(torch.zeros(n_members, 1, n_features, dtype=FLOAT))

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[-1:]
        if len(self.weight) == 1:
            return nn.functional.layer_norm(x, shape, self.weight.view(-1), self.bias.view(-1))
        # Not `torch.addcmul`: its backward pass costs more than it saves.
        return nn.functional.layer_norm(x, shape) * self.weight + self.bias
