"""What p(x | z) can be: for each, the decoder's output head and its log-likelihood.

A head maps the decoder's last hidden layer to the parameters of the distribution of every gene.
All have the methods of `Gaussian`; those of counts also use the cell's library size, the number
of its counts. Imports the layers only.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid, softplus

from .layers import FLOAT, EnsembleLinear

# exp(-10) to exp(10): a variance of 20,000 means, or one that is Poisson's at any count seen.
_LOG_THETA_RANGE = (-10.0, 10.0)

# Library size of cells without any counts: their expected counts are 0, their log is finite.
_EMPTY_LIBRARY = 1e-8


def _exact(*values: Tensor) -> tuple[Tensor, ...]:
    """In float64, where the device has it.

    log Gamma of a million counts is 10^7, of which float32 keeps no decimals, and what is left of
    the sum is far smaller.
    """
    if values[0].device.type == "mps":
        return values
    return tuple(value.double() for value in values)


def poisson_log_prob(x: Tensor, log_mean: Tensor) -> Tensor:
    """Poisson log-likelihood of each count.

        log p(x) = x log(mean) - mean - log(x!)

    Parameters
    ----------
    x : Tensor
        Counts.
    log_mean : Tensor
        Logarithm of the expected counts, of a shape that broadcasts with `x`.

    Returns
    -------
    Tensor
    """
    kind = log_mean.dtype
    x, log_mean = _exact(x, log_mean)
    return (x * log_mean - log_mean.exp() - torch.lgamma(x + 1.0)).to(kind)


def negative_binomial_log_prob(x: Tensor, log_mean: Tensor, log_theta: Tensor) -> Tensor:
    """Negative binomial log-likelihood of each count; the variance is mean + mean^2 / theta.

        log p(x) = log Gamma(x + theta) - log Gamma(theta) - log(x!)
                   + theta log( theta / (theta + mean) ) + x log( mean / (theta + mean) )

    The two ratios are the logistic function of -+ log(mean / theta), which neither overflows nor
    loses digits where one of the two is far larger than the other.

    Parameters
    ----------
    x, log_mean : Tensor
        As in `poisson_log_prob`.
    log_theta : Tensor
        Logarithm of the inverse dispersion, of a shape that broadcasts with `x`.

    Returns
    -------
    Tensor
    """
    kind = log_mean.dtype
    x, log_mean, log_theta = _exact(x, log_mean, log_theta)
    theta = log_theta.exp()
    logit = log_mean - log_theta
    log_prob = (
        torch.lgamma(x + theta)
        - torch.lgamma(theta)
        - torch.lgamma(x + 1.0)
        - theta * softplus(logit)
        + x * logsigmoid(logit)
    )
    return log_prob.to(kind)


def zero_inflated_log_prob(x: Tensor, log_prob: Tensor, logit_zero: Tensor) -> Tensor:
    """Log-likelihood of counts that are replaced by zeros with some probability.

        p'(x) = pi [x = 0] + (1 - pi) p(x)

    Parameters
    ----------
    x : Tensor
        Counts.
    log_prob : Tensor
        log p(x) of the counts if none were replaced.
    logit_zero : Tensor
        Log-odds of pi.

    Returns
    -------
    Tensor
    """
    kept = logsigmoid(-logit_zero) + log_prob
    return torch.where(x > 0, kept, torch.logaddexp(logsigmoid(logit_zero), kept))


class Gaussian(nn.Module):
    """x ~ N(mean, 1) for each gene: for values that are z-scored or log-normalized.

        log p(x | z) = -1/2 sum_g (x_g - mean_g)^2 + const

    The variance is fixed: a learned one trades the reconstruction of some genes against others
    and is redundant with alpha, the weight of the whole term.
    """

    counts = False

    def __init__(self, n_members: int, n_hidden: int, n_genes: int):
        super().__init__()
        self.mean = EnsembleLinear(n_members, n_hidden, n_genes)

    def log_prob(self, x: Tensor, hidden: Tensor, library: Tensor | None) -> Tensor:
        """Log-likelihood of each cell up to a constant, shape (n_members, n_cells)."""
        return -0.5 * (x - self.mean(hidden)).square().sum(dim=-1)

    def expected(self, hidden: Tensor, library: Tensor | None) -> Tensor:
        """Mean of x given z, shape (n_members, n_cells, n_genes)."""
        return self.mean(hidden)


class Poisson(nn.Module):
    """x ~ Poisson(library * rate), where the rates of a cell's genes are a softmax.

    The observed library size is taken as given, so that the latents need not explain how deep a
    cell was sequenced.
    """

    counts = True

    def __init__(self, n_members: int, n_hidden: int, n_genes: int):
        super().__init__()
        self.logits = EnsembleLinear(n_members, n_hidden, n_genes)

    @torch.no_grad()
    def start_at(self, shares: Tensor) -> None:
        """Begin at each gene's share of all counts instead of at equal shares.

        Genes differ by orders of magnitude, and a bias that starts at zero takes hundreds of
        steps to get there.
        """
        self.logits.bias.add_(shares.clamp_min(shares[shares > 0].min()).log())

    def log_mean(self, hidden: Tensor, library: Tensor) -> Tensor:
        """Logarithm of the expected counts before zeros are put in."""
        log_library = library.clamp_min(_EMPTY_LIBRARY).log()
        return log_softmax(self.logits(hidden), dim=-1) + log_library[..., None]

    def log_prob(self, x: Tensor, hidden: Tensor, library: Tensor) -> Tensor:
        """Log-likelihood of each cell, shape (n_members, n_cells).

        Parameters
        ----------
        x : Tensor of shape (n_members, n_cells, n_genes)
            Counts.
        hidden : Tensor of shape (n_members, n_cells, n_hidden)
        library : Tensor of shape (n_members, n_cells)
        """
        return poisson_log_prob(x, self.log_mean(hidden, library)).sum(dim=-1)

    def expected(self, hidden: Tensor, library: Tensor) -> Tensor:
        """Expected counts given z, shape (n_members, n_cells, n_genes)."""
        return self.log_mean(hidden, library).exp()


class NegativeBinomial(Poisson):
    """Counts of mean library * rate and variance mean + mean^2 / theta, as in scVI [1]_.

    theta is learned for each gene.

    References
    ----------
    .. [1] Lopez, R. et al. (2018). Deep generative modeling for single-cell transcriptomics.
       Nature Methods 15, 1053-1058.
    """

    def __init__(self, n_members: int, n_hidden: int, n_genes: int):
        super().__init__(n_members, n_hidden, n_genes)
        self.log_theta = nn.Parameter(torch.zeros(n_members, 1, n_genes, dtype=FLOAT))

    def gene_log_prob(self, x: Tensor, hidden: Tensor, library: Tensor) -> Tensor:
        """Log-likelihood of each count."""
        log_theta = self.log_theta.clamp(*_LOG_THETA_RANGE)
        return negative_binomial_log_prob(x, self.log_mean(hidden, library), log_theta)

    def log_prob(self, x: Tensor, hidden: Tensor, library: Tensor) -> Tensor:
        return self.gene_log_prob(x, hidden, library).sum(dim=-1)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """As `NegativeBinomial`, with counts lost altogether at a rate of each gene and cell."""

    def __init__(self, n_members: int, n_hidden: int, n_genes: int):
        super().__init__(n_members, n_hidden, n_genes)
        self.logit_zero = EnsembleLinear(n_members, n_hidden, n_genes)

    def log_prob(self, x: Tensor, hidden: Tensor, library: Tensor) -> Tensor:
        log_prob = self.gene_log_prob(x, hidden, library)
        return zero_inflated_log_prob(x, log_prob, self.logit_zero(hidden)).sum(dim=-1)

    def expected(self, hidden: Tensor, library: Tensor) -> Tensor:
        return super().expected(hidden, library) * torch.sigmoid(-self.logit_zero(hidden))


LIKELIHOODS: dict[str, Any] = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "nb": NegativeBinomial,
    "zinb": ZeroInflatedNegativeBinomial,
}

COUNT_LIKELIHOODS = frozenset(name for name, kind in LIKELIHOODS.items() if kind.counts)
