"""Anchored SMACOF against textbook numbers, scikit-learn, closed forms and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import smacof
from smacof_problems import plain_stress, random_problem

from sklearn_dpvae.reconstruction._smacof import anchored_smacof, guttman_transform

seeds = st.integers(0, 2**31 - 1)


def plain_guttman(points, dissimilarities, weights, indices, coords, penalty=None):
    """One step with the matrices of the textbook, by a dense solve."""
    n = len(points)
    distances = squareform(pdist(points))
    np.fill_diagonal(distances, 1.0)
    ratio = weights * dissimilarities / distances
    b = np.diag(ratio.sum(1)) - ratio
    v = np.diag(weights.sum(1)) - weights
    if penalty is not None:
        pull = np.zeros(n)
        pull[indices] = penalty
        right = b @ points
        right[indices] += penalty * coords
        return np.linalg.solve(v + np.diag(pull), right)
    free = np.setdiff1d(np.arange(n), indices)
    out = points.copy()
    out[indices] = coords
    right = (b @ points)[free] - v[np.ix_(free, indices)] @ coords
    if len(indices):
        out[free] = np.linalg.solve(v[np.ix_(free, free)], right)
    else:
        out = np.linalg.pinv(v) @ (b @ points)
    return out


# One step ---------------------------------------------------------------------------------


def test_guttman_step_of_the_textbook():
    # Borg & Groenen (2005), section 8.6: the first step of their numerical example.
    dissimilarities = squareform([5, 3, 4, 2, 2, 1])
    start = [[-0.266, -0.539], [0.451, 0.252], [0.016, -0.238], [-0.200, 0.524]]
    expected = [[-1.415, -2.471], [1.633, 1.107], [0.249, -0.067], [-0.468, 1.431]]
    np.testing.assert_allclose(guttman_transform(start, dissimilarities), expected, atol=1.5e-3)
    result = anchored_smacof(dissimilarities, init=start, max_iter=1, accelerate=False)
    np.testing.assert_allclose(result.history, [34.29899413, 0.58367883], rtol=2e-3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalty", [None, 0.01, 3.0, 1e6])
@pytest.mark.parametrize("n_anchors", [1, 5, 19])
def test_step_solves_the_textbook_equations(weighted, penalty, n_anchors):
    latents, start, anchors, weights = random_problem(1, n_anchors=n_anchors)
    dissimilarities = squareform(pdist(latents))
    ones = np.ones_like(weights) - np.eye(len(weights))
    expected = plain_guttman(
        start, dissimilarities, weights if weighted else ones, *anchors, penalty
    )
    found = guttman_transform(
        start,
        dissimilarities,
        weights=weights if weighted else None,
        anchors=anchors,
        penalty=penalty,
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_solution_stays_in_place():
    latents, _, (indices, coords), _ = random_problem(2)
    dissimilarities = squareform(pdist(latents))
    result = anchored_smacof(dissimilarities, anchors=(indices, coords), scale=1.0, eps=0.0)
    step = guttman_transform(result.embedding, dissimilarities, anchors=(indices, coords))
    np.testing.assert_allclose(step, result.embedding, atol=1e-5)


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize(
    ("n_anchors", "penalty"), [(0, None), (1, None), (6, None), (1, 2.0), (6, 2.0)]
)
def test_closed_form_equals_the_general_solver(form, n_anchors, penalty):
    latents, start, anchors, weights = random_problem(3, n_anchors=n_anchors)
    anchors = anchors if n_anchors else None
    ones = np.ones_like(weights)
    ones = ones if form == "dense" else sparse.csr_array(ones)
    options = {
        "latents": latents,
        "init": start,
        "anchors": anchors,
        "scale": 1.3,
        "penalty": penalty,
        "underdetermined": "allow",
        "max_iter": 20,
        "eps": 0.0,
    }
    closed = anchored_smacof(**options)
    general = anchored_smacof(weights=ones, **options)
    np.testing.assert_allclose(general.embedding, closed.embedding, atol=1e-5)
    np.testing.assert_allclose(general.history, closed.history, rtol=1e-6)


def test_dense_and_sparse_weights_agree():
    latents, start, anchors, weights = random_problem(4)
    weights[weights < 0.4] = 0.0
    options = {"latents": latents, "init": start, "anchors": anchors, "max_iter": 30}
    dense = anchored_smacof(weights=weights, **options)
    thin = anchored_smacof(weights=sparse.coo_matrix(weights), **options)
    np.testing.assert_allclose(thin.embedding, dense.embedding, atol=1e-6)
    dissimilarities = squareform(pdist(latents)) / dense.scale
    assert dense.stress == pytest.approx(plain_stress(dense.embedding, dissimilarities, weights))
    assert thin.stress == pytest.approx(dense.stress)


# Without anchors --------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["dissimilarities", "latents"])
@pytest.mark.parametrize("n_steps", [1, 2, 7, 40])
def test_same_stress_as_scikit_learn_step_by_step(source, n_steps):
    latents, start, _, _ = random_problem(5, n_samples=40)
    dissimilarities = squareform(pdist(latents))
    theirs, stress, _ = smacof(
        dissimilarities, init=start, n_init=1, max_iter=n_steps, eps=0.0, return_n_iter=True
    )
    data = {source: dissimilarities if source == "dissimilarities" else latents}
    ours = anchored_smacof(init=start, max_iter=n_steps, eps=0.0, accelerate=False, **data)
    assert ours.n_iter == n_steps
    assert ours.stress == pytest.approx(stress, rel=1e-10)
    np.testing.assert_allclose(ours.embedding, theirs, atol=1e-8)


def test_momentum_saves_steps():
    rng = np.random.default_rng(6)
    latents = np.hstack([rng.uniform(0, 10, size=(200, 2)), 0.5 * rng.normal(size=(200, 6))])
    options = {"latents": latents, "init": "random", "random_state": 0, "eps": 1e-8}
    plain = anchored_smacof(accelerate=False, **options)
    fast = anchored_smacof(**options)
    assert fast.stress == pytest.approx(plain.stress, rel=1e-4)
    goal = 1.001 * plain.stress
    assert np.argmax(fast.history <= goal) < 0.8 * np.argmax(plain.history <= goal)


def test_first_steps_in_float32_do_not_show(monkeypatch):
    monkeypatch.setattr("sklearn_dpvae.reconstruction._problem._MIN_ROWS_ROUGH", 300)
    rng = np.random.default_rng(25)
    tissue = rng.uniform(size=(300, 2))
    exact = anchored_smacof(latents=tissue, anchors=(np.arange(4), tissue[:4]), init="random")
    assert exact.embedding.dtype == np.float64
    assert (np.diff(exact.history) <= 0).all()
    latents = np.hstack([tissue, 0.1 * rng.normal(size=(300, 3))])
    start = rng.normal(size=(300, 2))
    options = {"init": start, "eps": 1e-7, "max_iter": 1000}
    mixed = anchored_smacof(latents=latents, **options)
    double = anchored_smacof(squareform(pdist(latents)), **options)
    assert mixed.stress == pytest.approx(double.stress, rel=1e-5)
    assert (np.diff(mixed.history) <= 0).all()
    expected = plain_stress(mixed.embedding, squareform(pdist(latents)))
    assert mixed.stress == pytest.approx(expected, rel=1e-9)


def test_classical_start_is_the_same_from_both_sources():
    rng = np.random.default_rng(7)
    latents = rng.normal(size=(300, 6)) * [5, 3, 1, 1, 1, 1]
    options = {"init": "classical", "max_iter": 1}
    one = anchored_smacof(latents=latents, **options)
    other = anchored_smacof(squareform(pdist(latents)), random_state=0, **options)
    np.testing.assert_allclose(one.history, other.history, rtol=1e-3)


# Properties -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    n_samples=st.integers(6, 40),
    n_anchors=st.integers(0, 6),
    n_dims=st.integers(1, 3),
    weighted=st.booleans(),
    accelerate=st.booleans(),
    penalty=st.sampled_from([None, 0.1, 50.0]),
)
def test_stress_falls_and_is_what_it_says(
    seed, n_samples, n_anchors, n_dims, weighted, accelerate, penalty
):
    latents, start, anchors, weights = random_problem(seed, n_samples, n_dims, n_anchors)
    weights = weights if weighted else None
    result = anchored_smacof(
        latents=latents,
        n_components=n_dims,
        init=start,
        anchors=anchors if n_anchors else None,
        weights=weights,
        scale=0.7,
        penalty=penalty if n_anchors else None,
        underdetermined="allow",
        accelerate=accelerate,
        max_iter=60,
    )
    assert (np.diff(result.history) <= 0).all()
    expected = plain_stress(result.embedding, squareform(pdist(latents)) / 0.7, weights)
    if n_anchors and penalty is not None:
        indices, coords = anchors
        expected += penalty * ((result.embedding[indices] - coords) ** 2).sum()
    elif n_anchors:
        np.testing.assert_array_equal(result.embedding[anchors[0]], anchors[1])
    assert result.stress == pytest.approx(expected, rel=1e-6, abs=1e-10)
    assert result.history[-1] == pytest.approx(result.stress)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n_dims=st.integers(1, 3), reflect=st.booleans(), extra=st.integers(0, 3))
def test_exact_distances_give_the_exact_map_in_any_pose(seed, n_dims, reflect, extra):
    rng = np.random.default_rng(seed)
    tissue = rng.uniform(-1, 1, size=(40, n_dims)) * 300 + rng.uniform(-1e4, 1e4, size=n_dims)
    turn = np.linalg.qr(rng.normal(size=(n_dims + extra, n_dims + extra)))[0][:n_dims]
    if reflect:
        turn[0] *= -1
    scale = rng.uniform(0.01, 10.0)
    # The first corner of a simplex and its neighbors: in general position by construction.
    tissue[: n_dims + 1] = tissue[0] + 200 * np.vstack([np.zeros(n_dims), np.eye(n_dims)])
    known = np.arange(max(4, n_dims + 1))
    result = anchored_smacof(
        latents=scale * tissue @ turn + 3.0,
        n_components=n_dims,
        anchors=(known, tissue[known]),
    )
    assert result.scale == pytest.approx(scale)
    np.testing.assert_allclose(result.embedding, tissue, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, weighted=st.booleans())
def test_order_of_the_rows_does_not_matter(seed, weighted):
    latents, start, (indices, coords), weights = random_problem(seed, n_samples=15)
    order = np.random.default_rng(seed).permutation(15)
    place = np.argsort(order)
    options = {"scale": 1.0, "max_iter": 10}
    one = anchored_smacof(
        latents=latents,
        init=start,
        anchors=(indices, coords),
        weights=weights if weighted else None,
        **options,
    )
    other = anchored_smacof(
        latents=latents[order],
        init=start[order],
        anchors=(place[indices], coords),
        weights=weights[np.ix_(order, order)] if weighted else None,
        **options,
    )
    np.testing.assert_allclose(other.embedding, one.embedding[order], atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, angle=st.floats(0, 6.3), shift=st.floats(-1e3, 1e3))
def test_the_answer_moves_with_the_anchors(seed, angle, shift):
    latents, start, (indices, coords), _ = random_problem(seed, n_samples=15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    options = {"latents": latents, "scale": 1.0, "max_iter": 10}
    one = anchored_smacof(init=start, anchors=(indices, coords), **options)
    other = anchored_smacof(
        init=start @ turn + shift, anchors=(indices, coords @ turn + shift), **options
    )
    np.testing.assert_allclose(other.embedding, one.embedding @ turn + shift, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"accelerate": False}, {"method": "stochastic"}])
def test_a_bar_shows_the_passes_and_changes_nothing(options, capsys):
    latents = np.random.default_rng(0).normal(size=(60, 4))
    quiet = anchored_smacof(latents=latents, random_state=0, **options)
    assert not capsys.readouterr().err
    loud = anchored_smacof(latents=latents, random_state=0, verbose=1, **options)
    assert "SMACOF" in capsys.readouterr().err
    np.testing.assert_array_equal(loud.embedding, quiet.embedding)
