"""What the encoder sees of counts. Imports the layers only."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from .layers import FLOAT


class StandardizedCounts(nn.Module):
    """z-scores of log(1 + x / library * median library), computed from counts.

    The library size is computed from the row itself, so that a query is treated as the reference
    was, and row by row. Rows without any counts are answered like rows of equal zeros.

    Parameters
    ----------
    n_genes : int
    """

    median_library: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, n_genes: int):
        super().__init__()
        self.register_buffer("median_library", torch.tensor(1.0, dtype=FLOAT))
        self.register_buffer("mean", torch.zeros(n_genes, dtype=FLOAT))
        self.register_buffer("std", torch.ones(n_genes, dtype=FLOAT))

    def start_at(self, median_library: float, mean: ArrayLike, std: ArrayLike) -> None:
        """Take over the statistics of a reference.

        Parameters
        ----------
        median_library : float
        mean, std : array-like of shape (n_genes,)
            Of its log-normalized counts.
        """
        self.median_library.fill_(median_library)
        self.mean.copy_(torch.as_tensor(mean))
        self.std.copy_(torch.as_tensor(std))

    def forward(self, x: Tensor) -> Tensor:
        # `_utils.counts.log_normalize` in torch: a part of the network runs on its device and is
        # saved with it.
        library = x.sum(dim=-1, keepdim=True).clamp_min(1e-8)
        return ((x * (self.median_library / library)).log1p() - self.mean) / self.std
