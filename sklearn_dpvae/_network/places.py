"""A network that tells which of given places a cell is from. Imports the blocks and the layers."""

import torch
from torch import Tensor, nn

from .blocks import hidden_layers
from .layers import FLOAT, EnsembleLinear

_HIDDEN = (128, 128)
_DROPOUT = 0.3
# In standard deviations of the features.
_INPUT_NOISE = 0.1


class PlaceNet(nn.Module):
    """p(place | features), by members that are averaged.

    Parameters
    ----------
    n_features, n_places, n_members : int
    """

    center: Tensor
    scale: Tensor

    def __init__(self, n_features: int, n_places: int, n_members: int):
        super().__init__()
        self.config = {
            "n_features": n_features,
            "n_places": n_places,
            "n_members": n_members,
        }
        self.register_buffer("center", torch.zeros(n_features, dtype=FLOAT))
        self.register_buffer("scale", torch.tensor(1.0, dtype=FLOAT))
        self.hidden = hidden_layers(
            n_members,
            n_features,
            _HIDDEN,
            dropout=_DROPOUT,
            input_noise=_INPUT_NOISE,
            activation="relu",
        )
        self.head = EnsembleLinear(n_members, _HIDDEN[-1], n_places)

    def start_at(self, features: Tensor) -> None:
        """Take over the mean of features, and their mean standard deviation.

        Parameters
        ----------
        features : Tensor of shape (n_cells, n_features)
        """
        self.center.copy_(features.mean(dim=0))
        scale = features.std(dim=0).mean()
        self.scale.copy_(torch.where(scale > 0, scale, torch.ones_like(scale)))

    def forward(self, features: Tensor) -> Tensor:
        """Logarithms of the probabilities that each member gives.

        Parameters
        ----------
        features : Tensor of shape (n_members, n_cells, n_features)

        Returns
        -------
        Tensor of shape (n_members, n_cells, n_places)
        """
        scaled = (features - self.center) / self.scale
        return torch.log_softmax(self.head(self.hidden(scaled)), dim=-1)

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """Probabilities of places, averaged over the members.

        Parameters
        ----------
        features : Tensor of shape (n_cells, n_features)

        Returns
        -------
        Tensor of shape (n_cells, n_places)
        """
        n_members: int = self.config["n_members"]
        features = features.to(self.center.dtype)
        return self(features.expand(n_members, -1, -1)).exp().mean(dim=0)
