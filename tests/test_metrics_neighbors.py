"""Neighbors, spacing, position errors and coverage, compared with brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group
from sklearn.neighbors import NearestNeighbors

from sklearn_dpvae.metrics import (
    median_position_error,
    neighborhood_hits,
    procrustes_align,
    radius_coverage,
    spot_spacing,
)

seeds = st.integers(0, 2**31)


def two_maps(seed, n_samples=40, noise=0.3, dims=(2, 2)):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n_samples, max(dims)))
    b = a + noise * rng.normal(size=a.shape)
    return a[:, : dims[0]], b[:, : dims[1]]


def expected_hits_with_ties(true, predicted, k):
    """The definition, cell by cell: the mean over all choices among tied neighbors."""
    shares = []
    for i in range(len(true)):
        others = np.delete(np.arange(len(true)), i)
        d_true = np.linalg.norm(true[others] - true[i], axis=1)
        d_pred = np.linalg.norm(predicted[others] - predicted[i], axis=1)
        neighbor = d_true <= np.sort(d_true)[k - 1] + 1e-9
        radius = np.sort(d_pred)[k - 1]
        closer, tied = d_pred < radius - 1e-9, np.abs(d_pred - radius) <= 1e-9
        chance = closer + tied * (k - closer.sum()) / tied.sum()
        shares.append(chance @ neighbor / k)
    return np.mean(shares)


@pytest.mark.parametrize("k", [1, 5, 39])
@pytest.mark.parametrize("dims", [(2, 2), (2, 5), (3, 1)])
def test_hits_without_ties_are_the_overlap_of_neighbor_lists(k, dims):
    a, b = two_maps(0, dims=dims)
    lists = [NearestNeighbors(n_neighbors=k).fit(m).kneighbors()[1] for m in (a, b)]
    overlap = [len(set(x) & set(y)) / k for x, y in zip(*lists, strict=True)]
    assert_allclose(neighborhood_hits(a, b, k), np.mean(overlap))


@settings(deadline=None, max_examples=60)
@given(seed=seeds, n_samples=st.integers(3, 30), k=st.integers(1, 12), levels=st.integers(1, 4))
def test_hits_with_ties_are_the_mean_over_all_choices(seed, n_samples, k, levels):
    k = min(k, n_samples - 1)
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(levels + 1, size=(2, n_samples, 2)).astype(float)
    expected = expected_hits_with_ties(true, predicted, k)
    assert_allclose(neighborhood_hits(true, predicted, k), expected, atol=1e-12)
    order = rng.permutation(n_samples)
    assert_allclose(neighborhood_hits(true[order], predicted[order], k), expected, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, k=st.integers(1, 20))
def test_a_similarity_of_a_grid_keeps_all_neighbors(seed, k):
    rng = np.random.default_rng(seed)
    grid = np.argwhere(np.ones((7, 6))) * 0.1
    moved = rng.uniform(0.01, 50) * grid @ ortho_group.rvs(2, random_state=rng) + rng.normal(
        size=2
    )
    noisy = grid + rng.normal(scale=0.1, size=grid.shape)
    assert neighborhood_hits(grid, moved, k) == 1
    assert neighborhood_hits(moved, grid, k) == 1
    assert_allclose(neighborhood_hits(moved, noisy, k), neighborhood_hits(grid, noisy, k))


def test_a_constant_map_keeps_neighbors_by_chance():
    a, _ = two_maps(1, n_samples=41)
    assert_allclose(neighborhood_hits(a, np.ones((41, 2)), k=10), 10 / 40)


def test_many_coincident_cells():
    a, b = two_maps(2, n_samples=300)
    b[:200] = b[0]
    assert_allclose(neighborhood_hits(a, b, 10), expected_hits_with_ties(a, b, 10))
    assert neighborhood_hits(b, b, 10) == 1


def test_hits_of_sections():
    a, b = two_maps(3, n_samples=60)
    sections = np.repeat([1, 2], [20, 40])
    parts = [neighborhood_hits(a[sections == s], b[sections == s], 5) for s in (1, 2)]
    overlaid = a + np.where(sections == 1, 0, 100)[:, None]
    value = neighborhood_hits(overlaid, b, 5, sections=sections)
    assert_allclose(value, (20 * parts[0] + 40 * parts[1]) / 60)
    with pytest.warns(UserWarning, match=r"\[1\] are left out.*more than k=25 cells"):
        assert neighborhood_hits(a, a, 25, sections=sections) == 1


def test_hits_refuse_bad_input():
    a, b = two_maps(0)
    with pytest.raises(
        ValueError, match=r"more than k=40 cells \(the largest section has 40; lower k\)"
    ):
        neighborhood_hits(a, b, 40)
    with pytest.raises(ValueError, match="k == 0"):
        neighborhood_hits(a, b, 0)
    with pytest.raises(TypeError, match="k must be an instance of int"):
        neighborhood_hits(a, b, 2.5)
    with pytest.raises(ValueError, match="y_true has 40 rows but y_pred has 2"):
        neighborhood_hits(a, b[:2])
    assert neighborhood_hits(a.astype(np.float32), b) == pytest.approx(neighborhood_hits(a, b))


def test_spacing_of_grids_and_scattered_cells():
    rows, columns = np.argwhere(np.ones((8, 9))).T
    hexagonal = 55.0 * np.c_[columns + 0.5 * (rows % 2), np.sqrt(0.75) * rows]
    assert_allclose(spot_spacing(hexagonal), 55)
    assert_allclose(spot_spacing(np.repeat(hexagonal, 2, axis=0)), 55)

    a, _ = two_maps(4)
    d = cdist(a, a)
    np.fill_diagonal(d, np.inf)
    assert_allclose(spot_spacing(a), np.median(d.min(axis=1)))
    assert_allclose(
        spot_spacing(np.vstack([a, a]), sections=np.repeat([0, 1], 40)), spot_spacing(a)
    )
    with pytest.raises(ValueError, match="no section among them has two distinct"):
        spot_spacing(np.ones((3, 2)))


def test_median_error_is_that_of_the_aligned_or_of_the_given_positions():
    a, b = two_maps(5)
    aligned = np.linalg.norm(procrustes_align(b, a)(b) - a, axis=1)
    given_as_is = np.linalg.norm(b - a, axis=1)
    assert_allclose(median_position_error(a, b, unit=1), np.median(aligned))
    assert_allclose(median_position_error(a, b, unit=2.0), np.median(aligned) / 2)
    assert_allclose(median_position_error(a, b), np.median(aligned) / spot_spacing(a))
    assert_allclose(median_position_error(a, b, unit=1, align=False), np.median(given_as_is))
    # Latents of more dimensions are mapped into the tissue first.
    assert median_position_error(a, np.c_[a, 1e-9 * b]) < 1e-6


def test_median_error_in_spacings_has_no_unit():
    a, b = two_maps(6, n_samples=60)
    sections = np.repeat(["x", "y"], 30)
    unit = np.where(sections == "x", 1.0, 200.0)[:, None]
    errors = []
    for s in "xy":
        true, predicted = a[sections == s], b[sections == s]
        moved = procrustes_align(predicted, true)(predicted)
        errors.append(np.linalg.norm(moved - true, axis=1) / spot_spacing(true))
    value = median_position_error(unit * a, b - unit, sections=sections)
    assert_allclose(value, np.median(np.concatenate(errors)))


@pytest.mark.parametrize("unit", [0, -1.0, "spot"])
def test_median_error_refuses_bad_units(unit):
    a, b = two_maps(0)
    with pytest.raises(ValueError, match="unit"):
        median_position_error(a, b, unit=unit)
    with pytest.raises(ValueError, match=r"y_true has 2 dimension\(s\) but y_pred has 3"):
        median_position_error(a, np.c_[b, b[:, 0]], align=False)


def test_coverage_of_normal_errors_is_nominal():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4000, 2))
    sd = rng.uniform(0.1, 3, size=4000)
    b = a + sd[:, None] * rng.normal(size=a.shape)
    for nominal in (0.5, 0.8, 0.95):
        # The squared radius of a standard normal in the plane is exponential with mean 2.
        radius = sd * np.sqrt(-2 * np.log(1 - nominal))
        assert abs(radius_coverage(a, b, radius) - nominal) < 0.03
    assert radius_coverage(a, a, 0) == 1
    assert radius_coverage(a, a + 1, 1) == 0


@pytest.mark.parametrize(
    ("radius", "message"),
    [(-1, "0 or larger"), (np.nan, "finite"), ([1, 2], r"shape \(2,\).*\(40,\)")],
)
def test_coverage_refuses_bad_radii(radius, message):
    a, b = two_maps(0)
    with pytest.raises(ValueError, match=message):
        radius_coverage(a, b, radius)
