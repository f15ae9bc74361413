"""The Markovian hierarchy: its bound, its ends, and that one level is the plain model."""

import pickle

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae._network import dpvae
from sklearn_dpvae._network.blocks import GaussianHead
from sklearn_dpvae._network.dpvae import DPVAE
from sklearn_dpvae._network.losses import conditional_divergence
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler


def quick(**params):
    return DPVAESpatialRegressor(
        **{"hidden_layer_sizes": (16,), "max_epochs": 5, "n_estimators": 2, "random_state": 0}
        | params
    )


@pytest.fixture
def scaled(tissue):
    X = LogNormalizer().fit_transform(tissue.X)
    X = SectionScaler().fit_transform(X, sections=tissue.sections)
    return np.asarray(X, dtype=np.float32), tissue.coords, tissue.sections


def normal(mean, log_var):
    return Independent(Normal(mean, (0.5 * log_var).exp()), 1)


def test_conditional_divergence_has_the_kl_divergence_as_its_mean():
    """Where the prior does not depend on the sample, samples of q average to the divergence."""
    torch.manual_seed(0)
    mean, log_var, prior_mean, prior_log_var = torch.randn(4, 3, 5, dtype=torch.float64)
    z = mean + torch.randn(100_000, 3, 5, dtype=torch.float64) * (0.5 * log_var).exp()
    value = conditional_divergence(z, log_var, prior_mean, prior_log_var).mean(0)
    expected = kl_divergence(normal(mean, log_var), normal(prior_mean, prior_log_var))
    torch.testing.assert_close(value, expected, rtol=0.02, atol=0.0)


def test_gradient_of_conditional_divergence():
    inputs = [torch.randn(3, 2, dtype=torch.float64).requires_grad_() for _ in range(4)]
    assert torch.autograd.gradcheck(conditional_divergence, inputs)


def test_kl_of_the_module_is_the_sum_over_its_levels(monkeypatch):
    """log q - log p of every level by torch.distributions, at the same samples.

    The module knows the entropies of q; sampled ones equal them on average.
    """
    torch.manual_seed(0)
    module = DPVAE(6, (4, 3, 2), n_members=2, hidden_layer_sizes=(8,)).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    noise = []
    draw = dpvae.normal_like
    monkeypatch.setattr(dpvae, "normal_like", lambda a: noise.append(draw(a)) or noise[-1])
    out = module(x)
    mean, log_var = module.posterior(module.encoder(x.expand(2, -1, -1)))
    expected = torch.zeros(2, 5, dtype=torch.float64)
    z = mean + noise[0] * (0.5 * log_var).exp()
    for level, eps in zip(module.levels, noise[1:], strict=True):
        mean_up, log_var_up = level.up(z)
        z_up = mean_up + eps * (0.5 * log_var_up).exp()
        expected -= normal(mean, log_var).entropy() + normal(*level.down(z_up)).log_prob(z)
        z, mean, log_var = z_up, mean_up, log_var_up
    prior = normal(torch.zeros_like(mean), torch.zeros_like(mean))
    expected += kl_divergence(normal(mean, log_var), prior)
    torch.testing.assert_close(out["kl"], expected)
    torch.testing.assert_close(out["z"], z)
    assert out["z"].shape == (2, 5, 2)


class LinearGaussian(torch.nn.Module):
    """A head of fixed slope and variance."""

    def __init__(self, slope, variance):
        super().__init__()
        self.slope, self.variance = slope, variance

    def forward(self, z):
        return self.slope * z, torch.full_like(z, float(np.log(self.variance)))


def test_the_bound_is_tight_where_the_posterior_is_exact():
    """A chain z2 -> z1 -> x of Gaussians with its true posterior: the bound is log p(x)."""
    a, v1, b, vx = 0.8, 0.5, 1.3, 0.7
    total1, total_x = a**2 + v1, b**2 * (a**2 + v1) + vx
    module = DPVAE(1, (1, 1), hidden_layer_sizes=(4,)).double()
    module.encoder = torch.nn.Identity()
    module.posterior = LinearGaussian(b * total1 / total_x, total1 * vx / total_x)
    module.levels[0].up = LinearGaussian(a / total1, v1 / total1)
    module.levels[0].down = LinearGaussian(a, v1)
    module.decoder = torch.nn.Identity()
    torch.manual_seed(0)
    x = torch.tensor([[-2.0], [0.1], [1.7]], dtype=torch.float64)
    bounds = []
    for _ in range(4000):
        out = module(x)
        log_likelihood = normal(b * out["hidden"], torch.log(torch.tensor([[[vx]]]))).log_prob(x)
        bounds.append((log_likelihood - out["kl"])[0])
    exact = Normal(0.0, total_x**0.5).log_prob(x)[:, 0]
    torch.testing.assert_close(torch.stack(bounds).mean(0).detach(), exact, rtol=0, atol=0.05)


class GivenAbove(torch.nn.Module):
    """q(z | z_up, x) of fixed slopes and variance."""

    def __init__(self, slope_x, slope_up, variance):
        super().__init__()
        self.slopes, self.variance = (slope_x, slope_up), variance

    def forward(self, both):
        x, z_up = both[..., :1], both[..., 1:]
        mean = self.slopes[0] * x + self.slopes[1] * z_up
        return mean, torch.full_like(mean, float(np.log(self.variance)))


