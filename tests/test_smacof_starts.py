"""Where SMACOF starts, and the scale and the precision that it starts with."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist, squareform
from smacof_problems import plain_stress, random_problem

from sklearn_dpvae.reconstruction import anchored_smacof, guttman_transform
from sklearn_dpvae.reconstruction._anchors import estimate_scale
from sklearn_dpvae.reconstruction._majorize import Solution
from sklearn_dpvae.reconstruction._problem import ScalingProblem
from sklearn_dpvae.reconstruction._starts import (
    align,
    choose_start,
    classical_start,
    latent_spread,
    matrix_spread,
    solve_from_starts,
)


def turned(points, seed=0):
    """Points after a reflection, a rotation into five dimensions and a scale of 3."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0][: points.shape[1]]
    return 3.0 * (points * [-1.0, 1.0]) @ turn


# The scale ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_the_regression_of_the_scale_needs_two_anchors_per_freedom(n_dims):
    rng = np.random.default_rng(n_dims)
    coords = rng.uniform(size=(2 * (n_dims + 1), n_dims))
    # Squared distances with a part that the latents do not know.
    known = np.sqrt(np.maximum(pdist(coords, "sqeuclidean") - 0.05, 0.0)) * 2.0
    squares = pdist(coords, "sqeuclidean")
    slope, rest = np.polyfit(known**2, squares, 1)
    assert rest > 0
    assert estimate_scale(coords, known) == pytest.approx(1 / np.sqrt(slope))
    fewer = coords[:-1]
    known, squares = (squareform(squareform(pairs)[:-1, :-1]) for pairs in (known, squares))
    through_origin = (known**2 @ squares) / (known**2 @ known**2)
    slope, rest = np.polyfit(known**2, squares, 1)
    assert estimate_scale(fewer, known) == pytest.approx(1 / np.sqrt(through_origin))
    assert slope != pytest.approx(through_origin, rel=1e-3)


def test_the_scale_stays_between_its_bounds():
    coords = np.random.default_rng(0).uniform(size=(30, 2))
    squares = pdist(coords, "sqeuclidean")
    # A regression with t < 0 becomes the line through the origin.
    longer = squares + 0.3
    through_origin = (longer @ squares) / (longer @ longer)
    assert np.polyfit(longer, squares, 1)[1] < 0
    assert estimate_scale(coords, np.sqrt(longer)) == pytest.approx(1 / np.sqrt(through_origin))
    # One that falls is cut at a tenth of that slope.
    falling = squares.max() - squares
    through_origin = (falling @ squares) / (falling @ falling)
    found = estimate_scale(coords, np.sqrt(falling))
    assert found == pytest.approx(1 / np.sqrt(0.1 * through_origin))


def test_a_sample_of_many_anchors_tells_the_scale(monkeypatch):
    rng = np.random.default_rng(1)
    coords = rng.uniform(size=(400, 2))
    latents = turned(coords) + 0.1 * rng.normal(size=(400, 5))
    options = {"latents": latents, "n_dims": 2, "anchors": (np.arange(400), coords)}
    whole = ScalingProblem(**options).scale
    monkeypatch.setattr("sklearn_dpvae.reconstruction._problem._MAX_SCALE_ANCHORS", 100)
    sample = ScalingProblem(**options).scale
    assert sample != whole
    assert sample == pytest.approx(whole, rel=0.05)
    assert sample == pytest.approx(3.0, rel=0.1)


# Starts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["latents", "dissimilarities"])
@pytest.mark.parametrize("n_anchors", [0, 1, 4])
def test_the_classical_start_of_exact_distances_is_the_answer(source, n_anchors):
    tissue = np.random.default_rng(2).uniform(size=(30, 2)) + 50
    latents = turned(tissue)
    data = {source: latents if source == "latents" else squareform(pdist(latents))}
    anchors = (np.arange(n_anchors), tissue[:n_anchors]) if n_anchors else None
    found = anchored_smacof(
        **data, anchors=anchors, scale=3.0, init="classical", underdetermined="allow"
    )
    # A pose that one anchor leaves open is not that of the tissue, but the distances are exact.
    assert found.history[0] == pytest.approx(0.0, abs=1e-12)
    if n_anchors == 4:
        np.testing.assert_allclose(found.embedding, tissue, atol=1e-6)


