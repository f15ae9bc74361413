"""Distributions over places: the value, the evidence, and what a fitted model says."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

import sklearn_dpvae
from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae._fitted.asked_section import moved_to, without_small
from sklearn_dpvae._fitted.evidence import (
    N_KINDS,
    SectionEvidence,
    _smoothed,
    fit_weights,
    learn_places,
    nearest_places,
    probabilities,
    section_evidence,
    spatial_medians,
    tempered,
)
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.places import PlaceDistribution, areas_of, spacing_of

QUICK = {"n_estimators": 5, "hidden_layer_sizes": (32,), "max_epochs": 30, "random_state": 0}


def grid(nx, ny, step=1.0):
    return step * np.stack(np.meshgrid(range(nx), range(ny)), axis=-1).reshape(-1, 2)


def at(n_places, **probabilities):
    """One cell, with probabilities by place."""
    row = np.zeros((1, n_places))
    for place, p in probabilities.items():
        row[0, int(place.removeprefix("p"))] = p
    return row


@pytest.fixture
def two_heaps():
    """A grid of 12 x 4 with probability at both ends."""
    return PlaceDistribution(at(48, p0=0.3, p1=0.15, p12=0.15, p11=0.3, p23=0.1), grid(12, 4))


def test_mean_modes_and_patches(two_heaps):
    assert_allclose(two_heaps.mean(), [[0.15 + 3.3 + 1.1, 0.15 + 0.1]])
    modes = two_heaps.modes()[0]
    assert len(modes) == 2
    # The heap on the left has three fifths of the probability.
    assert modes[0, 0] < 3
    assert modes[1, 0] > 8
    assert len(two_heaps.modes(min_probability=0.5)[0]) == 1
    assert_array_equal(two_heaps.n_patches(0.9), [2])
    assert_array_equal(two_heaps.n_patches(0.2), [1])


def test_a_region_has_the_fewest_places(two_heaps):
    assert_array_equal(two_heaps.region(0.5).indices, [0, 11])
    assert two_heaps.region(0.61).sum() == 3
    assert two_heaps.region(0.99).sum() == 5
    for level in (0.3, 0.8, 0.95):
        region = two_heaps.region(level)
        assert two_heaps.probabilities.multiply(region).sum() >= level


def test_areas_are_those_of_the_triangles():
    places = PlaceDistribution(np.full((1, 35), 1 / 35), grid(7, 5, step=10.0))
    assert_allclose(places.area(0.99), [60 * 40])
    assert_allclose(places.area(0.5), [60 * 40 / 2], rtol=0.25)
    assert_allclose(areas_of(grid(7, 5, step=10.0), 10.0).sum(), 60 * 40)
    assert_allclose(areas_of(np.array([[0.0], [1.0], [3.0], [40.0]]), 1.0), [0.5, 1.5, 1.0, 0])
    # A gap between two parts of a tissue is no area.
    parts = np.concatenate([grid(4, 4), grid(4, 4) + np.array([50.0, 0.0])])
    assert_allclose(areas_of(parts, 1.0).sum(), 2 * 9)
    cube = np.stack(np.meshgrid(*3 * [range(3)]), axis=-1).reshape(-1, 3).astype(float)
    assert_allclose(areas_of(cube, 1.0).sum(), 8)
    assert_allclose(areas_of(np.column_stack([np.arange(5.0), np.zeros(5)]), 1.0), np.zeros(5))


def test_samples_have_the_frequencies_of_the_probabilities(two_heaps):
    drawn = two_heaps.sample(4000, random_state=0)
    assert drawn.shape == (1, 4000, 2)
    at_origin = np.mean((drawn[0] == 0).all(axis=1))
    assert at_origin == pytest.approx(0.3, abs=0.03)
    assert_array_equal(drawn, two_heaps.sample(4000, random_state=0))


def test_a_density_integrates_to_one(two_heaps):
    step = 0.25
    points = grid(4 * 24, 4 * 16, step) - [6.0, 6.0]
    many = PlaceDistribution(
        sp.vstack([two_heaps.probabilities] * len(points)), two_heaps.locations, tolerance=0.1
    )
    for density in (many.log_density(points), many.log_density_of_uniform(points)):
        assert np.exp(density).sum() * step**2 == pytest.approx(1, abs=1e-3)
    # By hand: normal distributions around the places, and a tenth of the uniform guess.
    kernel = np.exp(-0.5 * cdist([[1.2, 0.7]], two_heaps.locations)[0] ** 2) / (2 * np.pi)
    p = 0.9 * two_heaps.probabilities.toarray()[0] + 0.1 / 48
    one = PlaceDistribution(two_heaps.probabilities, two_heaps.locations, tolerance=0.1)
    assert_allclose(one.log_density([[1.2, 0.7]]), np.log(p @ kernel))
    assert np.isfinite(one.log_density([[1e4, 0.0]])).all()


def test_sections_have_places_of_their_own():
    locations = np.concatenate([grid(4, 4), grid(4, 4)])
    p = np.concatenate([at(32, p0=1.0), at(32, p16=1.0)])
    places = PlaceDistribution(p, locations, 0.0, np.repeat([0, 1], 16), [0, 1])
    densities = places.log_density(np.zeros((2, 2)))
    assert_allclose(densities[0], densities[1])
    assert_array_equal(places.n_patches(0.5), [1, 1])
    # Places of the two sections coincide, but are no neighbors.
    assert not places._neighbors[:16, 16:].nnz


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3)) / 3, np.zeros((4, 2))), "3 columns.*4 locations"),
        ((np.ones((2, 3)), np.zeros((3, 2))), "sum to 1"),
        ((np.array([[1.5, -0.5]]), np.zeros((2, 2))), "not be negative"),
        ((np.array([[0.5, 0.5]]), np.zeros((2, 2)), 0.0, [0, 0, 1]), "sections has shape"),
    ],
)
def test_malformed_distributions(arguments, message):
    with pytest.raises(ValueError, match=message):
        PlaceDistribution(*arguments)


@pytest.mark.parametrize("level", [0, 1, 1.5, "all"])
def test_levels_are_probabilities(two_heaps, level):
    with pytest.raises(ValueError, match="level must be a probability"):
        two_heaps.region(level)


def test_positions_of_other_cells_are_refused(two_heaps):
    with pytest.raises(ValueError, match=r"coords has shape \(2, 2\)"):
        two_heaps.log_density([[0, 0], [1, 1]])


def test_evidence_of_a_cell_left_out_is_that_of_a_section_without_it():
    """Kernel ridge regression by its closed form, against fitting anew."""
    rng = np.random.default_rng(0)
    features, coords = rng.normal(size=(60, 3)), rng.uniform(size=(60, 2))
    evidence = SectionEvidence(features, coords)
    rows = np.array([3, 10, 41])
    placed, scores = rng.uniform(size=(3, 2)), np.full(3, 0.2)
    found = evidence.of_own(rows, placed, scores)
    length, (kernel, prior) = evidence._length, evidence._kernels[0]
    for k, row in enumerate(rows):
        others = np.delete(np.arange(60), row)
        similar = np.exp(-cdist(features[others], features[others]) / length) + np.eye(59)
        weights = np.linalg.solve(
            similar, np.exp(-cdist(features[others], features[[row]])[:, 0] / length)
        )
        share = (1 - weights.sum()) * prior + weights @ kernel[others].toarray()
        assert_allclose(found[0, k], np.log(np.maximum(share, 0.05 * prior)))
        assert_allclose(found[-1, k], -0.5 * (cdist(placed[[k]], coords)[0] / 0.2) ** 2)
    # The nearest cells are not the cell itself, which a query with its features would find.
    assert not np.allclose(found[2], evidence.of(features[rows], placed, scores)[2])
    assert_array_equal(
        nearest_places(coords[rows], coords, rows),
        np.argsort(cdist(coords[rows], coords), axis=1)[:, 1],
    )


def in_two_sections(n_cells, seed):
    """Cells of two sections that look alike: features are their places, and one says nothing."""
    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1], n_cells // 2)
    coords = rng.uniform(size=(n_cells, 2))
    features = np.column_stack([10 * coords, rng.normal(size=n_cells)])
    return features, coords + 5.0 * codes[:, None], codes


def test_a_network_learns_where_cells_of_each_section_are():
    cells = in_two_sections(400, 0)
    places = [part[::4] for part in cells]
    net = learn_places(*cells, *places[1:], n_members=2, n_epochs=1000, seed=0)
    evidence = section_evidence(*places, net)
    assert list(evidence) == [0, 1]
    assert net.center.dtype == torch.float32
    new, true, codes = in_two_sections(200, 1)
    for code, own in evidence.items():
        here = codes == code
        told = own.learned(new[here])
        assert told.shape == (100, 50)
        assert_allclose(told.sum(axis=1), 1)
        # Two random points of a unit square are 0.52 apart, and neighbors of fifty 0.1.
        assert (told * cdist(true[here], own.coords)).sum(axis=1).mean() < 0.2
        assert_allclose(own.learned(new[here][:1]), told[:1], rtol=1e-12)
        # Evidence is what it says, and what that is when smoothed.
        placed, scores = true[here], np.ones(100)
        kernel, prior = own._kernels[1]
        found = own.of(new[here], placed, scores)
        assert_allclose(np.exp(found[4]), np.maximum(told @ kernel, 0.05 * prior))
        silent = SectionEvidence(own.features, own.coords).of(new[here], placed, scores)
        assert not silent[3:5].any()
        assert_array_equal(np.delete(found, [3, 4], axis=0), np.delete(silent, [3, 4], axis=0))


def test_the_same_seed_teaches_the_same_and_draws_from_nobody_else():
    cells = in_two_sections(100, 0)
    before = torch.random.get_rng_state()
    nets = [
        learn_places(*cells, *cells[1:], n_members=1, n_epochs=9, seed=seed) for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    features = torch.from_numpy(cells[0])
    first, second, other = (net.probabilities(features) for net in nets)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not any(net.training for net in nets)


def test_places_of_one_kind_of_cell_can_be_learned():
    """Features without any variance divide by nothing."""
    _, coords, codes = in_two_sections(60, 0)
    net = learn_places(
        np.ones((60, 2)), coords, codes, coords, codes, n_members=1, n_epochs=1, seed=0
    )
    assert torch.isfinite(net.probabilities(torch.ones(1, 2, dtype=torch.float64))).all()


def test_targets_are_normal_around_a_position_or_the_nearest_place():
    places = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    found = _smoothed(np.array([[0.5, 0.0], [1e3, 0.0]]), places, 0.5).toarray()
    weights = np.exp(-0.5 * np.array([1.0, 1.0, 9.0]))
    assert_allclose(found, [weights / weights.sum(), [0, 0, 1]])


def test_cells_that_join_share_what_is_said_of_the_nearest_place():
    rng = np.random.default_rng(0)
    features, coords = rng.normal(size=(30, 3)), rng.uniform(size=(30, 2))
    p = rng.dirichlet(np.ones(30), size=4)
    evidence = SectionEvidence(features, coords, lambda _: p)
    joined = evidence.joined_by(features[:2], coords[[7, 7]] + 1e-6)
    told = joined.learned(features[:4])
    assert told.shape == (4, 32)
    assert_allclose(told.sum(axis=1), 1)
    assert_allclose(told[:, [7, 30, 31]], p[:, [7]].repeat(3, axis=1) / 3)
    assert_array_equal(told[:, 8:30], p[:, 8:])
    assert SectionEvidence(features, coords).joined_by(features, coords).learned is None


def test_powers_maximize_the_probability_of_the_true_places():
    rng = np.random.default_rng(0)
    evidence, true = rng.normal(size=(N_KINDS, 50, 9)), rng.integers(9, size=50)
    evidence[1, np.arange(50), true] += 1.0
    evidence[2] = -evidence[1]
    found = fit_weights([(evidence[:, :20], true[:20]), (evidence[:, 20:], true[20:])])

    def loss(weights):
        p = probabilities(evidence, weights)[np.arange(50), true]
        return -np.log(p).sum() + 0.5 * np.sum(weights**2)

    best = minimize(loss, np.ones(N_KINDS), bounds=[(0, None)] * N_KINDS, method="L-BFGS-B").fun
    assert loss(found) == pytest.approx(best, abs=1e-3)
    assert found[2] == pytest.approx(0, abs=1e-3)
    # What was known before is kept where few cells tell otherwise.
    start = np.array([2.0, 0.0, 0.0, 0.0, 1.0, 3.0])
    few = [(evidence[:, :1], true[:1])]
    assert np.abs(fit_weights(few, start, strength=1e4) - start).max() < 0.01


def test_powers_shrink_between_sections():
    assert_allclose(tempered(np.array([1.0, 1.0, 0.0, 3.0])), [1 / 3, 1 / 3, 0, 1])
    weak = np.array([0.01, 0.0, 0.0, 0.5])
    assert_allclose(tempered(weak), weak, rtol=0.02)
    assert_allclose(tempered(np.array([1.0, 1.0, 0.0, 3.0]), 0.5), [0.5, 0.5, 0, 1.5])


def test_small_probabilities_are_dropped_up_to_the_tolerance():
    p = np.array([[0.6, 0.3, 0.06, 0.04], [0.25, 0.25, 0.25, 0.25]])
    kept = without_small(p, 0.1).toarray()
    assert_allclose(kept, [[2 / 3, 1 / 3, 0, 0], [0.25] * 4])
    assert_allclose(without_small(p, 0.0).toarray(), p)


def test_probability_moves_to_the_locations_that_are_near():
    places = grid(5, 5)
    assert_allclose(moved_to(places, places).sum(axis=1), 1)
    assert moved_to(places, places).diagonal().min() > 0.5
    # Four places of a coarse grid; one far away gets nothing.
    coarse = np.array([[1.0, 1.0], [3.0, 1.0], [1.0, 3.0], [3.0, 3.0], [90.0, 0.0]])
    shares = moved_to(places, coarse).toarray()
    assert_allclose(shares.sum(axis=1), 1)
    assert_array_equal(np.argmax(shares[[0, 4, 20, 24]], axis=1), range(4))
    assert not shares[:, 4].any()
    # Places that have no location near go to the nearest.
    assert_allclose(moved_to(places + 100, coarse).sum(axis=1), 1)


def test_spacing():
    assert spacing_of(grid(4, 4, step=3.0)) == 3.0
    assert spacing_of(np.repeat(grid(4, 4, step=3.0), 2, axis=0)) == 3.0
    assert spacing_of(np.zeros((3, 2))) == 1.0


@pytest.fixture(scope="module")
def mirrored():
    """A tissue whose two halves express the same: no method can tell left from right."""
    rng = np.random.default_rng(0)
    coords = rng.uniform([-1, 0], [1, 1], size=(700, 2))
    folded = np.column_stack([np.abs(coords[:, 0]), coords[:, 1]])
    X = np.column_stack([np.sin(folded @ rng.normal(size=(2, 12)) * 2.5)])
    X += 0.2 * rng.normal(size=X.shape)
    model = DPVAESpatialRegressor(**QUICK).fit(X[:500], coords[:500])
    return model, X[500:], coords[500:]


def test_a_mirror_symmetric_tissue_has_two_patches(mirrored):
    model, X, coords = mirrored
    places = model.predict_places(X)
    outer = np.abs(coords[:, 0]) > 0.4
    patches = places.n_patches(0.8)[outer]
    assert np.mean(patches == 2) > 0.7
    reflected, opposite = [], 0
    for modes, (x, y) in zip(places.modes(min_probability=0.2), coords, strict=True):
        if abs(x) > 0.4 and len(modes) == 2:
            reflected.append([*np.abs(modes[:, 0]) - abs(x), *modes[:, 1] - y])
            opposite += modes[:, 0].prod() < 0
    assert len(reflected) > 0.7 * outer.sum()
    assert opposite > 0.9 * len(reflected)
    assert np.abs(reflected).mean() < 0.2
    # Half of the probability on either side, and none between, where the position is.
    left = places.probabilities @ (places.locations[:, 0] < 0)
    assert np.abs(left[outer] - 0.5).mean() < 0.2
    assert np.abs(model.predict(X)[outer, 0]).mean() < 0.3
    # A region has less area than the disc of the same level.
    discs = np.pi * model.predict_radius(X, level=0.8) ** 2
    assert np.median(places.area(0.8)[outer]) < 0.5 * np.median(discs[outer])


def test_regions_hold_what_they_say(mirrored):
    model, X, coords = mirrored
    places = model.predict_places(X)
    own = nearest_places(coords, places.locations)
    for level in (0.5, 0.8, 0.95):
        inside = places.region(level)[np.arange(len(own)), own]
        # One network, which places the cells that tell the powers, errs more than five together.
        assert level - 0.08 < np.mean(inside) < level + 0.18
    gain = places.log_density(coords) - places.log_density_of_uniform(coords)
    assert gain.mean() > 1.0


@pytest.fixture(scope="module")
def fitted():
    tissue = make_tissue(400, 60, n_sections=2, random_state=0)
    model = make_spatial_pipeline(**QUICK)
    train = np.arange(400) % 4 > 0
    model.fit(tissue.X[train], tissue.coords[train], sections=tissue.sections[train])
    return model, tissue.X[~train], tissue.coords[~train], tissue.sections[~train]


def test_each_section_is_answered_in_its_own_places(fitted):
    model, X, coords, sections = fitted
    places = model.predict_places(X, sections=sections)
    assert places.probabilities.shape == (100, 300)
    second = np.unique(sections, return_inverse=True)[1] == 1
    p = places.probabilities.toarray()
    assert not p[second][:, places.sections == 0].any()
    assert not p[~second][:, places.sections == 1].any()
    assert_allclose(p.sum(axis=1), 1)
    gain = places.log_density(coords) - places.log_density_of_uniform(coords)
    assert gain[second].mean() > 0.5
    assert gain[~second].mean() > 0.5
    # Without labels all are answered in the frame of the largest section, as in `predict`.
    assert len(model.predict_places(X).locations) == 150


def test_an_answer_does_not_depend_on_the_rows_beside_it(fitted):
    model, X, _, sections = fitted
    all_rows = model.predict_places(X, sections=sections, tolerance=0.0)
    some = model.predict_places(X[:7], sections=sections[:7], tolerance=0.0)
    own = np.flatnonzero(all_rows.sections == some.sections[0])
    assert_allclose(
        some.probabilities[:, some.sections == some.sections[0]].toarray(),
        all_rows.probabilities[:7][:, own].toarray(),
        atol=1e-9,
    )


def test_locations_of_ones_own(fitted):
    model, X, _, sections = fitted
    first = sections == sections[0]
    bins = grid(25, 25, step=40.0) - 500
    labels = {"sections": sections[first]}
    places = model.predict_places(X[first], locations=bins, tolerance=0.01, **labels)
    assert places.probabilities.shape == (first.sum(), 625)
    own = model.predict_places(X[first], **labels)
    assert_allclose(places.mean(), own.mean(), atol=25)
    assert places.probabilities.nnz < 0.9 * first.sum() * 625
    with pytest.raises(ValueError, match=r"locations has 3 dimension\(s\) but positions have 2"):
        model.predict_places(X, locations=np.zeros((5, 3)))
    with pytest.raises(ValueError, match="tolerance must be at least 0"):
        model.predict_places(X, tolerance=0.7)


def test_places_survive_files(fitted, tmp_path):
    model, X, _, sections = fitted
    expected = model.predict_places(X, sections=sections).probabilities.toarray()
    sklearn_dpvae.save(model, tmp_path / "model.dpvae")
    for loaded in (
        sklearn_dpvae.load(tmp_path / "model.dpvae"),
        pickle.loads(pickle.dumps(model)),
    ):
        found = loaded.predict_places(X, sections=sections)
        assert_array_equal(found.probabilities.toarray(), expected)


def test_the_chain_tells_the_powers(fitted):
    model, *_ = fitted
    assert model[-1].fitted_.places.known_weights is not None
    alone = model[-1].fitted_.places.with_weights(None)
    assert alone.weights.shape == (N_KINDS,)
    assert (alone.weights >= 0).all()


def test_calibration_and_fine_tuning_reach_the_places():
    tissue = make_tissue(500, 40, random_state=0)
    model = make_spatial_pipeline(n_calibration_folds=None, **QUICK)
    model.fit(tissue.X[:200], tissue.coords[:200])
    before = model[-1].fitted_.places.weights
    # Places at which the cells are not: evidence must lose its weight.
    rng = np.random.default_rng(0)
    model.calibrate(tissue.X[200:300], tissue.coords[rng.permutation(100)])
    assert (model[-1].fitted_.places.weights[:-1].sum() < 0.5 * before[:-1].sum()).all()
    model.partial_fit(tissue.X[300:400], tissue.coords[300:400] + 5000)
    places = model.predict_places(tissue.X[400:])
    assert len(places.locations) == 100
    assert places.mean().min() > 4000


@pytest.mark.parametrize("kind", ["genes", "sparse", "one-dimensional", "few cells", "counts"])
def test_other_kinds_of_input(kind):
    rng = np.random.default_rng(0)
    n = 15 if kind == "few cells" else 80
    X = rng.normal(size=(n, 70 if kind == "genes" else 5))
    coords = X[:, :2] + 0.1 * rng.normal(size=(n, 2))
    params = QUICK | {"max_epochs": 2}
    if kind == "sparse":
        X = sp.csr_matrix(X)
    if kind == "one-dimensional":
        coords = coords[:, 0]
    if kind == "counts":
        X = rng.poisson(np.exp(0.5 * X))
        params["likelihood"] = "poisson"
    model = DPVAESpatialRegressor(**params).fit(X, coords)
    places = model.predict_places(X)
    assert places.probabilities.shape == (n, n)
    assert np.isfinite(places.log_density(coords)).all()
    assert places.mean().shape == (n, 1 if kind == "one-dimensional" else 2)


def test_places_of_an_anndata():
    anndata = pytest.importorskip("anndata")
    import sklearn_dpvae.anndata as dpa

    tissue = make_tissue(160, 40, n_sections=2, random_state=0)
    adata = anndata.AnnData(tissue.X, obsm={"spatial": tissue.coords})
    adata.var_names = tissue.genes
    adata.obs["section"] = tissue.sections
    model = dpa.fit(adata[:140], n_calibration_folds=None, **QUICK | {"max_epochs": 3})
    query = adata[140:, ::-1]
    places = dpa.predict_places(model, query)
    expected = model.pipeline.predict_places(tissue.X[140:], sections=tissue.sections[140:])
    assert_array_equal(places.probabilities.toarray(), expected.probabilities.toarray())
    with pytest.warns(UserWarning, match="are missing in the query"):
        fewer = dpa.predict_places(model, adata[140:, :30])
    told = model.pipeline.predict_places(
        np.pad(tissue.X[140:, :30].toarray(), ((0, 0), (0, 10))),
        sections=tissue.sections[140:],
        missing_genes=np.arange(40) >= 30,
    )
    assert_allclose(fewer.probabilities.toarray(), told.probabilities.toarray())


def test_spatial_medians_minimize_the_expected_distance():
    rng = np.random.RandomState(0)
    places = rng.normal(size=(40, 2))
    p = rng.dirichlet(np.full(40, 0.3), size=6)
    for found, row in zip(spatial_medians(p, places), p, strict=True):

        def expected(point, row=row):
            return float(row @ np.linalg.norm(places - point, axis=1))

        best = minimize(expected, row @ places, method="Nelder-Mead", options={"xatol": 1e-6})
        assert expected(found) == pytest.approx(best.fun, rel=1e-3)


def test_spatial_median_lies_in_the_likelier_of_two_patches():
    left, right = np.array([[0.0, 0.0]]), np.array([[10.0, 0.0]])
    places = np.vstack([left, left + 0.1, right, right + 0.1])
    p = np.array([[0.3, 0.3, 0.2, 0.2], [0.1, 0.3, 0.3, 0.3]])
    medians = spatial_medians(p, places)
    assert np.abs(medians[0] - left).max() < 0.2
    assert np.abs(medians[1] - right).max() < 0.2


def test_spatial_median_of_places_on_a_line_is_the_weighted_median():
    places = np.arange(5.0)[:, None]
    p = np.array([[0.3, 0.1, 0.35, 0.15, 0.1], [0.6, 0.1, 0.1, 0.1, 0.1]])
    assert_allclose(spatial_medians(p, places).ravel(), [2.0, 0.0], atol=0.02)
