"""Equations (6) and (7) through the regressor and the pipeline."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from read_only import read_only
from scipy.spatial import procrustes

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae._fitted import adaptation, place_model
from sklearn_dpvae._fitted.frames import SectionFrame, SectionFrames
from sklearn_dpvae._fitted.placement import place_with_anchors
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import place_log_score
from sklearn_dpvae.pipeline._query_components import query_components
from sklearn_dpvae.places import PlaceDistribution
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler


@pytest.fixture(scope="module")
def _fitted():
    tissue = make_tissue(n_cells=400, n_genes=60, n_sections=2, random_state=2)
    X = LogNormalizer().fit_transform(tissue.X)
    X = SectionScaler().fit_transform(X, sections=tissue.sections)
    labels = np.asarray(tissue.sections)
    here = labels == np.unique(labels)[0]
    model = DPVAESpatialRegressor(hidden_layer_sizes=(32,), max_epochs=200, random_state=0)
    model.fit(X[here], tissue.coords[here])
    return model, *read_only(X[~here], tissue.coords[~here])


@pytest.fixture
def fitted(_fitted):
    """A model, and a query section in a frame of its own."""
    model, *query = _fitted
    return deepcopy(model), *query


def disparity(a, b):
    return procrustes(a, b)[2]


@pytest.mark.parametrize("anchors", [None, ([0, 1, 2, 3], np.zeros((4, 2)))])
def test_underdetermined_is_checked_with_anchors_and_without(fitted, anchors):
    model, X, _ = fitted
    with pytest.raises(ValueError, match=r'underdetermined must be "error" or "allow", got 3'):
        model.predict(X, anchors=anchors, underdetermined=3)


@pytest.mark.parametrize("form", ["tuple", "array"])
def test_anchors_come_back_bit_for_bit_and_set_the_frame(fitted, form):
    model, X, coords = fitted
    known = np.arange(0, len(X), 10)
    anchors = (known, coords[known])
    if form == "array":
        anchors = np.full_like(coords, np.nan)
        anchors[known] = coords[known]
    placed = model.predict(X, anchors=anchors)
    np.testing.assert_array_equal(placed[known], coords[known])
    rest = np.setdiff1d(np.arange(len(X)), known)
    error = np.linalg.norm(placed[rest] - coords[rest], axis=1).mean()
    assert error < 0.7 * np.linalg.norm(coords - coords.mean(0), axis=1).mean()


def test_each_section_is_solved_with_its_own_anchors(fitted):
    model, X, coords = fitted
    labels = np.where(np.arange(len(X)) % 2, "a", "b")
    known = np.flatnonzero(labels == "a")[:20]
    placed = model.predict(X, anchors=(known, coords[known]), sections=labels)
    rows = labels == "a"
    alone = model.predict(X[rows], anchors=(np.arange(20), coords[known]))
    np.testing.assert_allclose(placed[rows], alone, rtol=1e-6)
    # The section without anchors is answered as always.
    np.testing.assert_allclose(placed[~rows], model.predict(X)[~rows])


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        (([0, 1], [[0.0, 0.0], [1.0, 1.0]]), "anchors"),
        (([0, 1, 2], [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), "line"),
        (([0, 0, 1], [[0.0, 0.0], [1.0, 0.0], [2.0, 2.0]]), "twice|0"),
        (([0, 1, 9999], [[0.0, 0.0], [1.0, 0.0], [2.0, 2.0]]), "out of range"),
        (([0, 1, 2], [[0.0], [1.0], [2.0]]), "coordinates"),
        (([0, 1, 2], [[0.0, 0.0], [1.0, np.nan], [2.0, 2.0]]), "NaN"),
    ],
)
def test_bad_anchors_are_named(fitted, anchors, message):
    model, X, _ = fitted
    with pytest.raises(ValueError, match=message):
        model.predict(X, anchors=anchors)


def test_too_few_anchors_are_answered_on_request(fitted):
    model, X, coords = fitted
    for n_anchors in (1, 2):
        known = np.arange(n_anchors)
        placed = model.predict(X, anchors=(known, coords[known]), underdetermined="allow")
        np.testing.assert_array_equal(placed[known], coords[known])
        assert disparity(coords, placed) < 0.7


def reference_of(latents, coords, sections):
    labels, codes = np.unique(sections, return_inverse=True)
    rng = np.random.RandomState(0)
    return SectionFrames.fit(latents, coords, codes, labels, n_landmarks=50, rng=rng)


@pytest.mark.parametrize(("n_anchors", "shrunk"), [(5, False), (6, False), (6, True)])
def test_c_comes_from_many_anchors_or_else_from_the_reference(n_anchors, shrunk):
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 10, size=(60, 2))
    reference = rng.uniform(0, 10, size=(80, 2))
    frames = reference_of(0.5 * reference, reference, np.repeat(["a", "b"], [50, 30]))
    scale = frames.frames[frames.default].scale(default=7.0)
    assert scale == pytest.approx(0.5)
    # The latents of a query may be shrunk against those of the reference.
    latents = coords * (0.2 if shrunk else 0.5)
    placed = place_with_anchors(
        latents,
        -latents,
        scale,
        (np.arange(n_anchors), coords[:n_anchors]),
        underdetermined="error",
        seed=0,
    )
    np.testing.assert_allclose(placed, coords, atol=1e-6)


def test_c_of_a_section_is_that_of_its_own_landmarks():
    rng = np.random.default_rng(1)
    coords = rng.uniform(0, 10, size=(80, 2))
    sections = np.repeat(["a", "b"], 40)
    frames = reference_of(coords * np.where(sections == "a", 0.5, 3.0)[:, None], coords, sections)
    assert frames.frames[0].scale(default=7.0) == pytest.approx(0.5)
    assert frames.frames[1].scale(default=7.0) == pytest.approx(3.0)


def test_c_of_landmarks_that_tell_nothing_is_the_default():
    points = np.arange(20.0).reshape(10, 2)
    for latents, coords in [(np.ones((10, 3)), points), (points, np.ones((10, 2)))]:
        assert SectionFrame("a", None, latents, coords).scale(default=7.0) == 7.0


@pytest.mark.parametrize("n_anchors", [4, 12])
def test_imputation_does_not_use_the_c_of_the_training(fitted, monkeypatch, n_anchors):
    model, X, coords = fitted
    known = np.arange(n_anchors)
    expected = model.predict(X, anchors=(known, coords[known]))
    monkeypatch.setattr(model, "fitted_", replace(model.fitted_, scale=10 * model.scale_))
    placed = model.predict(X, anchors=(known, coords[known]))
    np.testing.assert_array_equal(placed, expected)


@pytest.mark.parametrize("n_anchors", [2, 12])
def test_anchors_that_tell_no_scale_are_answered_on_request(fitted, n_anchors):
    model, X, coords = fitted
    same = np.repeat(coords[:1], n_anchors, axis=0)
    anchors = (np.arange(n_anchors), same)
    placed = model.predict(X, anchors=anchors, underdetermined="allow")
    np.testing.assert_array_equal(placed[:n_anchors], same)
    assert np.isfinite(placed).all()


def test_joint_reconstruction_stays_in_the_frame_of_the_reference(fitted):
    model, X, _ = fitted
    expected = model.predict(X)
    joint = model.set_params(reconstruction="mds").predict(X)
    spread = np.linalg.norm(expected - expected.mean(0), axis=1).mean()
    assert np.linalg.norm(joint - expected, axis=1).mean() < 0.3 * spread


def test_anchors_through_the_pipeline():
    tissue = make_tissue(n_cells=200, n_genes=60, random_state=0)
    pipe = make_spatial_pipeline(
        n_calibration_folds=None, hidden_layer_sizes=(16,), max_epochs=20, random_state=0
    )
    pipe.fit(tissue.X[:100], tissue.coords[:100])
    query, coords = tissue.X[100:], tissue.coords[100:]
    placed = pipe.predict(query, anchors=(range(10), coords[:10]))
    np.testing.assert_array_equal(placed[:10], coords[:10])


def test_more_components_than_dimensions_with_anchors():
    tissue = make_tissue(n_cells=200, n_genes=60, random_state=0)
    pipe = make_spatial_pipeline(
        n_components=5,
        n_calibration_folds=None,
        hidden_layer_sizes=(16,),
        max_epochs=50,
        random_state=0,
    ).fit(tissue.X[:100], tissue.coords[:100])
    known = np.arange(30)
    coords = tissue.coords[100:]
    placed = pipe.predict(tissue.X[100:], anchors=(known, coords[known]))
    assert disparity(coords[30:], placed[30:]) < 1
    np.testing.assert_array_equal(placed[known], coords[known])


def shares_of_error(placed, other, coords, free):
    return ((placed - coords)[free] ** 2).sum() / ((other - coords)[free] ** 2).sum()


def test_anchors_that_teach_lower_the_error_of_the_others_and_change_nothing(fitted):
    model, X, coords = fitted
    known = np.random.default_rng(0).permutation(len(X))[:80]
    free = np.setdiff1d(np.arange(len(X)), known)
    before = model.predict(X)
    given = {"anchors": (known, coords[known])}
    learned = model.predict(X, **given)
    np.testing.assert_array_equal(learned[known], coords[known])
    pose_alone = model.predict(X, adapt=False, **given)
    assert shares_of_error(learned, pose_alone, coords, free) < 0.95
    np.testing.assert_array_equal(model.predict(X, **given), learned)
    np.testing.assert_array_equal(model.predict(X), before)


def test_a_few_anchors_tell_the_pose_and_no_more(fitted):
    model, X, coords = fitted
    known = np.arange(11) * 15
    given = {"anchors": (known, coords[known])}
    np.testing.assert_array_equal(
        model.predict(X, **given), model.predict(X, adapt=False, **given)
    )
    with pytest.raises(ValueError, match=r"adapt=True, but 11 anchor\(s\).*12 are needed"):
        model.predict(X, adapt=True, **given)


def test_covariates_teach_what_the_features_do_not_know(fitted):
    model, X, coords = fitted
    known = np.random.default_rng(0).permutation(len(X))[:60]
    free = np.setdiff1d(np.arange(len(X)), known)
    given = {"anchors": (known, coords[known])}
    told = model.predict(X, covariates=coords, **given)
    assert shares_of_error(told, model.predict(X, **given), coords, free) < 0.5
    with pytest.raises(ValueError, match=r"covariates has 3 rows but X has 200"):
        model.predict(X, covariates=coords[:3], **given)


def test_half_of_the_errors_are_within_the_radius_of_half_a_normal(fitted):
    model, X, coords = fitted
    known = np.random.default_rng(1).permutation(len(X))[:80]
    free = np.setdiff1d(np.arange(len(X)), known)
    placed, std = model.predict(X, anchors=(known, coords[known]), return_std=True)
    assert (std[known] == 0).all()
    assert (std[free] > 0).all()
    errors = np.linalg.norm((placed - coords)[free], axis=1)
    assert 0.35 < (errors < std[free] * np.sqrt(2 * np.log(2))).mean() < 0.65


def test_radii_know_the_anchors(fitted):
    model, X, coords = fitted
    known = np.arange(0, len(X), 4)
    free = np.setdiff1d(np.arange(len(X)), known)
    anchors = (known, coords[known])
    placed, std = model.predict(X, anchors=anchors, return_std=True)
    errors = np.linalg.norm(placed - coords, axis=1)[free]
    for level in (0.5, 0.8, 0.95):
        radius = model.predict_radius(X, anchors=anchors, level=level)
        assert (radius[known] == 0).all()
        assert (errors < radius[free]).mean() == pytest.approx(level, abs=0.15)
    half = model.predict_radius(X, anchors=anchors, level=0.5)
    np.testing.assert_allclose(half, std * np.sqrt(2 * np.log(2)))
    # Where anchors give the pose alone, cells keep the radii that they have without.
    posed = model.predict_radius(X, anchors=anchors, level=0.5, adapt=False)
    np.testing.assert_array_equal(posed[free], model.predict_radius(X, level=0.5)[free])
    with pytest.raises(ValueError, match="adapt must be"):
        model.predict_radius(X, anchors=anchors, adapt="no")


def test_radii_of_the_pipeline_know_the_anchors_and_the_query():
    tissue = make_tissue(n_cells=400, n_genes=60, n_sections=2, random_state=2)
    here = tissue.sections == tissue.sections[0]
    pipe = make_spatial_pipeline(n_estimators=2, max_epochs=40, random_state=0)
    pipe.fit(tissue.X[here], tissue.coords[here])
    X, coords = tissue.X[~here], tissue.coords[~here]
    known = np.arange(0, len(coords), 4)
    _, std = pipe.predict(X, anchors=(known, coords[known]), return_std=True)
    radius = pipe.predict_radius(X, anchors=(known, coords[known]), level=0.5)
    np.testing.assert_allclose(radius, std * np.sqrt(2 * np.log(2)))
    assert (radius[known] == 0).all()


@pytest.mark.parametrize("adapt", ["auto", False])
def test_the_penalty_tends_to_the_constraint_and_to_no_constraint(fitted, adapt):
    model, X, coords = fitted
    known = np.random.default_rng(0).permutation(len(X))[:30]
    given = {"anchors": (known, coords[known]), "adapt": adapt}
    extent = np.ptp(coords, axis=0).max()
    held = model.predict(X, **given)
    hard = model.predict(X, penalty=1e12, **given)
    np.testing.assert_allclose(hard, held, atol=1e-6 * extent)
    soft, softer = (model.predict(X, penalty=mu, **given) for mu in (1e-6, 1e-9))
    # Without the constraint only the pose is up to the anchors.
    assert disparity(soft, softer) < 1e-4
    medium = model.predict(X, penalty=float(len(X)), **given)
    gaps = [
        np.linalg.norm((points - coords)[known], axis=1).mean() for points in (hard, medium, soft)
    ]
    assert gaps[0] < gaps[1] < gaps[2]


def test_anchors_that_networks_cannot_learn_from_are_an_error_on_request(fitted):
    model, X, coords = fitted
    known = np.arange(0, len(X), 8)
    X = X.copy()
    X[known] = X[known[0]]
    given = {"anchors": (known, coords[known])}
    assert np.isfinite(model.predict(X, **given)).all()
    with pytest.raises(ValueError, match=r"vary|differ|coincide"):
        model.predict(X, adapt=True, **given)


@pytest.mark.parametrize(
    ("name", "value"), [("adapt", "always"), ("adapt", 2), ("penalty", 0.0), ("penalty", "big")]
)
def test_arguments_beside_the_anchors_are_checked(fitted, name, value):
    model, X, coords = fitted
    with pytest.raises(ValueError, match=f"{name} must be"):
        model.predict(X, anchors=(np.arange(4), coords[:4]), **{name: value})


def test_a_pipeline_tells_what_the_query_says_by_itself():
    tissue = make_tissue(n_cells=400, n_genes=60, n_sections=2, random_state=3)
    here = tissue.sections == "section_1"
    pipe = make_spatial_pipeline(
        n_calibration_folds=None, n_estimators=2, max_epochs=20, random_state=0
    ).fit(tissue.X[here], tissue.coords[here])
    X, coords = tissue.X[~here], tissue.coords[~here]
    known = np.arange(0, len(coords), 5)
    given = {"anchors": (known, coords[known])}
    found = query_components(pipe["normalize"].transform(X))
    assert found.shape == (len(coords), 30)
    # Of the logarithms, by another route.
    logs = pipe["normalize"].transform(X).toarray()
    centered = logs - logs.mean(axis=0)
    spread = np.linalg.svd(centered, compute_uv=False)
    shares = found.var(axis=0)
    np.testing.assert_allclose(shares / shares[0], spread[:30] ** 2 / spread[0] ** 2, rtol=1e-5)
    # They are what teaches beside the features.
    features = X
    for _, step in pipe.steps[:-1]:
        step = step.for_query(features) if hasattr(step, "for_query") else step
        features = step.transform(features)
    by_hand = pipe[-1].predict(features, covariates=found, **given)
    np.testing.assert_allclose(pipe.predict(X, **given), by_hand)


def test_places_of_anchors_are_their_own_and_those_of_others_are_in_their_frame(fitted):
    model, X, coords = fitted
    known = np.arange(0, len(X), 5)
    rest = np.setdiff1d(np.arange(len(X)), known)
    before = deepcopy(model)
    places = model.predict_places(X, anchors=(known, coords[known]))
    np.testing.assert_allclose(places.mean()[known], coords[known])
    np.testing.assert_array_equal(np.diff(places.probabilities.indptr)[known], 1)
    # The query has a frame of its own: without anchors, the answer is in that of the reference.
    middle = np.linalg.norm(coords - coords.mean(axis=0), axis=1).mean()
    told = np.linalg.norm(places.mean() - coords, axis=1)[rest].mean()
    untold = np.linalg.norm(model.predict_places(X).mean() - coords, axis=1)[rest].mean()
    assert told < 0.7 * middle < untold
    again = model.predict_places(X, anchors=(known, coords[known]))
    assert (places.probabilities != again.probabilities).nnz == 0
    np.testing.assert_array_equal(model.predict(X), before.predict(X))


def test_places_with_anchors_move_turn_and_grow_with_them(fitted):
    model, X, coords = fitted
    known = np.arange(0, len(X), 8)
    turned = 3.0 * coords @ np.array([[0.0, -1.0], [1.0, 0.0]]) + 100.0
    here, there = (
        model.predict_places(X, anchors=(known, frame[known]), adapt=False)
        for frame in (coords, turned)
    )
    np.testing.assert_allclose(
        here.probabilities.toarray(), there.probabilities.toarray(), atol=1e-6
    )
    moved = 3.0 * here.locations @ np.array([[0.0, -1.0], [1.0, 0.0]]) + 100.0
    np.testing.assert_allclose(there.locations, moved, rtol=1e-6)


def test_many_anchors_teach_where_the_others_may_be(fitted):
    model, X, coords = fitted
    rest = np.arange(1, len(X), 2)
    scores = []
    for known in (np.arange(0, len(X), 20), np.arange(0, len(X), 2)):
        places = model.predict_places(X, anchors=(known, coords[known]), locations=coords)
        others = PlaceDistribution(places.probabilities[rest], coords, places.tolerance)
        scores.append(place_log_score(coords[rest], others))
    assert scores[1] > scores[0] > 0


@pytest.mark.parametrize("n_known", [1, 3, 8])
def test_few_anchors_tell_the_frame_of_places(fitted, n_known):
    model, X, coords = fitted
    known = np.arange(n_known)
    places = model.predict_places(X, anchors=(known, coords[known] + 500.0))
    assert np.isfinite(places.locations).all()
    np.testing.assert_allclose(places.mean()[known], coords[known] + 500.0)
    if n_known > 3:
        away = np.linalg.norm(places.mean() - coords - 500.0, axis=1).mean()
        assert away < np.linalg.norm(coords - coords.mean(axis=0), axis=1).mean()


def test_each_section_has_places_of_its_own(fitted):
    model, X, coords = fitted
    labels = np.where(np.arange(len(X)) % 2, "a", "b")
    known = np.flatnonzero(labels == "a")[:20]
    places = model.predict_places(X, anchors=(known, coords[known]), sections=labels)
    rows = labels == "a"
    alone = model.predict_places(X[rows], anchors=(np.arange(20), coords[known]))
    np.testing.assert_allclose(places.mean()[rows], alone.mean(), rtol=1e-6)
    without = model.predict_places(X[~rows])
    np.testing.assert_allclose(places.mean()[~rows], without.mean())
    np.testing.assert_allclose(places.area(0.8)[~rows], without.area(0.8))


def test_places_of_more_anchors_than_the_evidence_holds(fitted, monkeypatch):
    model, X, coords = fitted
    for module in (adaptation, place_model):
        monkeypatch.setattr(module, "MAX_ANCHORS", 25)
    known = np.arange(60)
    n_reference = len(model.predict_places(X).locations)
    for adapt in ("auto", False):
        places = model.predict_places(X, anchors=(known, coords[known]), adapt=adapt)
        assert len(places.locations) == n_reference + 25
        off = np.linalg.norm(places.mean()[known] - coords[known], axis=1)
        assert np.sum(off < 1e-9) >= 25
        assert off.max() < np.ptp(coords, axis=0).max() / 4


def test_places_with_anchors_through_the_pipeline():
    tissue = make_tissue(300, 60, random_state=0)
    pipe = make_spatial_pipeline(max_epochs=10, random_state=0, n_calibration_folds=None)
    pipe.fit(tissue.X[:200], tissue.coords[:200])
    known, query = np.arange(40), tissue.X[200:]
    coords = tissue.coords[200:]
    given = np.full_like(coords, np.nan)
    given[known] = coords[known]
    places = pipe.predict_places(query, anchors=given)
    np.testing.assert_allclose(places.mean()[known], coords[known])
    logs = pipe[0].transform(query)
    by_hand = pipe[-1].predict_places(
        pipe[:-1].transform(query), anchors=given, covariates=query_components(logs)
    )
    np.testing.assert_allclose(places.mean(), by_hand.mean(), rtol=1e-6)
    with pytest.raises(ValueError, match="adapt=True, but 3 anchor"):
        pipe.predict_places(query, anchors=(range(3), coords[:3]), adapt=True)


def test_what_anchors_teach_does_not_depend_on_their_order(fitted):
    model, X, coords = fitted
    known = np.arange(0, len(X), 6)
    mixed = np.random.default_rng(0).permutation(known)
    a, b = (model.predict(X, anchors=(order, coords[order])) for order in (known, mixed))
    np.testing.assert_allclose(a, b, rtol=1e-9)
    table = np.full_like(coords, np.nan)
    table[known] = coords[known]
    np.testing.assert_array_equal(model.predict(X, anchors=table), a)


def test_areas_of_places_grow_with_the_unit_of_anchors_that_teach(fitted):
    model, X, coords = fitted
    known = np.arange(0, len(X), 4)
    rest = np.setdiff1d(np.arange(len(X)), known)
    small, large = (
        model.predict_places(X, anchors=(known, unit * coords[known])).area(0.8)[rest]
        for unit in (1.0, 10.0)
    )
    np.testing.assert_allclose(np.median(large) / np.median(small), 100, rtol=0.1)


def test_a_cell_with_the_expression_of_an_anchor_may_be_at_its_place(fitted):
    model, X, coords = fitted
    known = np.arange(0, len(X), 4)
    twins = len(X) + np.arange(len(known))
    places = model.predict_places(np.vstack([X, X[known]]), anchors=(known, coords[known]))
    of_twins = places.probabilities[twins].toarray()
    own = places.probabilities[known].argmax(axis=1).A1
    at_own = of_twins[np.arange(len(known)), own]
    assert np.median(at_own) > 3 / of_twins.shape[1]
    assert np.mean(of_twins.argmax(axis=1) == own) > 0.15


def test_known_cells_are_at_the_nearest_of_given_places(fitted):
    model, X, coords = fitted
    known = np.arange(0, len(X), 4)
    places = model.predict_places(X, anchors=(known, coords[known]), locations=coords)
    np.testing.assert_allclose(places.mean()[known], coords[known])
    few = coords[::3]
    places = model.predict_places(X, anchors=(known, coords[known]), locations=few)
    nearest = np.linalg.norm(coords[known][:, None] - few, axis=2).argmin(axis=1)
    np.testing.assert_allclose(places.mean()[known], few[nearest])


def test_places_carry_the_number_of_their_section():
    tissue = make_tissue(n_cells=300, n_genes=40, n_sections=3, random_state=0)
    X = LogNormalizer().fit_transform(tissue.X)
    model = DPVAESpatialRegressor(hidden_layer_sizes=(16,), max_epochs=5, random_state=0)
    model.fit(X, tissue.coords, sections=tissue.sections)
    labels = np.asarray(tissue.sections)
    second = labels == np.unique(labels)[1]
    places = model.predict_places(X[second], sections=labels[second])
    assert set(places.sections) == set(places.cell_sections) == {1}
    # A section with anchors is none of the reference's any more.
    rows = labels != np.unique(labels)[2]
    known = np.flatnonzero(labels[rows] == np.unique(labels)[0])[:20]
    anchors = (known, tissue.coords[rows][known])
    places = model.predict_places(X[rows], sections=labels[rows], anchors=anchors)
    assert set(places.sections) == set(places.cell_sections) == {1, 3}