def test_the_classical_start_has_the_same_signs_from_every_seed():
    latents = np.random.default_rng(2).normal(size=(300, 3)) * [4.0, 2.0, 1.0]
    matrix = squareform(pdist(latents))
    starts = [classical_start(matrix, 2, np.random.RandomState(seed)) for seed in range(6)]
    for other in starts[1:]:
        np.testing.assert_allclose(other, starts[0], atol=0.1)


@pytest.mark.parametrize("source", ["latents", "dissimilarities"])
def test_random_starts_are_as_wide_as_the_map_and_lie_at_the_anchors(source):
    tissue = np.random.default_rng(3).uniform(size=(400, 2)) * 10 + 1e6
    latents = turned(tissue)
    data = {source: latents if source == "latents" else squareform(pdist(latents))}
    problem = ScalingProblem(
        **data, n_dims=2, scale=3.0, anchors=(np.arange(5), tissue[:5]), penalty=1.0
    )
    start = choose_start(problem, problem.majorizer(), "random", np.random.RandomState(0)).numpy()
    width = np.sqrt(np.mean(pdist(tissue) ** 2))
    assert np.sqrt(np.mean(pdist(start) ** 2)) == pytest.approx(width, rel=0.05)
    restored = problem.restore(start)
    assert np.abs(restored.mean(axis=0) - tissue[:5].mean(axis=0)).max() < 0.1 * width


def test_spread_is_the_root_mean_square_distance():
    latents = np.random.default_rng(4).normal(size=(50, 4))
    expected = np.sqrt(np.mean(pdist(latents) ** 2))
    assert matrix_spread(squareform(pdist(latents))) == pytest.approx(expected)
    assert latent_spread(latents) == pytest.approx(np.sqrt(np.mean(cdist(latents, latents) ** 2)))


def test_anchors_start_places_exact_distances():
    tissue = np.random.default_rng(5).uniform(size=(60, 2)) + 20
    latents = turned(tissue)
    for data in ({"latents": latents}, {"dissimilarities": squareform(pdist(latents))}):
        found = anchored_smacof(
            **data, anchors=(np.arange(9), tissue[:9]), scale=3.0, init="anchors", max_iter=1
        )
        np.testing.assert_allclose(found.embedding, tissue, atol=1e-2)


def test_auto_takes_the_better_start():
    rng = np.random.default_rng(6)
    tissue = rng.uniform(size=(60, 2))
    latents = np.hstack([turned(tissue), 2.0 * rng.normal(size=(60, 3))])
    better = []
    for noise in (0.0, 1.0):
        coords = tissue[:8] + noise * rng.normal(size=(8, 2))
        options = {"latents": latents, "anchors": (np.arange(8), coords), "scale": 3.0}
        first = {
            init: anchored_smacof(init=init, max_iter=1, **options).history[0]
            for init in ("auto", "classical", "anchors")
        }
        assert first["classical"] != pytest.approx(first["anchors"], rel=1e-3)
        assert first["auto"] == min(first["classical"], first["anchors"])
        better.append(min(first, key=first.get))
    # As many anchors as coordinates do not place a row.
    few = anchored_smacof(
        latents=latents,
        anchors=([0, 1], tissue[:2]),
        scale=3.0,
        underdetermined="allow",
        max_iter=1,
    )
    classical = anchored_smacof(
        latents=latents,
        anchors=([0, 1], tissue[:2]),
        scale=3.0,
        underdetermined="allow",
        init="classical",
        max_iter=1,
    )
    assert few.history[0] == classical.history[0]


def test_align_finds_the_similarity_and_its_mirror_image():
    tissue = np.random.default_rng(7).uniform(size=(20, 2)) + 5
    start = 0.1 * (tissue * [-1.0, 1.0]) @ [[0.6, 0.8], [-0.8, 0.6]] - 3
    indices = np.array([4, 9, 1])
    np.testing.assert_allclose(align(start, indices, tissue[indices]), tissue)
    assert align(start, indices[:0], tissue[:0]) is start


