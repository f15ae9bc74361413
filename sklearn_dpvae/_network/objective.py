"""The training objective: a list of named terms, eq. (4) with the alignment term.

The sum that is minimized, the columns of a history and the labels of curves all follow from the
list that `make_objective` returns. A new term is a function of a `Step` and a line in that list.
Imports the losses and the network.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .dpvae import DPVAE
from .losses import (
    distance_preservation,
    pairwise_distance_preservation,
    procrustes_misfit,
)

# What the networks' matrix products are computed in, by the names of torch's types.
PRECISIONS = ("float32", "bfloat16")

# Cells on which a term without weight is measured. It is looked at once in an epoch.
_CELLS_FOR_WEIGHTLESS = 256


@dataclass(frozen=True)
class ObjectiveSettings:
    """The parameters of the regressor that shape the objective; see there."""

    elbo_weight: float | str
    kl_weight: float
    distance_weight: float
    alignment_weight: float
    distance_loss: str


@dataclass(frozen=True)
class Step:
    """What the terms look at: a batch, before and after the network.

    Attributes
    ----------
    module : DPVAE
        The network.
    output : dict of Tensor
        What it returned: z, kl, hidden ..., of shape (n_members, n_cells, ...).
    target : dict of Tensor
        What the batch brings to compare with: s (positions), codes (sections), target and
        library (counts), and pairs and weights, or groups, where there is a mask.
    """

    module: DPVAE
    output: dict[str, Any]
    target: dict[str, Any]

    def first(self, n_cells: int) -> "Step":
        """The same step on its first cells alone."""
        if self.output["z"].shape[-2] <= n_cells:
            return self

        def part(name: str, value: Any) -> Any:
            return value if value is None or name in ("pairs", "weights") else value[:, :n_cells]

        output = {name: part(name, value) for name, value in self.output.items()}
        target = {name: part(name, value) for name, value in self.target.items()}
        if "pairs" in target:
            kept = (target["pairs"][1:] < n_cells).all(dim=0)
            target["pairs"], target["weights"] = target["pairs"][:, kept], target["weights"][kept]
        return Step(self.module, output, target)


@dataclass(frozen=True)
class Term:
    """A part of the loss.

    Attributes
    ----------
    name : str
        Of its column in a history.
    weight : float
        Of its values in the sum. With 0 it is recorded only.
    function : callable
        From a `Step` to the term of each member, of shape (n_members,).
    """

    name: str
    weight: float
    function: Callable[[Step], Tensor]


class Objective:
    """The weighted sum of terms.

    Parameters
    ----------
    terms : sequence of Term
    """

    def __init__(self, terms: Sequence[Term]):
        self.terms = tuple(terms)
        # A loss without any weight is 0 times the first term: it still has a gradient.
        self._weighted = tuple(term for term in terms if term.weight) or self.terms[:1]
        self._weightless = tuple(term for term in terms if term not in self._weighted)

    def measure(self, step: Step) -> tuple[Tensor, Tensor]:
        """The loss of each member, and the terms that it is the sum of.

        Returns
        -------
        loss : Tensor of shape (n_members,)
        measured : Tensor of shape (1 + n_weighted_terms, n_members)
            The loss and the terms, without gradients.
        """
        values = [term.function(step) for term in self._weighted]
        loss = self._weighted[0].weight * values[0]
        for term, value in zip(self._weighted[1:], values[1:], strict=True):
            loss = loss.add(value, alpha=term.weight)
        with torch.no_grad():
            return loss, torch.stack([loss, *values])

    @torch.no_grad()
    def measure_weightless(self, step: Step) -> Tensor:
        """The terms without weight, on the first cells of a batch, so that they cost nothing.

        Returns
        -------
        Tensor of shape (n_weightless_terms,)
            Means over members.
        """
        some = step.first(_CELLS_FOR_WEIGHTLESS)
        values = [term.function(some).mean() for term in self._weightless]
        return torch.stack(values) if values else step.output["kl"].new_zeros(0)

    def blamed(self, measured: Tensor) -> str:
        """The term that made a loss infinite or NaN.

        Parameters
        ----------
        measured : Tensor of shape (n_steps, 1 + n_weighted_terms, n_members)
            What `measure` returned for each step.

        Returns
        -------
        str
            Name of the first term that is not finite, in the first step with such a loss; of the
            one that weighs most where all are finite.
        """
        first = int((~torch.isfinite(measured)).any(dim=-1).any(dim=-1).int().argmax())
        terms = measured[first, 1:]
        bad = (~torch.isfinite(terms)).any(dim=-1).tolist()
        weights = torch.tensor([term.weight for term in self._weighted], dtype=torch.float64)
        shares = (terms.abs().amax(dim=-1).double().cpu() * weights).tolist()
        worst = bad.index(True) if any(bad) else shares.index(max(shares))
        return self._weighted[worst].name

    def columns(self, measured: Sequence[float], weightless: Sequence[float]) -> dict[str, float]:
        """What a history records of an epoch: the loss, then every term in its order.

        Parameters
        ----------
        measured : sequence of float
            The loss and the weighted terms.
        weightless : sequence of float
            The others.
        """
        loss, *weighted = measured
        found = dict(zip((term.name for term in self._weighted), weighted, strict=True))
        found |= dict(zip((term.name for term in self._weightless), weightless, strict=True))
        return {"loss": loss} | {term.name: found[term.name] for term in self.terms}


def make_objective(
    settings: ObjectiveSettings,
    *,
    n_explained: int,
    n_sections: int = 1,
    between_groups: bool = False,
    precision: str = "float32",
) -> Objective:
    """The objective of a dp-VAE.

    Parameters
    ----------
    settings : ObjectiveSettings
    n_explained : int
        Features that p(x|z) explains; "per_gene" divides the ELBO by their number.
    n_sections : int
    between_groups : bool
        Whether a mask of groups leaves the pairs between groups instead of those within.
    precision : {"float32", "bfloat16"}
        Of the decoder's last matrix product.
    """
    alpha = 1.0 / n_explained if settings.elbo_weight == "per_gene" else settings.elbo_weight
    alpha = float(alpha)
    return Objective(
        [
            Term("reconstruction", alpha, partial(reconstruction, precision=precision)),
            Term("kl", alpha * settings.kl_weight, divergence),
            Term(
                "distance",
                settings.distance_weight,
                partial(distance, loss=settings.distance_loss, between_groups=between_groups),
            ),
            Term(
                "alignment",
                settings.alignment_weight,
                partial(alignment, n_sections=n_sections),
            ),
        ]
    )


def reconstruction(step: Step, *, precision: str = "float32") -> Tensor:
    """-log p(x|z), summed over features, mean over cells."""
    target = step.target
    with rounded(step.output["hidden"], precision):
        library = step.output.get("library", target["library"])
        log_prob = step.module.likelihood.log_prob(
            target["target"], step.output["hidden"], library
        )
    return -log_prob.mean(dim=-1)


def divergence(step: Step) -> Tensor:
    """KL divergence of the posterior from the prior, mean over cells."""
    return step.output["kl"].mean(dim=-1)


def distance(step: Step, *, loss: str = "absolute", between_groups: bool = False) -> Tensor:
    """Eq. (3), or eq. (5) on the pairs that a mask leaves."""
    z, target = step.output["z"], step.target
    s, codes, scale = target["s"], target["codes"], step.module.scale
    if "pairs" in target:
        pairs, weights = target["pairs"], target["weights"]
        return pairwise_distance_preservation(z, s, scale, pairs, weights, loss=loss)
    weights = None
    if "groups" in target and between_groups:
        groups = target["groups"]
        weights = groups[..., :, None] != groups[..., None, :]
    elif "groups" in target:
        # Groups lie within sections, so that they stand in for them.
        codes = target["groups"]
    return distance_preservation(z, s, scale, codes=codes, weights=weights, loss=loss)


def alignment(step: Step, *, n_sections: int = 1) -> Tensor:
    """Procrustes disparity of latents and positions, within sections."""
    target = step.target
    return procrustes_misfit(
        step.output["z"], target["s"], codes=target["codes"], n_sections=n_sections
    )


def rounded(x: Tensor, precision: str) -> AbstractContextManager[Any]:
    """A block in which the networks' matrix products are computed in `precision`.

    The terms on positions must stay outside: gradients of the pair term are differences of large
    sums.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(x.device.type, dtype=getattr(torch, precision))
