"""Theorem 1: the bounds hold for any map, and tighten as the loss falls."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist

from sklearn_dpvae.metrics import distortion_bounds, stress

seeds = st.integers(0, 2**31)


def random_maps(rng, kind, n_samples):
    """Positions and latents, related more or less closely, with or without coinciding cells."""
    coords = rng.normal(size=(n_samples, 2))
    if kind == "grid":
        coords = np.round(2 * coords)
    if kind == "heavy":
        coords = rng.standard_cauchy(size=(n_samples, 2))
    noise = rng.exponential(size=(n_samples, 3)) * 10.0 ** rng.uniform(-4, 2)
    latents = np.c_[coords, coords[:, 0]] * rng.uniform(0.1, 10) + noise
    return latents, coords


@settings(deadline=None, max_examples=150)
@given(
    seed=seeds,
    kind=st.sampled_from(["plain", "grid", "heavy"]),
    n_samples=st.integers(3, 60),
    delta=st.floats(0.001, 0.999),
    scale=st.one_of(st.none(), st.floats(0.01, 100)),
    max_pairs=st.sampled_from([None, 100]),
)
def test_the_bounds_are_never_violated(seed, kind, n_samples, delta, scale, max_pairs):
    latents, coords = random_maps(np.random.default_rng(seed), kind, n_samples)
    if np.ptp(coords, axis=0).max() == 0:
        return
    bounds = distortion_bounds(latents, coords, delta, scale=scale, max_pairs=max_pairs)
    assert 0 <= bounds.lower <= bounds.scale <= bounds.upper
    assert bounds.observed_outside <= delta
    if max_pairs is None:
        d, s = pdist(latents), pdist(coords)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = (d / s >= bounds.lower * (1 - 1e-9)) & (d / s <= bounds.upper * (1 + 1e-9))
        if bounds.min_distance == 0:
            inside[:] = True
        assert np.mean(~inside) <= bounds.observed_outside + 1e-12
        # Each of the two events of the proof has a probability of at most delta / 2.
        t = 2 * bounds.loss / delta
        assert np.mean(np.abs(d - bounds.scale * s) > t * (1 + 1e-9)) <= delta / 2
        assert np.mean((s < bounds.min_distance) | (s > bounds.max_distance)) <= delta / 2


def test_the_closed_form():
    rng = np.random.default_rng(0)
    coords = rng.uniform(size=(50, 2))
    latents = 2 * coords + 0.001 * rng.normal(size=coords.shape)
    bounds = distortion_bounds(latents, coords, 0.2, scale=2.0)
    d, s = pdist(latents), pdist(coords)
    a = np.sort(s)[int(0.1 * len(s))]
    t = 2 * np.abs(d - 2 * s).mean() / 0.2
    assert_allclose(bounds, [2 - t / a, 2 + t / a, 0.8])
    assert_allclose(bounds.loss, stress(latents, coords, scale=2.0))
    assert_allclose([bounds.min_distance, bounds.max_distance], [a, s.max()])
    quantiles = np.quantile(d / s, [0.1, 0.9])
    assert_allclose([bounds.observed_lower, bounds.observed_upper], quantiles)


def test_the_bounds_close_in_as_the_loss_falls_and_widen_with_certainty():
    rng = np.random.default_rng(1)
    coords, noise = rng.uniform(size=(2, 80, 2))
    widths = [
        np.diff(distortion_bounds(coords + level * noise, coords, 0.1)[:2])[0]
        for level in (0.3, 0.1, 0.03, 0.01, 0.0)
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 1e-12
    widths = [
        np.diff(distortion_bounds(coords + 0.01 * noise, coords, delta)[:2])[0]
        for delta in (0.5, 0.2, 0.1, 0.01)
    ]
    assert widths == sorted(widths)


def test_scales_with_the_units():
    rng = np.random.default_rng(2)
    coords, noise = rng.uniform(size=(2, 80, 2))
    latents = coords + 0.01 * noise
    plain = distortion_bounds(latents, coords)
    scaled = distortion_bounds(5 * latents, 100 * coords)
    assert_allclose(scaled[:2], np.array(plain[:2]) / 20)


def test_coincident_cells_leave_no_bound():
    rng = np.random.default_rng(3)
    coords = np.repeat(rng.uniform(size=(2, 2)), 10, axis=0)
    bounds = distortion_bounds(rng.normal(size=(20, 2)), coords, 0.1)
    assert bounds[:2] == (0, np.inf)
    assert bounds.observed_outside == 0


def test_pairs_across_sections_do_not_count():
    rng = np.random.default_rng(4)
    coords = rng.uniform(size=(40, 2))
    sections = np.repeat(["a", "b"], 20)
    latents = 3 * coords + np.where(sections == "a", 0, 10)[:, None]
    assert_allclose(distortion_bounds(latents, coords, sections=sections)[:2], [3, 3])
    assert distortion_bounds(latents, coords).upper > 4


def test_the_result_unpacks_pickles_and_prints():
    rng = np.random.default_rng(5)
    coords, noise = rng.uniform(size=(2, 30, 2))
    bounds = distortion_bounds(coords + 0.1 * noise, coords, 0.25)
    lower, upper, probability = bounds
    assert (lower, upper, probability) == (bounds.lower, bounds.upper, 0.75)
    again = pickle.loads(pickle.dumps(bounds))
    assert vars(again) == vars(bounds)
    assert "probability=0.75, observed_lower=" in repr(again)


@pytest.mark.parametrize("delta", [0, 1, -0.1, 2])
def test_delta_is_a_proper_share(delta):
    with pytest.raises(ValueError, match=f"delta == {delta}"):
        distortion_bounds(np.eye(3), np.eye(3), delta)