@pytest.mark.parametrize("which", ["coords", "start", "neither"])
def test_align_translates_where_the_anchors_tell_no_more(which):
    start = np.random.default_rng(8).normal(size=(20, 2))
    indices = np.array([3, 5])
    coords = np.array([[7.0, 8.0], [9.0, 8.0]])
    if which == "coords":
        coords[:] = coords[0]
    elif which == "start":
        start[indices] = start[3]
    else:
        indices, coords = indices[:1], coords[:1]
    expected = start - start[indices].mean(axis=0) + coords.mean(axis=0)
    np.testing.assert_allclose(align(start, indices, coords), expected)


def test_n_init_starts_and_the_lowest_stress_wins():
    problem = ScalingProblem(latents=np.random.default_rng(9).normal(size=(10, 3)), n_dims=2)
    starts, stresses = [], iter([5.0, 3.0, 4.0, 3.0])

    def solve(start):
        starts.append(start)
        return Solution(start, [9.0, next(stresses)], 1)

    options = {"n_init": 4, "solve": solve}
    rng = np.random.RandomState(0)
    best = solve_from_starts(problem, problem.majorizer(), "classical", rng, **options)
    assert len(starts) == 4
    assert best.points is starts[1]
    assert not any(torch.equal(starts[0], other) for other in starts[1:])
    stresses = iter([5.0])
    solve_from_starts(problem, problem.majorizer(), np.zeros((10, 2)), rng, **options)
    assert len(starts) == 5


# Precision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [None, 2.0])
def test_float32_passes_are_for_many_float64_latents_without_weights(monkeypatch, penalty):
    monkeypatch.setattr("sklearn_dpvae.reconstruction._problem._MIN_ROWS_ROUGH", 20)
    latents, _, anchors, weights = random_problem(0)
    options = {"n_dims": 2, "anchors": anchors, "penalty": penalty}
    rough = ScalingProblem(latents=latents, **options).rough_majorizer()
    kept = rough.fixed if penalty is None else rough.targets
    assert kept.dtype == torch.float32
    assert len(kept) == len(anchors[0])
    points = torch.zeros((20 - (len(kept) if penalty is None else 0), 2))
    stress, product = rough.evaluate(points)
    assert rough.step(points, product).dtype == torch.float32
    assert np.isfinite(stress)
    for data in (
        {"latents": latents.astype(np.float32)},
        {"latents": latents, "weights": weights},
        {"dissimilarities": squareform(pdist(latents))},
        {"latents": np.delete(latents, np.setdiff1d(np.arange(20), anchors[0])[0], axis=0)},
    ):
        fewer = {**options, "anchors": (np.arange(5), anchors[1])}
        assert ScalingProblem(**data, **fewer).rough_majorizer() is None


def test_plain_steps_are_never_in_float32(monkeypatch):
    monkeypatch.setattr("sklearn_dpvae.reconstruction._problem._MIN_ROWS_ROUGH", 20)
    latents, start, _, _ = random_problem(1)
    options = {"init": start, "accelerate": False, "max_iter": 30, "eps": 0.0}
    one = anchored_smacof(latents=latents, **options)
    other = anchored_smacof(squareform(pdist(latents)), **options)
    assert one.n_iter == 30
    np.testing.assert_allclose(one.history, other.history, rtol=1e-12)


def test_a_matrix_of_any_memory_layout():
    latents, start, _, _ = random_problem(2)
    matrix = squareform(pdist(latents))
    expected = anchored_smacof(matrix, init=start, max_iter=5).embedding
    back = slice(None, None, -1)
    for other in (np.asfortranarray(matrix), np.ascontiguousarray(matrix[back, back])[back, back]):
        found = anchored_smacof(other, init=start, max_iter=5).embedding
        np.testing.assert_array_equal(found, expected)


# Weights ------------------------------------------------------------------------------------


def test_a_row_without_weights_stays_in_place():
    latents, start, _, weights = random_problem(3)
    weights[7] = weights[:, 7] = 0.0
    moved = guttman_transform(start, squareform(pdist(latents)), weights=weights)
    rest = np.delete(np.arange(20), 7)
    alone = guttman_transform(
        start[rest], squareform(pdist(latents[rest])), weights=weights[np.ix_(rest, rest)]
    )
    assert np.isfinite(moved).all()
    np.testing.assert_allclose(pdist(moved[rest]), pdist(alone), atol=1e-6)


