"""The network: encoder q(z | x), decoder p(x | z), and the scale c of the distance term.

Several networks, the members of an ensemble, are held in one module and computed together:
tensors have a leading axis of members, and each layer is one batched product.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .blocks import DenoisingLevel, GaussianHead, Level, gaussian_net, hidden_layers
from .inputs import StandardizedCounts
from .layers import FLOAT
from .likelihoods import LIKELIHOODS
from .losses import conditional_divergence, gaussian_divergence, kl_divergence
from .random import normal_like

# How a hierarchy is inferred: from the bottom to the top, or from the top to the bottom.
HIERARCHIES = ("consistency", "denoising")

# Where the posterior log-variances of a hierarchy begin.
_START_LOG_VAR = -4.0


class Pose(nn.Module):
    """A similarity for each member that brings its latents into those of the first.

    Distances fix a latent space up to its pose only, so that every member ends up in one of its
    own; latents can be averaged once these are taken out. The identity until it is set.
    """

    rotation: Tensor
    scale: Tensor
    source_mean: Tensor
    target_mean: Tensor

    def __init__(self, n_members: int, n_components: int):
        super().__init__()
        self.register_buffer(
            "rotation", torch.eye(n_components, dtype=FLOAT).repeat(n_members, 1, 1)
        )
        self.register_buffer("scale", torch.ones(n_members, 1, 1, dtype=FLOAT))
        self.register_buffer("source_mean", torch.zeros(n_members, 1, n_components, dtype=FLOAT))
        self.register_buffer("target_mean", torch.zeros(n_members, 1, n_components, dtype=FLOAT))

    def forward(self, z: Tensor) -> Tensor:
        return self.target_mean + self.scale * ((z - self.source_mean) @ self.rotation)

    def inverse(self, z: Tensor) -> Tensor:
        return self.source_mean + ((z - self.target_mean) @ self.rotation.mT) / self.scale


class InferredLibrary(nn.Module):
    """q(l | x), a log-normal distribution of the library size with a log-normal prior, as in scVI.

    Parameters
    ----------
    n_members, n_outputs, n_hidden : int
    activation : str
    """

    prior: Tensor
    posterior: nn.Sequential

    def __init__(self, n_members: int, n_outputs: int, n_hidden: int, activation: str):
        super().__init__()
        # Normalized layers would hardly see how many counts there are.
        self.posterior = gaussian_net(
            n_members, n_outputs, n_hidden, 1, activation=activation, layer_norm=False
        )
        # Mean and log-variance of the logarithm.
        self.register_buffer("prior", torch.zeros(2))

    @torch.no_grad()
    def start_at(self, mean: float, variance: float) -> None:
        """Take the prior from a reference, and begin there."""
        self.prior.copy_(torch.tensor([mean, variance]).clamp_min(1e-4))
        self.prior[1] = self.prior[1].log()
        head: Any = self.posterior[-1]
        head.mean.bias.add_(self.prior[0])
        nn.init.constant_(head.log_var.bias, _START_LOG_VAR)

    def forward(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """A sample, and the divergence from the prior, of each cell."""
        mean, log_var = self.posterior(counts.log1p())
        divergence = gaussian_divergence(mean, log_var, self.prior[0], self.prior[1])
        return _reparametrized(mean, log_var).squeeze(-1).exp(), divergence


class DPVAE(nn.Module):
    """Variational autoencoders whose latent distances are tied to tissue distances.

    Parameters
    ----------
    n_genes : int
        Number of inputs of the encoder.
    n_components : int or sequence of int
        Size of the latent, d. Several make a hierarchy, from the level next to the expression
        to the top level, which is the map.
    n_members : int
        Number of networks, K. They share nothing.
    hidden_layer_sizes : sequence of int
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    likelihood : str
        Key of `LIKELIHOODS`.
    n_outputs : int, optional
        Number of features that p(x | z) explains; those of the encoder's input by default.
    n_batches : int
        Number of batches that the decoder is conditioned on; 0 for none.
    dropout, input_dropout : float
        Shares of hidden units and of inputs that are dropped in training. The decoder has no
        dropout: its input is already a noisy bottleneck.
    input_noise : float
        Standard deviation of noise that is added in training to what the encoder sees. What the
        decoder explains has none.
    activation : str
        Key of `ACTIVATIONS`.
    layer_norm : bool
        Whether hidden layers are normalized.
    counts_as_input : bool
        Whether x is counts, of which the encoder sees z-scores; see `StandardizedCounts`.
    hierarchy : {"consistency", "denoising"}
        Whether levels are inferred upward, q(z_up | z), or downward, q(z | z_up, x).
    encode_batch : bool
        Whether the encoder is conditioned on the batch, too.
    infer_library : bool
        Whether the library size is a latent of its own instead of the number of counts.

    Attributes
    ----------
    config : dict
        The arguments of the constructor: with the weights, all that the module is.
    """

    conditions: Tensor
    inputs: Any
    # What torch knows as modules only; they are used by methods of their own.
    levels: Any
    likelihood: Any
    library: Any
    pose: Pose

    def __init__(
        self,
        n_genes: int,
        n_components: int | Sequence[int],
        n_members: int = 1,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        likelihood: str = "gaussian",
        n_outputs: int | None = None,
        n_batches: int = 0,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        input_noise: float = 0.0,
        activation: str = "silu",
        layer_norm: bool = True,
        counts_as_input: bool = False,
        hierarchy: str = "consistency",
        encode_batch: bool = False,
        infer_library: bool = False,
    ):
        super().__init__()
        sizes = tuple(hidden_layer_sizes)
        components = (n_components,) if isinstance(n_components, int) else tuple(n_components)
        n_outputs = n_genes if n_outputs is None else n_outputs
        self.config: dict[str, Any] = {
            "n_genes": n_genes,
            "n_components": components,
            "n_members": n_members,
            "hidden_layer_sizes": sizes,
            "likelihood": likelihood,
            "n_outputs": n_outputs,
            "n_batches": n_batches,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "input_noise": input_noise,
            "activation": activation,
            "layer_norm": layer_norm,
            "counts_as_input": counts_as_input,
            "hierarchy": hierarchy,
            "encode_batch": encode_batch,
            "infer_library": infer_library,
        }
        self.n_members = n_members
        self.n_components = components[-1]
        self.n_batches = n_batches
        self.encode_batch = encode_batch
        self.denoising = hierarchy == "denoising"
        shared: dict[str, Any] = {"activation": activation, "layer_norm": layer_norm}
        self.inputs = StandardizedCounts(n_genes) if counts_as_input else nn.Identity()
        self.encoder = hidden_layers(
            n_members,
            n_genes + (n_batches if encode_batch else 0),
            sizes,
            dropout=dropout,
            input_dropout=input_dropout,
            input_noise=input_noise,
            **shared,
        )
        # Of the level that is inferred first.
        first = components[-1 if self.denoising else 0]
        self.posterior = GaussianHead(n_members, sizes[-1], first)
        kind = DenoisingLevel if self.denoising else Level
        self.levels = nn.ModuleList(
            kind(n_members, below, above, sizes[-1], **shared)
            for below, above in pairwise(components)
        )
        # Each level adds its noise to that of those below: beginning at the prior's, hardly
        # anything of x would reach the top, and the upper levels would stay unused.
        heads = [self.posterior, *(level.posterior for level in self.levels)]
        for head in heads if self.levels else ():
            nn.init.constant_(head.log_var.bias, _START_LOG_VAR)
        self.decoder = hidden_layers(n_members, components[0] + n_batches, sizes[::-1], **shared)
        self.likelihood = LIKELIHOODS[likelihood](n_members, sizes[0], n_outputs)
        self.library = None
        if infer_library:
            self.library = InferredLibrary(n_members, n_outputs, sizes[-1], activation)
        # The condition of a batch is its indicator. The last row, which index -1 reaches, is
        # for batches that are not known: the mean of those that are.
        known = torch.eye(n_batches, dtype=FLOAT)
        unknown = torch.full((1, n_batches), 1.0 / max(n_batches, 1), dtype=FLOAT)
        self.register_buffer("conditions", torch.cat([known, unknown]), persistent=False)
        # c > 0 of eq. (3) is learned as its logarithm.
        self.log_scale = nn.Parameter(torch.zeros(n_members, dtype=FLOAT))
        self.pose = Pose(n_members, self.n_components)

    @property
    def scale(self) -> Tensor:
        """c of eq. (3) of each member, in its latent units per unit of the given positions."""
        return self.log_scale.exp()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of each member's q(z | x), at the top of the hierarchy.

        The levels below are at their means. The batch counts as not known.

        Parameters
        ----------
        x : Tensor of shape (n_cells, n_genes) or (n_members, n_cells, n_genes)

        Returns
        -------
        mean, log_var : Tensor of shape (n_members, n_cells, n_components)
        """
        mean, log_var = self.posterior(self._encoder(x))
        for level in () if self.denoising else self.levels:
            mean, log_var = level.up(mean)
        return mean, log_var

    def sample(self, x: Tensor) -> Tensor:
        """A sample of each member's q(z | x) for every cell, through all levels of the hierarchy.

        Parameters
        ----------
        x : Tensor of shape (n_cells, n_genes) or (n_members, n_cells, n_genes)

        Returns
        -------
        Tensor of shape (n_members, n_cells, n_components)
        """
        z = _reparametrized(*self.posterior(self._encoder(x)))
        for level in () if self.denoising else self.levels:
            z = _reparametrized(*level.up(z))
        return z

    def _encoder(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        x = self.inputs(x).expand(self.n_members, -1, -1)
        if self.encode_batch:
            x = torch.cat([x, self._condition(x, batch)], dim=-1)
        hidden: Tensor = self.encoder(x)
        return hidden

    def decode(
        self, z: Tensor, library: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """Expected expression given z in the pose of the first member, averaged over members.

        Parameters
        ----------
        z : Tensor of shape (n_cells, n_components)
        library : Tensor of shape (n_cells,), optional
            Library sizes, which likelihoods of counts need.
        batch : Tensor of shape (n_cells,), dtype int64, optional
            Batch of each cell; -1 is the mean of the known ones, and so is None.

        Returns
        -------
        Tensor of shape (n_cells, n_genes)
        """
        own = self.pose.inverse(z.expand(self.n_members, -1, -1))
        for level in reversed(self.levels):
            own, _ = level.down(own)
        return self.likelihood.expected(self._decoder(own, batch), library).mean(dim=0)

    def _decoder(self, z: Tensor, batch: Tensor | None) -> Tensor:
        if self.n_batches:
            z = torch.cat([z, self._condition(z, batch)], dim=-1)
        return self.decoder(z)

    def _condition(self, like: Tensor, batch: Tensor | None) -> Tensor:
        if batch is None:
            batch = torch.full(like.shape[:-1], -1, device=like.device)
        return self.conditions[batch].expand(*like.shape[:-1], -1)

    def forward(
        self, x: Tensor, batch: Tensor | None = None, counts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Encode, sample z from the posterior by reparametrization, and decode it.

        Parameters
        ----------
        x : Tensor of shape (n_members, n_cells, n_genes)
        batch : Tensor of shape (n_members, n_cells), dtype int64, optional
        counts : Tensor of shape (n_members, n_cells, n_outputs), optional
            What is explained, from which the library size is inferred.

        Returns
        -------
        dict
            "z", the sample at the top; "mean" and "log_var" of its posterior; "kl", the
            divergence of posterior from prior over all levels, of each cell; "hidden", the last
            layer of the decoder; and "library", a sample of the library size, if it is inferred.
        """
        through_levels = self._downward if self.denoising else self._upward
        output, bottom = through_levels(self._encoder(x, batch))
        if self.library is not None:
            output["library"], divergence = self.library(counts)
            output["kl"] = output["kl"] + divergence
        return output | {"hidden": self._decoder(bottom, batch)}

    def _upward(self, hidden: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What is inferred from level to level, and the lowest one, which is decoded."""
        mean, log_var = self.posterior(hidden)
        z = bottom = _reparametrized(mean, log_var)
        kl = torch.zeros(mean.shape[:-1], dtype=mean.dtype, device=mean.device)
        for level in self.levels:
            mean_up, log_var_up = level.up(z)
            z_up = _reparametrized(mean_up, log_var_up)
            kl = kl + conditional_divergence(z, log_var, *level.down(z_up))
            z, mean, log_var = z_up, mean_up, log_var_up
        kl = kl + kl_divergence(mean, log_var)
        return {"mean": mean, "log_var": log_var, "z": z, "kl": kl}, bottom

    def _downward(self, hidden: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The same from the top, eq. (21): each level is inferred given the one above it."""
        mean, log_var = self.posterior(hidden)
        top = z = _reparametrized(mean, log_var)
        kl = kl_divergence(mean, log_var)
        for level in reversed(self.levels):
            below = level.infer(torch.cat([hidden, z], dim=-1))
            kl = kl + gaussian_divergence(*below, *level.down(z))
            z = _reparametrized(*below)
        return {"mean": mean, "log_var": log_var, "z": top, "kl": kl}, z


def _reparametrized(mean: Tensor, log_var: Tensor) -> Tensor:
    """A sample of a Gaussian that its mean and log-variance get gradients through."""
    return mean + normal_like(mean) * (0.5 * log_var).exp()
