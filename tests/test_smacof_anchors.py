"""Anchors, odd input and many rows in anchored_smacof."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from sklearn.neighbors import kneighbors_graph
from smacof_problems import plain_stress, random_problem

from sklearn_dpvae.reconstruction._pairs import LatentDissimilarities
from sklearn_dpvae.reconstruction._smacof import anchored_smacof


def test_two_forms_of_anchors_agree():
    latents, _, (indices, coords), _ = random_problem(8)
    table = np.full((20, 2), np.nan)
    table[indices] = coords
    one = anchored_smacof(latents=latents, anchors=(indices, coords))
    other = anchored_smacof(latents=latents, anchors=table)
    np.testing.assert_allclose(other.embedding, one.embedding, atol=1e-6)
    np.testing.assert_array_equal(other.embedding[indices], coords)


def test_penalty_tends_to_the_constraint():
    latents, _, anchors, _ = random_problem(9, n_samples=40)
    options = {"latents": latents, "anchors": anchors, "eps": 0.0, "max_iter": 1000}
    exact = anchored_smacof(**options).embedding
    errors = [
        np.abs(anchored_smacof(penalty=mu, **options).embedding - exact).max()
        for mu in (1e1, 1e3, 1e5, 1e9)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5 < errors[0]
    # The error is of first order in 1 / mu.
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.2)


def test_every_row_known():
    rng = np.random.default_rng(10)
    coords = rng.normal(size=(6, 2))
    latents = rng.normal(size=(6, 3))
    result = anchored_smacof(latents=latents, anchors=(np.arange(6), coords), scale=2.0)
    np.testing.assert_array_equal(result.embedding, coords)
    assert result.n_iter == 0
    assert result.stress == pytest.approx(plain_stress(coords, squareform(pdist(latents)) / 2))


def test_scale_is_a_regression_over_the_anchors():
    rng = np.random.default_rng(11)
    coords = rng.uniform(0, 10, size=(40, 2))
    # Latents that know half of the place, the other half is noise of the tissue.
    latents = 3.0 * coords + 1.0
    coords = coords + rng.normal(size=coords.shape)
    squares, known = pdist(coords) ** 2, pdist(latents) ** 2
    (slope, rest), *_ = np.linalg.lstsq(
        np.column_stack([known, np.ones_like(known)]), squares, rcond=None
    )
    assert rest > 0
    indices = np.arange(40)
    for data in ({"latents": latents}, {"dissimilarities": squareform(pdist(latents))}):
        found = anchored_smacof(anchors=(indices, coords), **data)
        assert found.scale == pytest.approx(1 / np.sqrt(slope))
    # Few anchors: a line through the origin.
    few = anchored_smacof(latents=latents, anchors=(indices[:5], coords[:5]), max_iter=1)
    squares, known = pdist(coords[:5]) ** 2, pdist(latents[:5]) ** 2
    assert few.scale == pytest.approx(np.sqrt(known @ known / (known @ squares)))
    assert anchored_smacof(latents=latents, max_iter=1).scale == 1.0


def test_latents_that_know_nothing_get_a_finite_scale():
    rng = np.random.default_rng(26)
    latents, coords = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
    found = anchored_smacof(latents=latents, anchors=(np.arange(30), coords[:30]))
    assert 0 < found.scale < 10
    # The map shrinks to where nothing is known, not beyond the tissue.
    assert found.embedding[30:].std() < coords.std()


SQUARE = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
LINE = [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
PART = [[0.0, np.nan]] + [[1.0, 2.0]] * 19


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        (([0, 1], SQUARE[:2]), r"2 anchor\(s\) leave the pose of a 2-D map open: at least 3"),
        (([0, 1, 2, 3], LINE), "lie in one line.*mirror image"),
        (([0, 1, 2], [[1.0, 2.0]] * 3), "lie in one point"),
        (([0, 1, 20], SQUARE[:3]), "index 20 is out of range: indices run from 0 to 19"),
        (([0, 1, -1], SQUARE[:3]), "index -1 is out of range"),
        (([0, 1, 1, 2], [*SQUARE[:2], SQUARE[1], SQUARE[2]]), "index 1 is given 2 times"),
        (([0, 1, 1, 2], SQUARE), r"contradict.*index 1.*\[1.0, 0.0\] and \[0.0, 1.0\]"),
        (([0.0, 1.0, 2.0], SQUARE[:3]), "dtype float64; pass integers"),
        ((np.ones(20, dtype=bool), SQUARE[:3]), "np.flatnonzero"),
        (([0, 1, 2], SQUARE), "3 indices but 4 positions"),
        (([0, 1, 2], [[0.0], [1.0], [2.0]]), "1 coordinates but n_components=2"),
        (([0, 1, 2], [[0.0, np.nan], [1.0, 1.0], [2.0, 0.0]]), "NaN"),
        (([0, 1, 2], SQUARE[:3], None), "tuple of 3 items"),
        (PART, r"row 0 of anchors is \[0.0, nan\]: known in part"),
        (np.full((19, 2), np.nan), "19 rows but there are 20 samples"),
        (np.full((20, 2), np.nan), "0 anchor"),
        (([], np.empty((0, 2))), "0 anchor"),
    ],
)
def test_bad_anchors_are_named(anchors, message):
    latents = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValueError, match=message):
        anchored_smacof(latents=latents, anchors=anchors, scale=1.0)


@pytest.mark.parametrize("n_anchors", [1, 2])
def test_too_few_anchors_on_request(n_anchors):
    rng = np.random.default_rng(12)
    tissue = rng.uniform(size=(30, 2))
    known = np.arange(n_anchors)
    result = anchored_smacof(
        latents=tissue,
        anchors=(known, tissue[known]),
        scale=1.0,
        underdetermined="allow",
    )
    np.testing.assert_array_equal(result.embedding[known], tissue[known])
    np.testing.assert_allclose(pdist(result.embedding), pdist(tissue), atol=1e-5)


def test_anchors_on_a_line_on_request():
    tissue = np.random.default_rng(13).uniform(size=(30, 2))
    tissue[:4] = [[0.1, 0.1], [0.2, 0.2], [0.5, 0.5], [0.9, 0.9]]
    result = anchored_smacof(
        latents=tissue, anchors=(np.arange(4), tissue[:4]), underdetermined="allow"
    )
    np.testing.assert_array_equal(result.embedding[:4], tissue[:4])
    np.testing.assert_allclose(pdist(result.embedding), pdist(tissue), atol=1e-5)


def test_a_part_that_weights_cut_off_needs_anchors_of_its_own():
    latents = np.random.default_rng(14).normal(size=(10, 2))
    weights = np.zeros((10, 10))
    weights[:6, :6] = weights[6:, 6:] = 1.0
    options = {"latents": latents, "weights": weights, "anchors": (range(4), SQUARE)}
    with pytest.raises(ValueError, match=r"in the part of 4 row\(s\) around row 6"):
        anchored_smacof(**options)
    assert np.isfinite(anchored_smacof(underdetermined="allow", **options).embedding).all()


def test_scale_cannot_come_from_anchors_without_extent():
    latents = np.random.default_rng(15).normal(size=(10, 2))
    with pytest.raises(ValueError, match="scale=None"):
        anchored_smacof(latents=latents, anchors=([0], SQUARE[:1]), underdetermined="allow")


# Other input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "got neither"),
        ({"latents": SQUARE, "dissimilarities": np.zeros((4, 4))}, "got both"),
        ({"dissimilarities": np.ones((3, 4))}, "one row and one column"),
        ({"dissimilarities": [[0, 1], [2, 0]]}, "must be symmetric"),
        ({"dissimilarities": [[0, -1], [-1, 0]]}, "must not be negative"),
        ({"dissimilarities": np.ones((3, 3))}, "on its diagonal"),
        ({"latents": [[np.nan, 1.0], [0.0, 1.0]]}, "NaN"),
        ({"latents": SQUARE, "penalty": 1.0}, "there are no anchors"),
        ({"latents": SQUARE, "init": np.zeros((3, 2))}, "init has shape"),
        ({"latents": SQUARE, "init": "anchors"}, "needs anchors"),
        ({"latents": SQUARE, "weights": np.ones((3, 3))}, "weights has shape"),
        ({"latents": SQUARE, "weights": np.zeros((4, 4))}, "weights are all zero"),
        ({"latents": SQUARE, "weights": -np.ones((4, 4))}, "weights must not be negative"),
        ({"latents": SQUARE, "weights": np.triu(np.ones((4, 4)))}, "weights must be symmetric"),
        ({"latents": SQUARE, "weights": np.ones((4, 4)), "method": "stochastic"}, "no weights"),
        ({"dissimilarities": np.zeros((4, 4)), "method": "stochastic"}, "Pass latents"),
        ({"latents": SQUARE, "scale": 0.0}, "scale"),
        ({"latents": SQUARE, "n_components": 0}, "n_components"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        anchored_smacof(**options)


@pytest.mark.parametrize("change", [(0, 1), (2, 2)])
def test_rounding_in_a_matrix_is_no_error(change):
    latents, start, _, weights = random_problem(30)
    for name in ("dissimilarities", "weights"):
        data = {"dissimilarities": squareform(pdist(latents)), "weights": weights, "init": start}
        rounded, wrong = data[name].copy(), data[name].copy()
        rounded[change] += 1e-8 * rounded.max()
        wrong[change] += 1e-4 * wrong.max()
        anchored_smacof(**{**data, name: rounded}, max_iter=1)
        if name == "dissimilarities" or change == (0, 1):
            with pytest.raises(ValueError, match=f"{name} (must be symmetric|has .* diagonal)"):
                anchored_smacof(**{**data, name: wrong}, max_iter=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("anchored", [False, True])
def test_dtypes(dtype, anchored):
    latents, start, (indices, coords), _ = random_problem(16, n_samples=50)
    anchors = (indices, coords.astype(dtype)) if anchored else None
    reference = anchored_smacof(latents=latents, init=start, anchors=anchors, scale=1.0)
    result = anchored_smacof(
        latents=latents.astype(dtype), init=start.astype(dtype), anchors=anchors, scale=1.0
    )
    assert result.embedding.dtype == dtype
    assert result.stress == pytest.approx(reference.stress, rel=1e-3)
    assert (np.diff(result.history) <= 0).all()
    if anchored:
        np.testing.assert_array_equal(result.embedding[indices], anchors[1])


def test_float64_anchors_of_float32_latents_come_back_bit_for_bit():
    latents, _, (indices, coords), _ = random_problem(17)
    coords = coords * 1e4 + 1 / 3
    result = anchored_smacof(latents=latents.astype(np.float32), anchors=(indices, coords))
    np.testing.assert_array_equal(result.embedding[indices], coords)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coincident_points_are_finite(weighted, dtype):
    latents, start, anchors, weights = random_problem(18, n_samples=12)
    latents[:6] = latents[0]
    start[:] = start[0]
    options = {
        "latents": latents.astype(dtype),
        "weights": weights if weighted else None,
        "init": start,
    }
    for known in (None, anchors):
        result = anchored_smacof(anchors=known, **options)
        assert np.isfinite(result.embedding).all()
        assert np.isfinite(result.history).all()
    everywhere = anchored_smacof(latents=np.ones((5, 3)))
    np.testing.assert_allclose(everywhere.embedding, 0.0, atol=1e-12)
    assert everywhere.stress == pytest.approx(0.0, abs=1e-12)


def test_one_row_and_read_only_input():
    assert anchored_smacof(latents=[[1.0, 2.0]]).embedding.tolist() == [[0.0, 0.0]]
    latents, start, _, _ = random_problem(19)
    matrix = squareform(pdist(latents))
    for array in (latents, start, matrix):
        array.setflags(write=False)
    one = anchored_smacof(latents=latents, init=start)
    other = anchored_smacof(matrix, init=start)
    np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-6)


def test_more_components_than_latents():
    latents = np.random.default_rng(20).normal(size=(20, 2))
    result = anchored_smacof(latents=latents, n_components=3)
    assert result.embedding.shape == (20, 3)
    assert result.stress == pytest.approx(0.0, abs=1e-8)


def test_a_sparse_mask_recovers_a_grid():
    rng = np.random.default_rng(21)
    tissue = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2)
    tissue += rng.uniform(-0.2, 0.2, size=tissue.shape)
    graph = kneighbors_graph(tissue, 12)
    mask = graph.maximum(graph.T)
    known = np.flatnonzero((tissue[:, 0] % 4 < 1) & (tissue[:, 1] % 4 < 1))
    result = anchored_smacof(
        latents=tissue, anchors=(known, tissue[known]), weights=mask, max_iter=500, eps=1e-9
    )
    np.testing.assert_allclose(result.embedding, tissue, atol=1e-3)


def test_starts_are_reproducible_and_the_best_is_kept():
    latents, _, _, _ = random_problem(22, n_samples=30)
    options = {"latents": latents, "init": "random"}
    one = anchored_smacof(random_state=1, **options)
    np.testing.assert_array_equal(
        one.embedding, anchored_smacof(random_state=1, **options).embedding
    )
    several = anchored_smacof(random_state=1, n_init=5, **options)
    assert several.stress <= one.stress


def test_latents_never_make_more_than_a_block(monkeypatch):
    sizes = []
    make = LatentDissimilarities.block

    def block(self, rows, columns, *buffers):
        made = make(self, rows, columns, *buffers)
        sizes.append(made.numel())
        return made

    monkeypatch.setattr(LatentDissimilarities, "block", block)
    monkeypatch.setattr("sklearn_dpvae.reconstruction._pairs._CPU_BLOCK", 50)
    latents = np.random.default_rng(28).normal(size=(330, 3))
    anchors = (np.arange(70), latents[:70, :2])
    whole = anchored_smacof(latents=latents, anchors=anchors)
    assert max(sizes) == 50 * 50
    monkeypatch.setattr("sklearn_dpvae.reconstruction._pairs._CPU_BLOCK", 1000)
    at_once = anchored_smacof(latents=latents, anchors=anchors)
    np.testing.assert_allclose(whole.embedding, at_once.embedding, atol=1e-6)


def test_device_by_name():
    latents = np.random.default_rng(29).normal(size=(20, 3))
    expected = anchored_smacof(latents=latents).embedding
    for device in ("cpu", "auto"):
        found = anchored_smacof(latents=latents, device=device).embedding
        np.testing.assert_allclose(found, expected, atol=1e-4)


# Many rows --------------------------------------------------------------------------------


@pytest.fixture
def small_samples(monkeypatch):
    """Sampling as for many rows, on few."""
    for name in ("_BATCH", "_N_LANDMARKS", "_MAX_LANDMARK_ANCHORS"):
        monkeypatch.setattr(f"sklearn_dpvae.reconstruction._stochastic.{name}", 300)


@pytest.mark.parametrize("n_anchors", [0, 30, 500])
@pytest.mark.usefixtures("small_samples")
def test_sampling_comes_near_the_exact_stress(n_anchors):
    rng = np.random.default_rng(23)
    tissue = rng.uniform(size=(900, 2)) * [10, 6]
    latents = np.hstack([tissue, 0.3 * rng.normal(size=(900, 4))])
    known = rng.permutation(900)[:n_anchors]
    anchors = (known, tissue[known]) if n_anchors else None
    options = {"latents": latents, "anchors": anchors, "scale": 1.0}
    exact = anchored_smacof(method="exact", eps=1e-4, **options)
    sampled = anchored_smacof(method="stochastic", random_state=0, **options)
    stress = anchored_smacof(
        method="exact", init=sampled.embedding, max_iter=1, eps=0.0, **options
    ).history[0]
    assert stress < 1.02 * exact.stress
    assert sampled.stress == pytest.approx(stress, rel=0.05)
    if n_anchors:
        np.testing.assert_array_equal(sampled.embedding[known], tissue[known])
        away = np.linalg.norm(sampled.embedding - tissue, axis=1).mean()
        exactly = np.linalg.norm(exact.embedding - tissue, axis=1).mean()
        assert away < 1.05 * exactly + 1e-2
    again = anchored_smacof(method="stochastic", random_state=0, **options)
    np.testing.assert_array_equal(again.embedding, sampled.embedding)


@pytest.mark.usefixtures("small_samples")
def test_sampling_with_a_penalty_and_with_a_start():
    rng = np.random.default_rng(24)
    tissue = rng.uniform(size=(800, 2))
    options = {"anchors": (np.arange(50), tissue[:50]), "method": "stochastic"}
    strict = anchored_smacof(latents=tissue, penalty=1e9, random_state=0, **options)
    np.testing.assert_allclose(strict.embedding, tissue, atol=1e-2)
    started = anchored_smacof(latents=tissue, init=tissue, random_state=0, **options)
    np.testing.assert_allclose(started.embedding, tissue, atol=1e-6)


@pytest.mark.usefixtures("small_samples")
def test_many_rows_are_sampled_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr("sklearn_dpvae.reconstruction._smacof.MAX_EXACT", 500)
    latents = np.random.default_rng(27).normal(size=(600, 3))
    options = {"latents": latents, "random_state": 0}
    sampled = anchored_smacof(method="stochastic", **options).embedding
    np.testing.assert_array_equal(anchored_smacof(**options).embedding, sampled)
    exact = anchored_smacof(method="exact", **options).embedding
    np.testing.assert_array_equal(
        anchored_smacof(latents=latents[:500]).embedding,
        anchored_smacof(latents=latents[:500], method="exact").embedding,
    )
    assert not np.array_equal(exact, sampled)
