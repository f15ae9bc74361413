"""Noise and dropout, in training only. Imports the random numbers."""

import struct

import torch
from torch import Tensor, nn

from .random import generator_on, normal_like


class GaussianNoise(nn.Module):
    """Add noise of a given standard deviation to every element, in training only."""

    def __init__(self, std: float):
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.std == 0:
            return x
        return torch.add(x, normal_like(x), alpha=self.std)

    def extra_repr(self) -> str:
        return f"std={self.std}"


class Dropout(nn.Module):
    """What `nn.Dropout` does, with masks drawn some twenty times faster on a CPU.

    torch draws one random number for each element there, which takes longer than the matrix
    products of these nets. Other devices and precisions do it torch's way.

    Parameters
    ----------
    p : float
        Probability that an element is set to 0, in [0, 1). The others are divided by 1 - p.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type == "cpu" and x.dtype == torch.float32:
            return x * dropout_mask(x.shape, self.p)
        kept = torch.empty_like(x).bernoulli_(1.0 - self.p, generator=generator_on(x.device))
        return x * kept.div_(1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def random_bits(n_words: int, probability: float, n_digits: int = 24) -> Tensor:
    """Words of 64 independent random bits, each of which is 1 with the given probability.

    Think of one uniform number an element, of which word k holds the k-th binary digit for 64
    elements: whether it is below the probability is found from the last digit to the first by
    "or" where the probability has a 1 and by "and" where it has a 0. A probability of 1/2 takes
    a single random bit an element.

    Parameters
    ----------
    n_words : int
    probability : float
        In (0, 1); rounded to `n_digits` binary digits, as many as a float32 has.
    n_digits : int, default=24

    Returns
    -------
    Tensor of shape (n_words,), dtype int64
    """
    below = min(max(round(probability * 2**n_digits), 1), 2**n_digits - 1)
    while below % 2 == 0:
        below, n_digits = below // 2, n_digits - 1
    digits = torch.empty((n_digits, n_words), dtype=torch.int64)
    digits.random_(-(2**63), None, generator=generator_on(digits.device))
    bits = digits[0]
    for place in range(1, n_digits):
        if below >> place & 1:
            bits = bits.bitwise_or_(digits[place])
        else:
            bits = bits.bitwise_and_(digits[place])
    return bits


_PLACES = torch.arange(32, dtype=torch.int32)


def dropout_mask(shape: torch.Size, p: float) -> Tensor:
    """Random factors on the CPU: 0 with probability p, else 1 / (1 - p), of float32."""
    n = shape.numel()
    words = random_bits(-(-n // 64), 1.0 - p).view(torch.int32)
    # Each bit in turn becomes the sign of an integer; the shift back spreads it over all 32
    # bits, and "and" with the bits of the factor leaves either that or 0.
    spread = (words[:, None] << _PLACES).bitwise_right_shift_(31)
    factor = struct.unpack("<i", struct.pack("<f", 1.0 / (1.0 - p)))[0]
    return spread.bitwise_and_(factor).view(torch.float32).view(-1)[:n].view(shape)
