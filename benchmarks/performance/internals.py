"""The private names of the package that benchmarks measure. No other module imports any."""

from sklearn_dpvae._network import losses
from sklearn_dpvae._network.dpvae import DPVAE
from sklearn_dpvae._network.noise import Dropout

__all__ = ["PAIR_TERM", "Dropout", "loss_of", "make_module", "pair_term"]

# Its name in torch's profiler.
PAIR_TERM = losses._DistancePreservation.__name__

pair_term = losses.distance_preservation


def make_module(n_genes, hidden=(128, 128), dropout=0.0, n_members=1):
    """The networks of an ensemble as one module."""
    return DPVAE(n_genes, 2, n_members, hidden, dropout=dropout)


def loss_of(module, x, s):
    """The objective for a batch of one member, with the weights of `bare_loop`."""
    out = module(x[None])
    s = s[None]
    log_prob = module.likelihood.log_prob(x[None], out["hidden"], None)
    distance = losses.distance_preservation(out["z"], s, module.scale)
    alignment = losses.procrustes_misfit(out["z"], s)
    elbo = (out["kl"].mean() - log_prob.mean()) / x.shape[1]
    return (elbo + 0.3 * distance + alignment).sum()