def test_the_denoising_form_has_the_same_bound_and_less_variance():
    """The chain of the test above, inferred from its top: eq. (21)."""
    a, v1, b, vx = 0.8, 0.5, 1.3, 0.7
    total1, total_x = a**2 + v1, b**2 * (a**2 + v1) + vx
    upward = DPVAE(1, (1, 1), hidden_layer_sizes=(4,)).double()
    downward = DPVAE(1, (1, 1), hidden_layer_sizes=(4,), hierarchy="denoising").double()
    for module in (upward, downward):
        module.encoder = module.decoder = torch.nn.Identity()
        module.levels[0].down = LinearGaussian(a, v1)
    upward.posterior = LinearGaussian(b * total1 / total_x, total1 * vx / total_x)
    upward.levels[0].up = LinearGaussian(a / total1, v1 / total1)
    downward.posterior = LinearGaussian(a * b / total_x, 1 - (a * b) ** 2 / total_x)
    v = 1 / (1 / v1 + b**2 / vx)
    downward.levels[0].infer = GivenAbove(v * b / vx, v * a / v1, v)
    torch.manual_seed(0)
    x = torch.tensor([[-2.0], [0.1], [1.7]], dtype=torch.float64)
    exact = Normal(0.0, total_x**0.5).log_prob(x)[:, 0]
    variance = {}
    for name, module in (("consistency", upward), ("denoising", downward)):
        bounds = []
        for _ in range(4000):
            out = module(x)
            scale = torch.log(torch.tensor([[[vx]]]))
            bounds.append((normal(b * out["hidden"], scale).log_prob(x) - out["kl"])[0])
        bounds = torch.stack(bounds).detach()
        torch.testing.assert_close(bounds.mean(0), exact, rtol=0, atol=0.05)
        variance[name] = float(bounds.var(0).mean())
    # 0.65 against 0.89.
    assert variance["denoising"] < 0.8 * variance["consistency"]


def test_kl_of_the_denoising_form_is_torchs():
    torch.manual_seed(0)
    module = DPVAE(6, (4, 3, 2), 2, hidden_layer_sizes=(8,), hierarchy="denoising").double()
    x = torch.randn(5, 6, dtype=torch.float64)
    hidden = module.encoder(x.expand(2, -1, -1))
    torch.manual_seed(1)
    out = module(x)
    torch.manual_seed(1)
    top, log_var = module.posterior(hidden)
    z = top + torch.randn_like(top) * (0.5 * log_var).exp()
    torch.testing.assert_close(out["z"], z)
    expected = kl_divergence(normal(top, log_var), normal(0 * top, 0 * top))
    for level in reversed(module.levels):
        q = level.infer(torch.cat([hidden, z], dim=-1))
        expected = expected + kl_divergence(normal(*q), normal(*level.down(z)))
        z = q[0] + torch.randn_like(q[0]) * (0.5 * q[1]).exp()
    torch.testing.assert_close(out["kl"], expected)
    assert out["z"].shape == (2, 5, 2)


def test_one_level_is_the_plain_model_bit_for_bit(scaled):
    X, coords, _ = scaled
    plain, default, one = (quick(n_components=n).fit(X, coords) for n in (2, None, (2,)))
    assert not len(one.module_.levels)
    for model in (default, one):
        np.testing.assert_array_equal(model.predict(X), plain.predict(X))
        assert [row["loss"] for row in model.history_] == [row["loss"] for row in plain.history_]


@pytest.mark.parametrize("hierarchy", ["consistency", "denoising"])
def test_gradients_reach_every_weight(hierarchy):
    module = DPVAE(6, (4, 3, 2), hidden_layer_sizes=(8,), hierarchy=hierarchy)
    out = module(torch.randn(5, 6))
    (out["kl"].sum() + out["hidden"].sum()).backward()
    heads = [m for m in module.modules() if isinstance(m, GaussianHead)]
    assert len(heads) == 5
    for name, weight in module.named_parameters():
        if not name.startswith(("likelihood", "log_scale")):
            assert torch.isfinite(weight.grad).all()
            assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
@pytest.mark.parametrize("hierarchy", ["consistency", "denoising"])
def test_hierarchies_learn_positions(tissue, scaled, likelihood, hierarchy):
    X, coords, sections = scaled
    X = tissue.X if likelihood == "nb" else X
    # Distances and alignment are of the top level, to which all must pass.
    model = quick(n_components=(12, 6, 2), max_epochs=100, likelihood=likelihood)
    model.set_params(hierarchy=hierarchy).fit(X, coords, sections=sections, batch=sections)
    assert model.n_components_ == 2
    assert model.transform(X).shape == (300, 2)
    assert model.score(X, coords, sections=sections) > 0.4
    decoded = model.inverse_transform(model.transform(X))
    assert decoded.shape == X.shape
    assert np.isfinite(decoded).all()
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize("n_components", [(), (4, 0), (4, 2.5), ("a", "b")])
def test_bad_levels(scaled, n_components):
    X, coords, _ = scaled
    with pytest.raises(ValueError, match="n_components"):
        quick(n_components=n_components).fit(X, coords)


def test_the_top_level_must_hold_a_map(scaled):
    X, coords, _ = scaled
    with pytest.raises(ValueError, match="smaller than the 2 dimensions"):
        quick(n_components=(8, 1)).fit(X, coords)
    model = quick(n_components=(8, 2), warm_start=True).fit(X, coords)
    assert model.fit(X, coords).n_components_ == 2
    with pytest.raises(ValueError, match="n_components"):
        model.set_params(n_components=2).fit(X, coords)
