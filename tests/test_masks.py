"""Masks: which pairs count, that they are sliced and sampled right, and eq. (5) over them."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate
from training_parts import reference

from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae._network.losses import (
    DISTANCE_LOSSES,
    distance_preservation,
    pairwise_distance_preservation,
)
from sklearn_dpvae._training.batches import Batches
from sklearn_dpvae._training.pairs import EdgeMask, GroupMask, build_mask
from sklearn_dpvae.masks import (
    MASKS,
    ClusterMask,
    KNNMask,
    RadiusMask,
)
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler


def quick(**params):
    return DPVAESpatialRegressor(
        **{"hidden_layer_sizes": (16,), "max_epochs": 3, "n_estimators": 2, "random_state": 0}
        | params
    )


@pytest.fixture
def scaled(tissue):
    X = LogNormalizer().fit_transform(tissue.X)
    X = SectionScaler().fit_transform(X, sections=tissue.sections)
    return np.asarray(X, dtype=np.float32), tissue.coords, tissue.sections


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(80, 2))


def build(mask, X, coords, codes=None):
    codes = np.zeros(len(coords), dtype=int) if codes is None else codes
    return build_mask(mask, X, coords, codes, np.unique(codes))


# ------------------------------------------------------------------ what each is


def test_knn_is_the_brute_force_graph_in_either_direction(points):
    d = cdist(points, points) + np.diag(np.full(80, np.inf))
    near = np.argsort(d, axis=1)[:, :5]
    expected = np.zeros((80, 80), dtype=bool)
    np.put_along_axis(expected, near, True, axis=1)
    mask = KNNMask(n_neighbors=5, n_scales=1)(None, points).toarray()
    np.testing.assert_array_equal(mask, expected | expected.T)


def test_further_scales_add_farther_pairs(points):
    d = cdist(points, points)
    near, far = (KNNMask(n_neighbors=5, n_scales=k)(None, points).toarray() for k in (1, 3))
    assert (far >= near).all()
    assert (far == far.T).all()
    assert d[(far > near)].mean() > 1.5 * d[near > 0].mean()
    np.testing.assert_array_equal(KNNMask(n_neighbors=79)(None, points).toarray(), 1 - np.eye(80))


def test_radius_is_brute_force(points):
    expected = (cdist(points, points) <= 0.7) & ~np.eye(80, dtype=bool)
    np.testing.assert_array_equal(RadiusMask(0.7)(None, points).toarray(), expected)
    default = RadiusMask()(None, 10 * points).toarray()
    np.testing.assert_array_equal(default, RadiusMask()(None, points).toarray())
    assert 0.05 < default.mean() < 0.3


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
def test_clusters_find_blobs(make, points):
    X = np.repeat(10 * np.eye(4, 30), 20, axis=0)
    X += 0.1 * np.random.default_rng(0).normal(size=X.shape)
    labels = ClusterMask(n_clusters=4)(make(X), points)
    truth = np.repeat(np.arange(4), 20)
    np.testing.assert_array_equal(labels[:, None] == labels, truth[:, None] == truth)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (KNNMask(n_neighbors=0), "'n_neighbors' parameter of KNNMask must be an int"),
        (KNNMask(n_scales=0), "'n_scales' parameter"),
        (KNNMask(random_state="zero"), "'random_state' parameter"),
        (RadiusMask(radius=0.0), "'radius' parameter of RadiusMask must be a float"),
        (ClusterMask(n_clusters=0), "'n_clusters' parameter"),
        (ClusterMask(pairs="across"), "'pairs' parameter .*'between'.* Got 'across'"),
    ],
)
def test_parameters_are_checked_when_a_mask_is_made(mask, message, points):
    with pytest.raises(ValueError, match=message):
        mask(points, points)
    with pytest.raises(ValueError, match=message):
        quick(mask=mask).fit(points, points)


@pytest.mark.parametrize("mask", [KNNMask(4, 2, 7), RadiusMask(0.5), ClusterMask(3, "between", 1)])
def test_masks_are_estimators(mask, points):
    again = clone(mask)
    assert again is not mask
    assert again.get_params() == mask.get_params()
    for copy in (again, pickle.loads(pickle.dumps(mask))):
        made, expected = (
            m.toarray() if sp.issparse(m) else m
            for m in (copy(points, points), mask(points, points))
        )
        np.testing.assert_array_equal(made, expected)
    model = quick(mask=mask)
    name, value = next(iter(mask.get_params().items()))
    assert model.get_params()[f"mask__{name}"] == value
    copied = clone(model).set_params(**{f"mask__{name}": 2})
    assert getattr(copied.mask, name) == 2
    assert getattr(mask, name) == value


def test_names_of_masks_stand_for_the_defaults(points):
    for name, mask in MASKS.items():
        made, expected = (build(m, points, points) for m in (name, mask()))
        if name == "clusters":
            np.testing.assert_array_equal(made.groups, expected.groups)
        else:
            assert (made.matrix != expected.matrix).nnz == 0


@pytest.mark.parametrize("mask", [*MASKS, lambda X, coords: np.ones((len(X), len(X)))])
def test_masks_stay_within_sections(mask, points):
    codes = np.arange(80) % 3
    X = np.random.default_rng(1).normal(size=(80, 6))
    built = build(mask, X, points, codes)
    if isinstance(built, GroupMask):
        i, j = np.nonzero(built.groups[:, None] == built.groups)
    else:
        i, j = built.matrix.nonzero()
        assert (i != j).all()
        assert (built.matrix != built.matrix.T).nnz == 0
        assert built.matrix.nnz
    assert (codes[i] == codes[j]).all()


def test_callables_see_one_section_at_a_time(points):
    codes = np.arange(80) % 3
    seen = []

    def mask(X, coords):
        seen.append((X[:, 0], coords))
        return sp.coo_matrix(np.ones((len(X), len(X))))

    build(mask, np.arange(80.0)[:, None], points, codes)
    for code, (x, coords) in enumerate(seen):
        np.testing.assert_array_equal(x, np.flatnonzero(codes == code))
        np.testing.assert_array_equal(coords, points[codes == code])


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix, sp.coo_array, np.ndarray.tolist])
def test_arrays_are_symmetric_weights(make, points):
    weights = np.random.default_rng(0).uniform(size=(80, 80))
    built = build(make(weights), None, points).matrix.toarray()
    expected = (weights + weights.T) / 2
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(built, expected, rtol=1e-6)
    assert built.dtype == np.float32


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((5, 5)), "for cross-validation, pass a callable"),
        (np.ones((80, 5)), r"shape \(80, 5\)"),
        (-np.ones((80, 80)), "negative"),
        (np.full((80, 80), np.nan), "NaN"),
        (np.eye(80), "no pair"),
        (sp.csr_matrix((80, 80)), "no pair"),
        (lambda X, coords: np.ones(3), "callable mask returned"),
    ],
)
def test_bad_masks(mask, message, points):
    with pytest.raises(ValueError, match=message):
        build(mask, np.ones((80, 3)), points)


# ------------------------------------------------------------------ pairs of a batch


def test_pairs_among_a_batch_are_the_slice_of_the_matrix(points):
    rng = np.random.default_rng(0)
    weights = np.triu(rng.uniform(size=(80, 80)) * (rng.uniform(size=(80, 80)) < 0.2), 1)
    mask = build(weights, None, points)
    index = np.stack([rng.permutation(80)[:30] for _ in range(3)])
    pairs, values = mask.among(index)
    sliced = np.zeros((3, 30, 30))
    sliced[tuple(pairs)] = values
    full = mask.matrix.toarray()
    for own, cells in zip(sliced, index, strict=True):
        np.testing.assert_array_equal(own, full[np.ix_(cells, cells)])


def test_restriction_drops_pairs_with_others(points):
    mask = build("knn", points, points)
    rows = np.arange(0, 80, 2)
    full = mask.matrix.toarray()
    part = mask.restricted_to(rows).matrix.toarray()
    np.testing.assert_array_equal(part[np.ix_(rows, rows)], full[np.ix_(rows, rows)])
    assert part.sum() == full[np.ix_(rows, rows)].sum()


def test_batches_hold_enough_pairs_and_only_cells_of_their_member():
    rng = np.random.default_rng(0)
    coords = rng.uniform(size=(3000, 2))
    X = np.zeros((3000, 2), dtype=np.float32)
    rows = [np.sort(rng.permutation(3000)[:2400]) for _ in range(2)]
    n_pairs = {}
    for name, mask in (("drawn", "knn"), ("plain", None)):
        data = reference(X, coords, mask=build(mask, X, coords))
        batches = Batches(data, rows, 128, seed=0)
        built = build("knn", X, coords)
        index = []
        batches.take = lambda rows, *_, index=index: index.append(rows)
        list(batches)
        assert len(index) == batches.n_batches == 19
        for batch in index:
            assert len({part.shape for part in batch}) == 1
            for own, allowed in zip(batch, rows, strict=True):
                assert len(np.unique(own)) == len(own) > 120
                assert np.isin(own, allowed).all()
        n_pairs[name] = np.mean([len(built.among(batch)[1]) for batch in index])
    assert n_pairs["drawn"] > 3 * n_pairs["plain"]


def test_neighbors_of_cells_without_any():
    mask = EdgeMask(sp.csr_matrix(([1.0, 1.0], ([0, 1], [1, 0])), shape=(3, 3), dtype=np.float32))
    drawn = mask.draw_neighbors(np.array([0, 2]), 4, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, [1, 1, 1, 1])


# ------------------------------------------------------------------ eq. (5)


@pytest.mark.parametrize("loss", DISTANCE_LOSSES)
def test_a_list_of_pairs_is_the_dense_loss(loss):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 12, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    s = torch.randn(2, 12, 2, generator=generator, dtype=torch.float64)
    scale = torch.tensor([0.7, 1.4], dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 12, 12, generator=generator, dtype=torch.float64).clamp_min(0.5) - 0.5
    weights = weights * (1 - torch.eye(12))
    pairs = weights.nonzero().T
    of_pairs = pairwise_distance_preservation(z, s, scale, pairs, weights[tuple(pairs)], loss=loss)
    dense = distance_preservation(z, s, scale, weights=weights, loss=loss)
    torch.testing.assert_close(of_pairs, dense)
    for a, b in zip(
        torch.autograd.grad(of_pairs.sum(), (z, scale)),
        torch.autograd.grad(dense.sum(), (z, scale)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)

    def objective(z, scale):
        return pairwise_distance_preservation(z, s, scale, pairs, weights[tuple(pairs)], loss=loss)

    assert torch.autograd.gradcheck(objective, (z, scale))


def test_coincident_and_missing_pairs_have_finite_gradients():
    z = torch.zeros(2, 4, 2, requires_grad=True)
    scale = torch.ones(2, requires_grad=True)
    pairs = torch.tensor([[0, 0], [0, 1], [1, 0]])
    value = pairwise_distance_preservation(z, torch.rand(2, 4, 2), scale, pairs, torch.ones(2))
    assert value[1] == 0
    value.sum().backward()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(scale.grad).all()


# ------------------------------------------------------------------ the estimator


def test_a_mask_of_ones_is_no_mask(scaled):
    X, coords, _ = scaled
    params = {"batch_size": None, "max_epochs": 20}
    plain = quick(**params).fit(X, coords)
    masked = quick(mask=np.ones((300, 300)), **params).fit(X, coords)
    np.testing.assert_allclose(
        [row["distance"] for row in masked.history_],
        [row["distance"] for row in plain.history_],
        rtol=1e-3,
    )


@pytest.mark.parametrize("mask", [*MASKS, ClusterMask(pairs="between"), KNNMask(5, 1)])
def test_masked_fits_learn_positions(scaled, mask):
    X, coords, sections = scaled
    model = quick(mask=mask, max_epochs=80).fit(X, coords, sections=sections)
    assert model.score(X, coords, sections=sections) > 0.6
    assert model.history_[-1]["distance"] < 0.7 * model.history_[0]["distance"]


def test_only_masked_pairs_are_fitted(scaled):
    """Exchanging the positions of cells without any pair changes nothing."""
    X, coords, _ = scaled
    mask = np.zeros((300, 300))
    mask[:200, :200] = 1
    params = {"alignment_weight": 0.0, "mask": mask}
    moved = np.concatenate([coords[:200], coords[:199:-1]])
    plain = quick(**params).fit(X, coords)
    np.testing.assert_allclose(
        plain.transform(X), quick(**params).fit(X, moved).transform(X), atol=1e-4
    )
    params["mask"] = None
    unmasked = [quick(**params).fit(X, c).transform(X) for c in (coords, moved)]
    assert not np.allclose(*unmasked, atol=1e-3)


@pytest.mark.parametrize("mask", ["knn", "clusters", lambda X, coords: np.ones((len(X),) * 2)])
def test_masks_are_made_anew_in_every_fold(scaled, mask):
    X, coords, sections = scaled
    scores = cross_validate(quick(mask=mask), X, coords, params={"sections": sections}, cv=3)
    assert np.isfinite(scores["test_score"]).all()


def test_an_array_in_cross_validation_says_what_to_do(scaled):
    X, coords, _ = scaled
    search = GridSearchCV(quick(mask=np.ones((300, 300))), {"lr": [0.01]}, cv=2)
    with pytest.raises(ValueError, match="pass a callable"):
        search.set_params(error_score="raise").fit(X, coords)


def test_masked_models_clone_fine_tune_and_stop_early(scaled):
    X, coords, sections = scaled
    model = clone(quick(mask=KNNMask(n_neighbors=8), early_stopping=True, batch_size=64))
    model.fit(X, coords, sections=sections).partial_fit(X[:150], coords[:150])
    assert np.isfinite(model.predict(X)).all()
    with pytest.raises(ValueError, match="mask"):
        quick(mask="nearest").fit(X, coords)
