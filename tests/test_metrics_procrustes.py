"""Procrustes alignment against scipy, closed forms, and the moves it must not see."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import minimize
from scipy.spatial import procrustes
from scipy.stats import ortho_group

from sklearn_dpvae.metrics import (
    ProcrustesTransform,
    procrustes_align,
    procrustes_disparity,
    procrustes_distance,
)

seeds = st.integers(0, 2**31)


def two_maps(seed, n_samples=20, dims=(2, 2), noise=0.5):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n_samples, max(dims)))
    b = a + noise * rng.normal(size=a.shape)
    return a[:, : dims[0]], b[:, : dims[1]]


def similarity(seed, points, *, scale=None):
    """The points after a random similarity."""
    rng = np.random.default_rng(seed + 1)
    n_dims = points.shape[1]
    rotation = ortho_group.rvs(n_dims, random_state=seed) if n_dims > 1 else -np.eye(1)
    scale = rng.uniform(0.01, 100) if scale is None else scale
    return scale * points @ rotation + rng.normal(scale=50, size=n_dims)


@pytest.mark.parametrize("dims", [(1, 1), (2, 2), (3, 3), (2, 3), (3, 2), (5, 2), (2, 1)])
@pytest.mark.parametrize("noise", [0.0, 0.5, 100.0])
def test_disparity_equals_scipys(dims, noise):
    a, b = two_maps(0, dims=dims, noise=noise)
    padded = [np.pad(m, ((0, 0), (0, max(dims) - m.shape[1]))) for m in (a, b)]
    expected = procrustes(*padded)[2]

    assert_allclose(procrustes_disparity(a, b), expected, rtol=1e-9, atol=1e-14)
    assert_allclose(procrustes_align(b, a).disparity, expected, rtol=1e-9, atol=1e-14)


@settings(deadline=None, max_examples=50)
@given(seed=seeds, n_samples=st.integers(3, 30), n_dims=st.integers(1, 4))
def test_disparity_sees_no_similarity_no_order_and_no_swap(seed, n_samples, n_dims):
    a, b = two_maps(seed, n_samples, (n_dims, n_dims))
    expected = procrustes_disparity(a, b)
    order = np.random.default_rng(seed).permutation(n_samples)

    assert 0 <= expected <= 1
    assert_allclose(procrustes_disparity(similarity(seed, a), b), expected, atol=1e-9)
    assert_allclose(procrustes_disparity(a, similarity(seed, b)), expected, atol=1e-9)
    assert_allclose(procrustes_disparity(a[order], b[order]), expected, atol=1e-12)
    assert_allclose(procrustes_disparity(b, a), expected, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(seed=seeds, n_samples=st.integers(6, 30), n_dims=st.integers(1, 4))
def test_align_recovers_a_similarity_and_its_inverse(seed, n_samples, n_dims):
    source, _ = two_maps(seed, n_samples, (n_dims, n_dims))
    target = similarity(seed, source, scale=2.5)
    align = procrustes_align(source, target)

    assert_allclose(align.scale, 2.5, rtol=1e-8)
    assert align.disparity < 1e-15
    assert_allclose(align(source), target, atol=1e-8)
    # Points that it was not fitted on move with the others.
    probe = np.ones((1, n_dims))
    moved = similarity(seed, np.vstack([source, probe]), scale=2.5)[-1:]
    assert_allclose(align.transform(probe), moved, atol=1e-7)
    assert_allclose(align.inverse_transform(align(probe)), probe, atol=1e-9)


def test_align_is_least_squares_over_angle_scale_and_shift():
    source, target = two_maps(3)

    def misfit(parameters):
        angle, scale, *shift = parameters
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return np.sum((scale * source @ rotation + shift - target) ** 2)

    found = min(
        (minimize(misfit, [angle, 1, 0, 0], tol=1e-12).fun for angle in (0, 2, 4)),
    )
    align = procrustes_align(source, target, reflection=False)
    assert_allclose(np.sum((align(source) - target) ** 2), found, rtol=1e-6)
    spread = np.sum((target - target.mean(axis=0)) ** 2)
    assert_allclose(align.disparity, found / spread, rtol=1e-6)


@pytest.mark.parametrize("dims", [(2, 3), (3, 2), (5, 2), (1, 3), (4, 1)])
def test_rectangular_rotations_are_orthonormal_and_match_zero_padding(dims):
    source, target = two_maps(5, dims=dims)
    align = procrustes_align(source, target)

    assert align.rotation.shape == dims
    product = (
        align.rotation.T @ align.rotation
        if dims[0] >= dims[1]
        else align.rotation @ align.rotation.T
    )
    assert_allclose(product, np.eye(min(dims)), atol=1e-12)
    width = max(dims)
    padded_source = np.pad(source, ((0, 0), (0, width - dims[0])))
    padded_target = np.pad(target, ((0, 0), (0, width - dims[1])))
    padded = procrustes_align(padded_source, padded_target)
    assert_allclose(align.scale, padded.scale)
    assert_allclose(align(source), padded(padded_source)[:, : dims[1]], atol=1e-12)


def test_latents_with_idle_dimensions_map_exactly():
    coords, _ = two_maps(1)
    latents = similarity(2, np.pad(coords, ((0, 0), (0, 3))))
    align = procrustes_align(latents, coords)

    assert align.disparity < 1e-15
    assert_allclose(align(latents), coords, atol=1e-9)


def test_without_scaling_it_is_scipys_orthogonal_procrustes():
    source, target = two_maps(7)
    align = procrustes_align(source, target, scaling=False)
    rotation, _ = orthogonal_procrustes(source - source.mean(axis=0), target - target.mean(axis=0))

    assert align.scale == 1
    assert_allclose(align.rotation, rotation, atol=1e-12)
    residual = np.sum((align(source) - target) ** 2)
    assert_allclose(align.disparity, residual / np.sum((target - target.mean(axis=0)) ** 2))
    assert procrustes_align(5 * target, target, scaling=False).disparity == pytest.approx(16)


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_mirror_images_fit_only_if_reflections_are_allowed(n_dims):
    source, _ = two_maps(11, dims=(n_dims, n_dims))
    mirrored = source * np.r_[np.ones(n_dims - 1), -1]

    assert procrustes_align(source, mirrored).disparity < 1e-15
    proper = procrustes_align(source, mirrored, reflection=False)
    assert proper.disparity > 0.1
    assert_allclose(np.linalg.det(proper.rotation), 1)
    assert proper.scale >= 0


def test_a_source_of_one_point_goes_to_the_mean():
    target, _ = two_maps(0)
    for value in (0.0, 0.1, 1e9 / 3):
        align = procrustes_align(np.full((20, 2), value), target)
        assert (align.scale, align.disparity) == (0, 1)
        assert_allclose(align([[1e6, -3.0]]), [target.mean(axis=0)])
        assert procrustes_disparity(target, np.full((20, 2), value)) == 1
    with pytest.raises(ValueError, match="scale of this transform is 0"):
        align.inverse_transform(target)


@pytest.mark.parametrize("unit", [1e-200, 1e-30, 1.0, 1e30, 1e150])
def test_any_unit_will_do(unit):
    a, b = two_maps(2)
    expected = procrustes_disparity(a, b)
    assert_allclose(procrustes_disparity(unit * a, b), expected, rtol=1e-9)
    assert_allclose(procrustes_disparity(a, unit * b), expected, rtol=1e-9)
    assert_allclose(procrustes_align(unit * a, b).scale * unit, procrustes_align(a, b).scale)


def test_float32_is_computed_in_float64():
    a, b = two_maps(4)
    a, b = a.astype(np.float32) + 1000, b.astype(np.float32)
    align = procrustes_align(a, b)
    assert align.rotation.dtype == align(a).dtype == np.float64
    assert procrustes_disparity(a, b) == procrustes_disparity(a.astype(float), b.astype(float))


def test_lists_frames_and_vectors_are_accepted():
    pd = pytest.importorskip("pandas")
    assert procrustes_disparity([0, 1, 2], [6, 4, 2]) == pytest.approx(0)
    a, b = two_maps(4)
    assert procrustes_disparity(pd.DataFrame(a), b.tolist()) == procrustes_disparity(a, b)


def test_sections_are_aligned_each_on_its_own_and_averaged_by_cells():
    a, b = two_maps(6, n_samples=30)
    sections = np.repeat(["x", "y"], [10, 20])
    first, second = (procrustes_disparity(a[s], b[s]) for s in (slice(10), slice(10, 30)))
    moved = np.vstack([similarity(1, b[:10]), similarity(2, b[10:])])
    # Neither the frame nor the unit of a section of either map matters.
    units = np.where(sections == "x", 1.0, 1000.0)[:, None]

    expected = (10 * first + 20 * second) / 30
    assert_allclose(procrustes_disparity(a * units, moved, sections=sections), expected)
    shuffled = np.random.default_rng(0).permutation(30)
    assert_allclose(
        procrustes_disparity(a[shuffled], moved[shuffled], sections=sections[shuffled]), expected
    )
    assert procrustes_disparity(a, moved) > expected


def test_distance_is_the_frobenius_norm_of_what_is_left():
    a, b = two_maps(8)
    residual = procrustes_align(b, a)(b) - a
    assert_allclose(procrustes_distance(a, b), np.linalg.norm(residual))
    assert_allclose(procrustes_distance(a, b, normalize=True), np.linalg.norm(residual) / 20**0.5)
    assert_allclose(procrustes_distance(7 * a, b), 7 * procrustes_distance(a, b))
    assert_allclose(procrustes_distance(a, similarity(0, b)), procrustes_distance(a, b))
    assert procrustes_distance(a, similarity(0, a)) < 1e-12


def test_distance_of_sections_adds_squares():
    a, b = two_maps(9, n_samples=30)
    sections = np.repeat([0, 1], [10, 20])
    parts = [procrustes_distance(a[sections == s], b[sections == s]) for s in (0, 1)]
    assert_allclose(procrustes_distance(a, b, sections=sections), np.hypot(*parts))
    assert_allclose(
        procrustes_distance(a, b, sections=sections, normalize=True), np.hypot(*parts) / 30**0.5
    )


def test_sections_without_extent_are_left_out_with_a_warning():
    a, b = two_maps(10, n_samples=12)
    a[10:] = 3.0
    sections = ["big"] * 10 + ["dot", "dot"]
    for metric in (procrustes_disparity, procrustes_distance):
        with pytest.warns(UserWarning, match=r"section\(s\) \['dot'\]"):
            value = metric(a, b, sections=sections)
        assert_allclose(value, metric(a[:10], b[:10]))


@pytest.mark.parametrize("metric", [procrustes_disparity, procrustes_distance])
def test_bad_input_is_refused(metric):
    a, b = two_maps(0)
    with pytest.raises(ValueError, match="y_true is constant"):
        metric(np.ones((5, 2)), a[:5])
    with pytest.raises(ValueError, match="y_true is constant"):
        metric(a[:1], b[:1])
    with pytest.raises(ValueError, match="in each section"):
        metric(a[:2], b[:2], sections=["a", "b"])
    with pytest.raises(ValueError, match="y_true has 20 rows but y_pred has 19"):
        metric(a, b[:19])
    with pytest.raises(ValueError, match=r"y_pred contains NaN|NaN"):
        metric(a, np.where(b > 0, b, np.nan))
    with pytest.raises(ValueError, match="sections has 3 labels"):
        metric(a, b, sections=[1, 2, 3])


def test_align_refuses_what_it_cannot_fit_or_move():
    a, b = two_maps(0)
    with pytest.raises(ValueError, match="target are the same point"):
        procrustes_align(a, np.ones((20, 2)))
    with pytest.raises(ValueError, match="source has 20 rows but target has 5"):
        procrustes_align(a, b[:5])
    align = procrustes_align(np.c_[a, a], b)
    with pytest.raises(ValueError, match=r"points has 2 dimension\(s\).*fitted with 4"):
        align(a)
    with pytest.raises(ValueError, match="from 4 to 2 dimensions has no inverse"):
        align.inverse_transform(b)


def test_the_transform_is_frozen_and_pickles():
    a, b = two_maps(0)
    align = procrustes_align(a, b)
    assert isinstance(align, ProcrustesTransform)
    with pytest.raises(AttributeError):
        align.scale = 2.0
    again = pickle.loads(pickle.dumps(align))
    np.testing.assert_array_equal(again(a), align(a))


# ------------------------------------------------------------------ weights


@settings(deadline=None, max_examples=50)
@given(
    seed=seeds,
    dims=st.sampled_from([(1, 1), (2, 2), (3, 2), (2, 3)]),
    metric=st.sampled_from([procrustes_disparity, procrustes_distance]),
    n_sections=st.integers(1, 3),
)
def test_integer_weights_are_repeated_rows(seed, dims, metric, n_sections):
    a, b = two_maps(seed, 40, dims)
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 4, size=40)
    sections = rng.integers(n_sections, size=40)
    times[:20] += 1  # Enough rows in each section.
    sections[:20] = np.arange(20) % n_sections
    rows = np.repeat(np.arange(40), times)
    expected = metric(a[rows], b[rows], sections=sections[rows])
    found = metric(a, b, sample_weight=times, sections=sections)
    assert_allclose(found, expected, rtol=1e-9)
    if metric is procrustes_distance:
        assert_allclose(
            metric(a, b, sample_weight=times, sections=sections, normalize=True),
            metric(a[rows], b[rows], sections=sections[rows], normalize=True),
            rtol=1e-9,
        )


def test_weighted_disparity_is_least_squares():
    a, b = two_maps(3)
    weights = np.random.default_rng(3).uniform(size=len(a))

    def misfit(params):
        angle, scale, *shift = params
        rotation = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        return np.sum(weights[:, None] * (a - scale * b @ rotation - shift) ** 2)

    best = min(
        minimize(lambda p, m=m: misfit(p * [1, m, 1, 1]), [t, 1.0, 0, 0]).fun
        for t in (0.0, 2.0, 4.0)
        for m in (1, -1)
    )
    center = np.average(a, axis=0, weights=weights)
    spread = np.sum(weights[:, None] * (a - center) ** 2)
    assert_allclose(procrustes_disparity(a, b, sample_weight=weights), best / spread, rtol=1e-6)


@pytest.mark.parametrize("metric", [procrustes_disparity, procrustes_distance])
def test_weights_of_one_and_none(metric):
    a, b = two_maps(0)
    assert_allclose(metric(a, b, sample_weight=np.ones(len(a))), metric(a, b), rtol=1e-12)
    assert metric(a, b, sample_weight=None) == metric(a, b)
    assert_allclose(
        procrustes_disparity(a, b, sample_weight=np.full(len(a), 7e-9)),
        procrustes_disparity(a, b),
        rtol=1e-12,
    )


@pytest.mark.parametrize("metric", [procrustes_disparity, procrustes_distance])
def test_rows_of_weight_zero_do_not_exist(metric):
    a, b = two_maps(0)
    sections = np.repeat([0, 1], 10)
    weights = (sections == 0).astype(float)
    assert metric(a, b, sample_weight=weights, sections=sections) == metric(a[:10], b[:10])
    a[:10] = a[0]
    with pytest.raises(ValueError, match="constant"):
        metric(a, b, sample_weight=weights)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"sample_weight has shape \(3,\), but there are 20 rows"),
        (np.ones((20, 1)), "sample_weight has shape"),
        (-np.ones(20), "sample_weight ranges from -1.0 to -1.0"),
        (np.zeros(20), "sample_weight ranges from 0.0 to 0.0"),
        (np.full(20, np.nan), "sample_weight contains NaN"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        procrustes_disparity(*two_maps(0), sample_weight=weights)
