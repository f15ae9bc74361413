"""Distance correlation, stress and Mantel's test against scipy and brute force."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group, pearsonr, spearmanr

from sklearn_dpvae._network.losses import distance_preservation
from sklearn_dpvae.metrics import distance_correlation, mantel, stress

seeds = st.integers(0, 2**31)


def two_maps(seed, n_samples=25, noise=0.5, n_dims=2):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n_samples, n_dims))
    return a, a + noise * rng.normal(size=a.shape)


@pytest.mark.parametrize(("method", "oracle"), [("spearman", spearmanr), ("pearson", pearsonr)])
@pytest.mark.parametrize("noise", [0.1, 1.0, 50.0])
def test_correlation_equals_scipys(method, oracle, noise):
    a, b = two_maps(0, noise=noise)
    b = np.c_[b, b[:, 0] ** 2]
    expected = oracle(pdist(a), pdist(b)).statistic
    assert_allclose(distance_correlation(a, b, method=method), expected, atol=1e-10)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, method=st.sampled_from(["spearman", "pearson"]), size=st.integers(2, 9))
def test_correlation_on_a_grid_sees_no_similarity_and_no_order(seed, method, size):
    rng = np.random.default_rng(seed)
    grid = np.argwhere(np.ones((size, size + 1))) * 0.1
    noisy = grid + rng.normal(scale=0.1, size=grid.shape)
    expected = distance_correlation(grid, noisy, method=method)
    moved = rng.uniform(0.1, 10) * grid @ ortho_group.rvs(2, random_state=rng) + rng.normal(size=2)
    order = rng.permutation(len(grid))

    assert_allclose(distance_correlation(moved, noisy, method=method), expected, atol=1e-9)
    assert_allclose(
        distance_correlation(grid[order], noisy[order], method=method), expected, atol=1e-9
    )
    assert_allclose(distance_correlation(grid, moved, method=method), 1, atol=1e-9)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_sampled_correlation_is_close_to_that_of_all_pairs(method):
    a, b = two_maps(1, n_samples=400)
    exact = distance_correlation(a, b, method=method, max_pairs=None)
    sampled = distance_correlation(a, b, method=method, max_pairs=20_000)
    assert sampled != exact
    assert abs(sampled - exact) < 0.02
    assert sampled == distance_correlation(a, b, method=method, max_pairs=20_000)
    assert sampled != distance_correlation(a, b, method=method, max_pairs=20_000, random_state=1)


def test_pairs_are_sampled_evenly_and_never_of_a_cell_with_itself():
    from sklearn_dpvae.metrics._pairs import pair_distances, pooled_pair_distances

    # Powers of two give each pair a different distance.
    points = 2.0 ** np.arange(6)[:, None]
    rng = np.random.RandomState(0)
    expected = np.sort(pdist(points))
    points = np.vstack([points, points])
    parts = [np.arange(6), np.arange(6, 12)]
    for drawn, other in (
        pair_distances(points[:6], points[:6], 14, rng),
        pair_distances(points[:6], 2 * points[:6], 5, rng),
    ):
        assert len(drawn) in (14, 5)
        assert set(drawn) <= set(expected)
        assert set(other / drawn) in ({1.0}, {2.0})

    drawn, _ = pooled_pair_distances(points, points, parts, 29, rng)
    assert len(drawn) == 29
    counts = np.zeros(15)
    for _ in range(500):
        drawn, _ = pooled_pair_distances(points, points, parts, 29, rng)
        counts += np.bincount(np.searchsorted(expected, drawn), minlength=15)
    # 500 * 29 draws over 15 distances: about 967 each, with a standard deviation of 30.
    assert np.abs(counts - counts.mean()).max() < 5 * 30


def test_correlation_of_sections_is_their_mean_by_cells():
    a, b = two_maps(2, n_samples=30)
    sections = np.repeat(["x", "y"], [10, 20])
    parts = [distance_correlation(a[sections == s], b[sections == s]) for s in "xy"]
    unit = np.where(sections == "x", 1.0, 1e3)[:, None]
    value = distance_correlation(a, unit * b + unit, sections=sections)
    assert_allclose(value, (10 * parts[0] + 20 * parts[1]) / 30)

    with pytest.warns(UserWarning, match=r"\['z'\] are left out"):
        value_without = distance_correlation(
            np.vstack([a, a[:2]]), np.vstack([b, b[:2]]), sections=[*sections, "z", "z"]
        )
    assert_allclose(value_without, distance_correlation(a, b, sections=sections))


def test_correlation_of_degenerate_maps():
    a, b = two_maps(3)
    assert distance_correlation(a, np.full_like(a, 0.1)) == 0
    for constant in (np.ones((5, 2)), np.eye(3), a[:2], a[:1]):
        with pytest.raises(ValueError, match="at least three cells at unequal distances"):
            distance_correlation(constant, b[: len(constant)])


def test_correlation_refuses_bad_options():
    a, b = two_maps(3)
    with pytest.raises(ValueError, match=r"method must be one of .* got 'kendall'"):
        distance_correlation(a, b, method="kendall")
    with pytest.raises(ValueError, match="max_pairs == 0"):
        distance_correlation(a, b, max_pairs=0)
    with pytest.raises(ValueError, match="y_true has 25 rows but y_pred has 3"):
        distance_correlation(a, b[:3])


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_absolute_stress_is_eq_3(scale):
    latents, coords = two_maps(4)
    expected = np.mean(np.abs(pdist(latents) - scale * pdist(coords)))
    assert_allclose(stress(latents, coords, scale=scale), expected)
    loss = distance_preservation(
        torch.tensor(latents), torch.tensor(coords), torch.tensor(scale, dtype=torch.float64)
    )
    assert_allclose(stress(latents, coords, scale=scale), loss.item())


def test_stress_of_sections_is_the_loss_of_the_pairs_within():
    latents, coords = two_maps(5, n_samples=30)
    codes = np.repeat([0, 1, 2], [8, 21, 1])
    pairs = [(latents[codes == c], coords[codes == c]) for c in range(3)]
    residuals = [pdist(z) - 2 * pdist(s) for z, s in pairs]
    expected = np.mean(np.abs(np.concatenate(residuals)))
    assert_allclose(stress(latents, coords, scale=2.0, sections=codes), expected)


@pytest.mark.parametrize("kind", ["absolute", "kruskal"])
def test_the_default_scale_makes_stress_smallest(kind):
    latents, coords = two_maps(6)
    d, s = pdist(latents), pdist(coords)

    def value(c):
        if kind == "absolute":
            return np.mean(np.abs(d - c * s))
        return np.sqrt(np.sum((d - c * s) ** 2) / np.sum(d**2))

    best = minimize_scalar(value, bounds=(0, 5), method="bounded", options={"xatol": 1e-10})
    assert_allclose(stress(latents, coords, kind=kind), best.fun, rtol=1e-7)
    assert stress(latents, coords, kind=kind) <= stress(latents, coords, kind=kind, scale=0.9)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, unit=st.floats(0.01, 100))
def test_stress_and_the_units_of_both_sides(seed, unit):
    latents, coords = two_maps(seed)
    absolute, kruskal = stress(latents, coords), stress(latents, coords, kind="kruskal")
    moved = unit * coords @ ortho_group.rvs(2, random_state=seed) + unit

    assert 0 <= kruskal <= 1
    assert_allclose(stress(latents, moved), absolute, rtol=1e-9)
    assert_allclose(stress(unit * latents, coords), unit * absolute, rtol=1e-9)
    assert_allclose(stress(unit * latents, moved, kind="kruskal"), kruskal, rtol=1e-9)


def test_stress_of_degenerate_maps():
    latents, coords = two_maps(7)
    constant = np.ones_like(coords)
    assert stress(constant, coords) == 0  # c = 0: one point preserves distances times zero
    assert stress(constant, coords, kind="kruskal") == 1
    assert stress(constant, coords, scale=1.0) == pytest.approx(pdist(coords).mean())
    for bad in (constant, coords[:1]):
        with pytest.raises(ValueError, match="no section among them has two distinct"):
            stress(latents[: len(bad)], bad)
    with pytest.raises(ValueError, match="no section among them has two distinct"):
        stress(latents[:3], coords[:3], sections=[0, 1, 2])
    with pytest.raises(ValueError, match="scale == 0"):
        stress(latents, coords, scale=0)
    with pytest.raises(ValueError, match="kind must be one of"):
        stress(latents, coords, kind="sammon")


def test_sampled_stress_is_close_to_that_of_all_pairs():
    latents, coords = two_maps(8, n_samples=500)
    exact = stress(latents, coords, max_pairs=None)
    assert abs(stress(latents, coords, max_pairs=20_000) / exact - 1) < 0.03


@pytest.mark.parametrize(("method", "oracle"), [("pearson", pearsonr), ("spearman", spearmanr)])
def test_mantel_r_is_the_correlation_of_distances(method, oracle):
    a, b = two_maps(9)
    result = mantel(a, b, method=method, n_permutations=20)
    assert_allclose(result.r, oracle(pdist(a), pdist(b)).statistic, atol=1e-10)
    assert result.null.shape == (20,)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_mantel_p_value_approaches_that_of_all_permutations(alternative):
    a, b = two_maps(10, n_samples=5, noise=1.5)
    observed = pearsonr(pdist(a), pdist(b)).statistic
    null = np.array(
        [pearsonr(pdist(a), pdist(b[list(p)])).statistic for p in permutations(range(5))]
    )
    extreme = {
        "two-sided": np.abs(null) >= abs(observed) - 1e-12,
        "greater": null >= observed - 1e-12,
        "less": null <= observed + 1e-12,
    }[alternative]
    result = mantel(a, b, n_permutations=4000, alternative=alternative)
    assert abs(result.pvalue - extreme.mean()) < 5 * np.sqrt(0.25 / 4000)


def test_mantel_tells_related_from_unrelated_spaces():
    rng = np.random.default_rng(0)
    a, b = two_maps(11, n_samples=60)
    assert mantel(a, b, n_permutations=199).pvalue == 1 / 200
    pvalues = [
        mantel(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), n_permutations=39).pvalue
        for _ in range(100)
    ]
    # Uniform on 1/40 ... 40/40 if the null hypothesis holds.
    assert abs(np.mean(pvalues) - 41 / 80) < 5 * np.sqrt(1 / 12 / 100)


def test_mantel_takes_sparse_expression_and_samples_cells():
    rng = np.random.default_rng(1)
    coords = rng.uniform(size=(80, 2))
    counts = rng.poisson(3 * np.exp(coords @ rng.normal(size=(2, 12))))
    dense = mantel(coords, counts, n_permutations=9)
    compressed = mantel(sparse.csr_matrix(coords), sparse.csr_matrix(counts), n_permutations=9)
    assert_allclose(compressed.r, dense.r, atol=1e-9)
    assert compressed.pvalue == dense.pvalue
    sampled = mantel(coords, counts, n_permutations=9, max_samples=60)
    assert 0 < abs(sampled.r - dense.r) < 0.2


def test_mantel_shuffles_within_sections():
    a, b = two_maps(12, n_samples=30)
    sections = np.repeat(["x", "y"], [10, 20])
    parts = [pearsonr(pdist(a[sections == s]), pdist(b[sections == s])).statistic for s in "xy"]
    far = b + np.where(sections == "x", 0.0, 1e3)[:, None]
    result = mantel(a, far, sections=sections, n_permutations=99)
    assert_allclose(result.r, (10 * parts[0] + 20 * parts[1]) / 30)
    assert result.pvalue == 0.01


def test_mantel_without_permutations_and_with_bad_input():
    a, b = two_maps(13)
    assert np.isnan(mantel(a, b, n_permutations=0).pvalue)
    with pytest.raises(ValueError, match="taken from b are all equal"):
        mantel(a, np.ones_like(a))
    with pytest.raises(ValueError, match="taken from a in section 's' are all equal"):
        mantel(a[:5], b[:5], sections=["r", "r", "r", "s", "s"])
    with pytest.raises(ValueError, match="alternative must be one of"):
        mantel(a, b, alternative="both")
    with pytest.raises(ValueError, match="a has 25 rows but b has 4"):
        mantel(a, b[:4])
