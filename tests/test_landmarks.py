"""Placing rows one by one, and choosing what to place them by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from sklearn_dpvae.reconstruction._landmarks import choose_landmarks, place_pointwise
from sklearn_dpvae.reconstruction._multilateration import neighbor_start, place_rows
from sklearn_dpvae.reconstruction._smacof import anchored_smacof


@pytest.fixture
def placed():
    """Latents with noise dimensions of 40 landmarks and 150 queries, and positions of both."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 1000, size=(190, 2)) + 5000
    latents = np.hstack([0.01 * coords, rng.normal(size=(190, 3))])
    return latents[40:], latents[:40], coords[:40], coords[40:]


def stress_at(point, dissimilarities, landmarks):
    return ((np.linalg.norm(landmarks - point, axis=1) - dissimilarities) ** 2).sum()


def test_every_row_is_at_a_minimum_of_its_stress(placed):
    queries, landmarks, coords, _ = placed
    found, stress = place_pointwise(queries, landmarks, coords, scale=0.01, return_stress=True)
    dissimilarities = cdist(queries, landmarks) / 0.01
    for row in range(0, 150, 10):
        best = minimize(
            stress_at, found[row], args=(dissimilarities[row], coords), options={"gtol": 1e-3}
        )
        np.testing.assert_allclose(found[row], best.x, atol=0.05)
        assert stress[row] == pytest.approx(stress_at(found[row], dissimilarities[row], coords))


def test_it_is_smacof_with_all_but_one_row_known(placed):
    queries, landmarks, coords, _ = placed
    found = place_pointwise(queries[:5], landmarks, coords, scale=0.01)
    for row in range(5):
        result = anchored_smacof(
            latents=np.vstack([landmarks, queries[row]]),
            anchors=(np.arange(40), coords),
            scale=0.01,
            eps=0.0,
        )
        np.testing.assert_allclose(result.embedding[-1], found[row], atol=1e-2)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    n_landmarks=st.integers(1, 80),
    n_dims=st.integers(1, 3),
    n_latents=st.integers(1, 12),
)
def test_a_row_does_not_see_its_batch(seed, n_landmarks, n_dims, n_latents):
    rng = np.random.default_rng(seed)
    landmarks, coords = (
        rng.normal(size=(n_landmarks, n_latents)),
        rng.normal(size=(n_landmarks, n_dims)),
    )
    queries = rng.normal(size=(33, n_latents))
    whole = place_pointwise(queries, landmarks, coords)
    assert np.isfinite(whole).all()
    order = rng.permutation(33)[:9]
    np.testing.assert_array_equal(place_pointwise(queries[order], landmarks, coords), whole[order])
    for row in order[:3]:
        alone = place_pointwise(queries[row : row + 1], landmarks, coords)
        np.testing.assert_array_equal(alone[0], whole[row])


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_exact_distances_give_the_exact_place(n_dims):
    rng = np.random.default_rng(n_dims)
    points = rng.uniform(-1, 1, size=(60, n_dims)) * 100
    turn = np.linalg.qr(rng.normal(size=(n_dims + 2, n_dims + 2)))[0][:n_dims]
    latents = 3.0 * points @ turn
    found = place_pointwise(latents[20:], latents[:20], points[:20], scale=3.0)
    np.testing.assert_allclose(found, points[20:], atol=1e-6)


def test_a_landmark_lands_on_itself(placed):
    _, _, coords, _ = placed
    np.testing.assert_allclose(place_pointwise(coords, coords, coords), coords, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), n_landmarks=st.integers(2, 12))
def test_no_step_raises_the_stress_of_a_row(seed, n_landmarks):
    rng = np.random.default_rng(seed)
    landmarks = rng.normal(size=(n_landmarks, 2))
    dissimilarities = rng.uniform(0, 4, size=(100, n_landmarks))
    starts = [rng.normal(size=(100, 2))]
    last = np.full(100, np.inf)
    for n_steps in range(12):
        _, stress, n_iter = place_rows(dissimilarities, landmarks, starts, max_iter=n_steps)
        assert (stress <= last * (1 + 1e-12)).all()
        assert (n_iter <= n_steps).all()
        last = stress


def test_near_landmarks_count_more():
    landmarks = np.array([[0.0, 0.0], [3.0, 0.0]])
    found = neighbor_start(np.array([[1.0, 2.0], [0.0, 3.0]]), landmarks)
    np.testing.assert_allclose(found, [[1.0, 0.0], [0.0, 0.0]], atol=1e-2)
    # Ten of many landmarks.
    line = np.arange(100.0)[:, None]
    found = neighbor_start(np.abs(line - 50.5).T, line)
    np.testing.assert_allclose(found, [[50.5]])


def test_a_given_start_is_used(placed):
    queries, landmarks, coords, truth = placed
    free = place_pointwise(queries, landmarks, coords, scale=0.01)
    started = place_pointwise(queries, landmarks, coords, scale=0.01, init=truth)
    assert np.mean(np.linalg.norm(free - started, axis=1) < 1e-3) > 0.9
    stay = place_pointwise(queries, landmarks, coords, scale=0.01, init=truth, max_iter=0)
    np.testing.assert_allclose(stay, truth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": np.zeros((2, 4))}, "latents has 4 columns but landmark_latents has 5"),
        ({"landmark_coords": np.zeros((3, 2))}, "40 rows but landmark_coords has 3"),
        ({"scale": -1.0}, "scale must be a positive number"),
        ({"scale": np.nan}, "scale must be a positive number"),
        ({"init": np.zeros((3, 2))}, "init has shape"),
        ({"latents": np.full((2, 5), np.nan)}, "NaN"),
    ],
)
def test_bad_input_is_named(placed, change, message):
    queries, landmarks, coords, _ = placed
    data = {"latents": queries, "landmark_latents": landmarks, "landmark_coords": coords}
    with pytest.raises(ValueError, match=message):
        place_pointwise(**{**data, **change})


# Choosing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["kmeans", "farthest", "random"])
def test_landmarks_cover_sections_in_proportion(method):
    rng = np.random.default_rng(1)
    points = rng.normal(size=(300, 3))
    codes = np.repeat([5, 7, 9], [200, 95, 5])
    chosen = choose_landmarks(points, 60, codes=codes, method=method, random_state=0)
    assert len(np.unique(chosen)) == 60
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(np.bincount(codes[chosen])[[5, 7, 9]], [40, 19, 1])
    again = choose_landmarks(points, 60, codes=codes, method=method, random_state=0)
    np.testing.assert_array_equal(again, chosen)


def test_farthest_points_cover_best():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(500, 2))
    reach = {
        method: cdist(
            points, points[choose_landmarks(points, 30, method=method, random_state=0)]
        ).min(1)
        for method in ("kmeans", "farthest", "random")
    }
    assert reach["farthest"].max() < min(reach["kmeans"].max(), reach["random"].max())
    assert reach["kmeans"].mean() < reach["random"].mean()


def test_few_rows_and_equal_rows():
    np.testing.assert_array_equal(choose_landmarks(np.zeros((4, 2)), 10), np.arange(4))
    for method in ("farthest", "random"):
        assert len(np.unique(choose_landmarks(np.zeros((9, 2)), 5, method=method))) == 5
    with pytest.raises(ValueError, match="less than the number of sections, 3"):
        choose_landmarks(np.zeros((9, 2)), 2, codes=[0, 1, 2] * 3)
    with pytest.raises(ValueError, match="codes has shape"):
        choose_landmarks(np.zeros((9, 2)), 2, codes=[0, 1])
