"""Each term of the loss against a closed form, scipy, or automatic differentiation."""

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from scipy.spatial.distance import cdist

from sklearn_dpvae._network import losses
from sklearn_dpvae._network.losses import (
    DISTANCE_LOSSES,
    HUBER_DELTA,
    distance_preservation,
    kl_divergence,
    log_scale_init,
    procrustes_misfit,
)


@pytest.fixture
def cells():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    s = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    return z, s, torch.arange(30) % 3


def rho(residual, loss):
    if loss == "absolute":
        return np.abs(residual)
    if loss == "squared":
        return residual**2
    inside = residual**2 / (2 * HUBER_DELTA)
    return np.where(np.abs(residual) <= HUBER_DELTA, inside, np.abs(residual) - HUBER_DELTA / 2)


def naive_distance_loss(z, s, scale, loss, weights):
    """Eq. (3) and (5) as printed, over all ordered pairs of different cells."""
    residual = cdist(z, z) - scale * cdist(s, s)
    weights = weights * (1 - np.eye(len(z)))
    return np.sum(weights * rho(residual, loss)) / np.sum(weights)


def naive_distance_loss_in_torch(z, s, scale, weights):
    """The same by operations that torch differentiates by itself; diagonal left out."""
    i, j = torch.where(~torch.eye(len(z), dtype=torch.bool))
    latent = (z[i] - z[j]).square().sum(1).sqrt()
    tissue = (s[i] - s[j]).square().sum(1).sqrt()
    return (weights[i, j] * (latent - scale * tissue).abs()).sum() / weights[i, j].sum()


def test_kl_divergence_is_that_of_torch_distributions():
    mean, log_var = torch.randn(5, 4), torch.randn(5, 4)
    posterior = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(posterior, prior).sum(1)
    torch.testing.assert_close(kl_divergence(mean, log_var), expected)


def test_kl_divergence_is_zero_only_at_the_prior():
    assert kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0
    assert kl_divergence(torch.full((1, 3), 0.1), torch.zeros(1, 3)).item() > 0


@pytest.mark.parametrize("loss", DISTANCE_LOSSES)
@pytest.mark.parametrize("sectioned", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_distance_preservation_is_the_printed_formula(cells, loss, sectioned, masked):
    z, s, codes = cells
    weights = torch.rand(30, 30, dtype=torch.float64) if masked else None
    value = distance_preservation(
        z,
        s,
        torch.tensor(1.3, dtype=torch.float64),
        codes=codes if sectioned else None,
        weights=weights,
        loss=loss,
    )
    pairs = np.ones((30, 30)) if weights is None else weights.numpy()
    if sectioned:
        pairs = pairs * (codes[:, None] == codes).numpy()
    assert value.item() == pytest.approx(naive_distance_loss(z, s, 1.3, loss, pairs), rel=1e-12)


@pytest.mark.parametrize("loss", DISTANCE_LOSSES)
def test_gradient_of_distance_preservation(cells, loss):
    z, s, codes = cells
    weights = torch.rand(30, 30, dtype=torch.float64)
    scale = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def objective(z, scale):
        return distance_preservation(z, s, scale, codes=codes, weights=weights, loss=loss)

    assert torch.autograd.gradcheck(objective, (z.requires_grad_(), scale))


def test_tiles_give_the_values_and_gradients_of_one_piece(cells, monkeypatch):
    z, s, codes = cells
    scale = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    weights = (codes[:, None] == codes).double()
    z.requires_grad_()
    naive = naive_distance_loss_in_torch(z, s, scale, weights)
    expected = torch.autograd.grad(naive, (z, scale))

    monkeypatch.setattr(losses, "_PAIRS_PER_TILE", 7 * 30)
    value = distance_preservation(z, s, scale, codes=codes)
    actual = torch.autograd.grad(value, (z, scale))
    torch.testing.assert_close(value, naive, rtol=1e-12, atol=0)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("n_components", [1, 2, 6])
@pytest.mark.parametrize("pairs_per_tile", [1, 50, 2**17])
def test_any_tiling_is_the_naive_formula_in_float64(n_components, pairs_per_tile, monkeypatch):
    """With weights that are not symmetric, and more dimensions than are summed up one by one."""
    monkeypatch.setattr(losses, "_PAIRS_PER_TILE", pairs_per_tile)
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(23, n_components, generator=generator, dtype=torch.float64)
    s = torch.randn(23, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(23, 23, generator=generator, dtype=torch.float64)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    z.requires_grad_()
    naive = naive_distance_loss_in_torch(z, s, scale, weights)
    value = distance_preservation(z, s, scale, weights=weights)
    torch.testing.assert_close(value, naive, rtol=1e-12, atol=0)
    expected = torch.autograd.grad(naive, (z, scale))
    actual = torch.autograd.grad(value, (z, scale))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_coincident_cells_pull_on_no_one():
    """The gradient is that of the other pairs alone, to the last digits of float32."""
    generator = torch.Generator().manual_seed(2)
    z, s = (torch.randn(40, 2, generator=generator) for _ in range(2))
    z[20:] = z[:20]
    weights = torch.ones(40, 40)
    weights[range(20), range(20, 40)] = weights[range(20, 40), range(20)] = 0.0
    z.requires_grad_()
    scale = torch.tensor(1.0)
    pairs = weights.sum() - 40
    masked = distance_preservation(z, s, scale, weights=weights) * pairs
    value = distance_preservation(z, s, scale) * (40 * 39)
    (expected,) = torch.autograd.grad(masked, z)
    (actual,) = torch.autograd.grad(value, z)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coincident_cells_have_finite_gradients(dtype):
    z = torch.zeros(4, 2, dtype=dtype, requires_grad=True)
    s = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], dtype=dtype)
    scale = torch.ones((), dtype=dtype, requires_grad=True)
    loss = distance_preservation(z, s, scale) + procrustes_misfit(z, s)
    loss.backward()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(scale.grad)