def test_weights_on_a_line():
    # The second coordinate is solved before the first step.
    latents, start, _, weights = random_problem(4)
    start[:, 1] = 0.0
    moved = guttman_transform(start, squareform(pdist(latents)), weights=weights)
    np.testing.assert_array_equal(moved[:, 1], 0.0)
    line = guttman_transform(start[:, :1], squareform(pdist(latents)), weights=weights)
    np.testing.assert_allclose(moved[:, :1], line, atol=1e-6)


def test_the_diagonal_of_the_weights_does_not_count():
    latents, start, anchors, weights = random_problem(5)
    options = {"latents": latents, "init": start, "anchors": anchors, "max_iter": 5}
    expected = anchored_smacof(weights=weights, **options)
    found = anchored_smacof(weights=weights + 7.0 * np.eye(20), **options)
    np.testing.assert_allclose(found.embedding, expected.embedding, atol=1e-12)


# Many rows ----------------------------------------------------------------------------------


def test_sampling_of_one_row():
    found = anchored_smacof(latents=[[1.0, 2.0]], method="stochastic")
    assert found.embedding.tolist() == [[0.0, 0.0]]
    assert found.stress == 0.0


def test_a_sample_of_the_rows_is_the_same_problem():
    latents, _, (indices, coords), _ = random_problem(6)
    options = {"latents": latents, "anchors": (indices, coords), "scale": 7.0, "penalty": 2.0}
    problem = ScalingProblem(n_dims=2, **options)
    rows = np.array([0, 4, 9, 15, 18])
    small = problem.take(rows)
    assert (small.scale, small.penalty) == (7.0, 2.0)
    np.testing.assert_array_equal(small.latents, latents[problem.order[rows]])
    np.testing.assert_array_equal(small.indices, [3, 4])
    np.testing.assert_array_equal(problem.order[[15, 18]], indices[[0, 3]])
    np.testing.assert_array_equal(small.coords, coords[[0, 3]])
    free = ScalingProblem(latents=latents, n_dims=2)
    assert len(free.take(rows).indices) == 0


def test_weights_and_matrices_are_never_sampled(monkeypatch):
    monkeypatch.setattr("sklearn_dpvae.reconstruction._smacof.MAX_EXACT", 10)
    latents, start, _, weights = random_problem(7)
    for data in (
        {"latents": latents, "weights": weights},
        {"dissimilarities": squareform(pdist(latents))},
    ):
        auto = anchored_smacof(init=start, max_iter=20, **data)
        exact = anchored_smacof(init=start, max_iter=20, method="exact", **data)
        np.testing.assert_array_equal(auto.history, exact.history)


def test_a_batch_of_all_rows_takes_shrinking_guttman_steps():
    latents, start, _, _ = random_problem(8)
    matrix = squareform(pdist(latents))
    options = {"latents": latents, "init": start, "method": "stochastic", "random_state": 0}
    first = guttman_transform(start, matrix)
    one = anchored_smacof(max_iter=1, **options)
    np.testing.assert_allclose(one.embedding, first, atol=1e-9)
    np.testing.assert_allclose(
        one.history, [plain_stress(start, matrix), plain_stress(first, matrix)]
    )
    second = first + 2 / 3 * (guttman_transform(first, matrix) - first)
    two = anchored_smacof(max_iter=2, **options)
    np.testing.assert_allclose(two.embedding, second, atol=1e-9)


def test_a_penalty_draws_each_sampled_row_to_its_anchor():
    latents, start, (indices, coords), _ = random_problem(9)
    matrix = squareform(pdist(latents))
    found = anchored_smacof(
        latents=latents,
        init=start,
        anchors=(indices, coords),
        scale=1.0,
        penalty=5.0,
        method="stochastic",
        max_iter=1,
        random_state=0,
    )
    expected = guttman_transform(start, matrix) + start.mean(axis=0)
    expected[indices] = (20 * expected[indices] + 5.0 * coords) / 25
    np.testing.assert_allclose(found.embedding, expected, atol=1e-9)
    pull = 5.0 * ((expected[indices] - coords) ** 2).sum()
    assert found.stress == pytest.approx(plain_stress(expected, matrix) + pull)
