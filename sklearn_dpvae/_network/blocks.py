"""Parts of the network: stacks of hidden layers, Gaussian heads, levels of a hierarchy.

Imports the layers and the noise.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .layers import EnsembleLayerNorm, EnsembleLinear, affine
from .noise import Dropout, GaussianNoise

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}

# exp(-12) to exp(6): a posterior variance beyond these only costs precision.
_LOG_VAR_RANGE = (-12.0, 6.0)


def hidden_layers(
    n_members: int,
    n_inputs: int,
    sizes: Sequence[int],
    *,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    input_noise: float = 0.0,
    activation: str = "silu",
    layer_norm: bool = True,
) -> nn.Sequential:
    """Noise and dropout on the input, then for each size: linear, norm, activation, dropout."""
    layers: list[nn.Module] = []
    if input_noise:
        layers.append(GaussianNoise(input_noise))
    if input_dropout:
        layers.append(Dropout(input_dropout))
    for n_in, n_out in zip((n_inputs, *sizes), sizes, strict=False):
        layers.append(EnsembleLinear(n_members, n_in, n_out))
        if layer_norm:
            layers.append(EnsembleLayerNorm(n_members, n_out))
        layers.append(ACTIVATIONS[activation]())
        if dropout:
            layers.append(Dropout(dropout))
    return nn.Sequential(*layers)


class GaussianHead(nn.Module):
    """Mean and log-variance of a diagonal Gaussian, from a hidden layer."""

    def __init__(self, n_members: int, n_hidden: int, n_components: int):
        super().__init__()
        self.mean = EnsembleLinear(n_members, n_hidden, n_components)
        self.log_var = EnsembleLinear(n_members, n_hidden, n_components)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        # One product for both: with so few columns it costs as much as either alone.
        weight = torch.cat([self.mean.weight, self.log_var.weight], dim=-1)
        bias = torch.cat([self.mean.bias, self.log_var.bias], dim=-1)
        mean, log_var = affine(hidden, weight, bias).chunk(2, dim=-1)
        return mean, log_var.clamp(*_LOG_VAR_RANGE)


def gaussian_net(
    n_members: int, n_inputs: int, n_hidden: int, n_components: int, **hidden: Any
) -> nn.Sequential:
    """One hidden layer and a Gaussian head: a diagonal Gaussian given the input."""
    return nn.Sequential(
        hidden_layers(n_members, n_inputs, (n_hidden,), **hidden),
        GaussianHead(n_members, n_hidden, n_components),
    )


class Level(nn.Module):
    """One step of a hierarchy: q(z_up | z) on the way up and p(z | z_up) on the way down."""

    up: nn.Sequential
    down: nn.Sequential

    def __init__(self, n_members: int, n_components: int, n_up: int, n_hidden: int, **shared: Any):
        super().__init__()
        self.up = gaussian_net(n_members, n_components, n_hidden, n_up, **shared)
        self.down = gaussian_net(n_members, n_up, n_hidden, n_components, **shared)

    @property
    def posterior(self) -> GaussianHead:
        """The head of what is inferred."""
        head: GaussianHead = self.up[-1]  # type: ignore[assignment]
        return head


class DenoisingLevel(nn.Module):
    """One step down a hierarchy: q(z | z_up, x) and p(z | z_up).

    The encoder's last layer stands for x. The network that infers z is told what lies above it,
    so that its divergence from the prior is known in closed form.
    """

    infer: nn.Sequential
    down: nn.Sequential

    def __init__(self, n_members: int, n_components: int, n_up: int, n_hidden: int, **shared: Any):
        super().__init__()
        self.infer = gaussian_net(n_members, n_hidden + n_up, n_hidden, n_components, **shared)
        self.down = gaussian_net(n_members, n_up, n_hidden, n_components, **shared)

    @property
    def posterior(self) -> GaussianHead:
        """The head of what is inferred."""
        head: GaussianHead = self.infer[-1]  # type: ignore[assignment]
        return head