def test_distance_preservation_of_isometric_latents_is_zero(cells):
    _, s, _ = cells
    turned = 2.5 * s @ torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=s.dtype) + 7.0
    scale = torch.tensor(2.5, dtype=s.dtype)
    assert distance_preservation(turned, s, scale).item() == pytest.approx(0, abs=1e-12)


def test_pairs_across_sections_do_not_count(cells):
    """Moving one section's frame changes nothing."""
    z, s, codes = cells
    scale = torch.tensor(1.0, dtype=s.dtype)
    moved = s + 100.0 * codes[:, None]
    for value in (
        lambda s: distance_preservation(z, s, scale, codes=codes),
        lambda s: procrustes_misfit(z[:, :2], s, codes=codes, n_sections=3),
    ):
        torch.testing.assert_close(value(moved), value(s))


def test_no_pair_left_is_zero_not_nan():
    z = torch.randn(2, 2, requires_grad=True)
    value = distance_preservation(z, z.detach(), torch.tensor(2.0), codes=torch.tensor([0, 1]))
    value.backward()
    assert value.item() == 0
    assert (z.grad == 0).all()


def test_unknown_distance_loss():
    with pytest.raises(ValueError, match="distance_loss"):
        distance_preservation(torch.zeros(2, 2), torch.zeros(2, 2), torch.tensor(1.0), loss="cube")


@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 2), (3, 2), (2, 3), (3, 3), (5, 4)])
def test_procrustes_misfit_is_scipys_disparity(d, k):
    rng = np.random.default_rng(d + 10 * k)
    z, s = rng.normal(size=(20, d)), rng.normal(size=(20, k))
    wide = max(d, k)
    padded = [np.pad(a, ((0, 0), (0, wide - a.shape[1]))) for a in (s, z)]
    value = procrustes_misfit(torch.from_numpy(z), torch.from_numpy(s))
    assert value.item() == pytest.approx(procrustes(*padded)[2], abs=1e-10)


def test_procrustes_misfit_weighs_sections_by_their_cells(cells):
    z, s, _ = cells
    codes = torch.tensor([0] * 10 + [1] * 20)
    parts = [procrustes(s[codes == k].numpy(), z[codes == k, :2].numpy())[2] for k in (0, 1)]
    value = procrustes_misfit(z[:, :2], s, codes=codes, n_sections=2)
    assert value.item() == pytest.approx((parts[0] + 2 * parts[1]) / 3)


def test_sections_of_two_cells_do_not_count_in_procrustes_misfit(cells):
    """Two points always match, so that they would only dilute the misfit of the others."""
    z, s, _ = cells
    codes = torch.tensor([0] * 3 + [1] * 25 + [2] * 2)
    without = procrustes_misfit(z[:28], s[:28], codes=codes[:28], n_sections=3)
    assert without.item() > 0.1
    torch.testing.assert_close(procrustes_misfit(z, s, codes=codes, n_sections=3), without)
    # Of three cells they do.
    more = procrustes_misfit(z[3:28], s[3:28], codes=codes[3:28], n_sections=3)
    assert abs(more - without) > 1e-3
    for n_sections in (1, 3):
        pair = procrustes_misfit(z[28:], s[28:], codes=codes[28:], n_sections=n_sections)
        assert pair.item() == 0


def test_gradient_of_procrustes_misfit(cells):
    z, s, codes = cells

    def objective(z):
        return procrustes_misfit(z, s, codes=codes, n_sections=3)

    assert torch.autograd.gradcheck(objective, (z.requires_grad_(),))


def test_log_scale_init_matches_mean_distances(cells):
    z, s, _ = cells
    expected = cdist(z, z).mean() / cdist(s, s).mean()
    assert log_scale_init(z, s).exp().item() == pytest.approx(expected)
    assert log_scale_init(torch.zeros_like(z), s) == 0.0


def test_members_of_an_ensemble_have_losses_of_their_own(cells):
    """A leading axis gives what each member gives alone."""
    z, s, codes = cells
    z = torch.stack([z, 2 * z.flip(0), z.roll(1, 1)])
    s = torch.stack([s, s.flip(0), s])
    codes = torch.stack([codes, codes.flip(0), codes])
    scale = torch.tensor([0.5, 1.0, 2.0], dtype=z.dtype)
    weights = torch.rand(3, 30, 30, dtype=z.dtype)
    distance = distance_preservation(z, s, scale, codes=codes, weights=weights)
    misfit = procrustes_misfit(z, s, codes=codes, n_sections=3)
    whole = procrustes_misfit(z, s)
    for k in range(3):
        own = distance_preservation(z[k], s[k], scale[k], codes=codes[k], weights=weights[k])
        torch.testing.assert_close(distance[k], own)
        own = procrustes_misfit(z[k], s[k], codes=codes[k], n_sections=3)
        torch.testing.assert_close(misfit[k], own)
        torch.testing.assert_close(whole[k], procrustes_misfit(z[k], s[k]))
    z.requires_grad_()
    scale.requires_grad_()

    def objective(z, scale):
        return distance_preservation(z, s, scale, codes=codes, weights=weights)

    assert torch.autograd.gradcheck(objective, (z, scale))
