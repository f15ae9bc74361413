"""The spread per cell: units, calibration, and that it means something."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
from read_only import read_only
from scipy.stats import chi2, spearmanr

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae._fitted.uncertainty import ErrorModel
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler


@pytest.fixture(scope="module")
def _fitted():
    tissue = make_tissue(n_cells=900, n_genes=60, signal=0.5, random_state=3)
    pipe = make_spatial_pipeline(
        hidden_layer_sizes=(32,),
        n_estimators=5,
        max_epochs=30,
        random_state=0,
    ).fit(tissue.X[:400], tissue.coords[:400])
    return pipe, *read_only(tissue.X[400:], tissue.coords[400:])


@pytest.fixture
def fitted(_fitted):
    """A pipeline, and cells of the same tissue that it has not seen."""
    pipe, *query = _fitted
    return deepcopy(pipe), *query


def test_std_has_the_units_of_the_tissue_and_leaves_predictions_alone(fitted):
    pipe, X, _ = fitted
    coords, std = pipe.predict(X, return_std=True)
    np.testing.assert_array_equal(coords, pipe.predict(X))
    assert std.shape == (X.shape[0],)
    assert (std > 0).all()


def test_std_is_pointwise(fitted):
    pipe, X, _ = fitted
    np.testing.assert_allclose(
        pipe.predict(X[:5], return_std=True)[1], pipe.predict(X, return_std=True)[1][:5]
    )


def test_calibrated_radii_cover_what_they_say(fitted):
    pipe, X, coords = fitted
    pipe.calibrate(X[:250], coords[:250])
    error = np.linalg.norm(pipe.predict(X[250:]) - coords[250:], axis=1)
    for level in (0.5, 0.8, 0.95):
        covered = np.mean(error <= pipe.predict_radius(X[250:], level=level))
        assert covered == pytest.approx(level, abs=0.1)
    _, std = pipe.predict(X[250:], return_std=True)
    within = np.mean(error <= std * np.sqrt(chi2.ppf(0.5, 2)))
    assert within == pytest.approx(0.5, abs=0.1)


def test_radii_of_the_net_alone_cover_what_they_say():
    """Without `calibrate`: errors of cells that a net was trained on would be far too small.

    The expression is scaled, but no step before the net has seen the positions.
    """
    tissue = make_tissue(n_cells=1400, n_genes=60, signal=0.5, random_state=0)
    X = LogNormalizer().fit_transform(tissue.X)
    X = SectionScaler().fit(X[:800]).transform(X)
    model = DPVAESpatialRegressor(
        hidden_layer_sizes=(64,), n_estimators=5, dropout=0.0, max_epochs=40, random_state=0
    ).fit(X[:800], tissue.coords[:800])
    placed, std = model.predict(X[800:], return_std=True)
    error = np.linalg.norm(placed - tissue.coords[800:], axis=1)
    for level, low, high in [(0.5, 0.4, 0.7), (0.8, 0.72, 0.9), (0.9, 0.82, 0.96)]:
        assert low < np.mean(error <= model.predict_radius(X[800:], level=level)) < high
    assert 0.4 < np.mean(error <= std * np.sqrt(chi2.ppf(0.5, 2))) < 0.7


@pytest.mark.parametrize("n_estimators", [2, 5])
def test_errors_are_those_of_cells_that_were_left_out(n_estimators):
    """Networks that learn noise by heart: on their own cells they would seem exact.

    Two networks leave out two fifths of the cells, which are enough.
    """
    rng = np.random.default_rng(0)
    coords = rng.uniform(-1, 1, size=(500, 2))
    X = np.hstack([coords @ rng.normal(size=(2, 5)), 3 * rng.normal(size=(500, 30))])
    params = {"hidden_layer_sizes": (128,), "dropout": 0.0, "max_epochs": 150, "random_state": 0}
    model = DPVAESpatialRegressor(n_estimators=n_estimators, **params)
    model.fit(X[:200], coords[:200])
    own = np.linalg.norm(model.predict(X[:200]) - coords[:200], axis=1)
    error = np.linalg.norm(model.predict(X[200:]) - coords[200:], axis=1)
    assert np.median(own) < 0.7 * np.median(error)
    covered = np.mean(error <= model.predict_radius(X[200:], level=0.8))
    # One network errs more than several together: radii may be too large, never too small.
    assert covered > 0.75
    assert model.error_model_.calibrated_on == "left_out"
    assert len(model.error_model_.rows) == (80 if n_estimators == 2 else 200)


def test_radii_of_cells_that_the_networks_know_warn(fitted):
    _, X, coords = fitted
    X = X[:300].toarray()
    model = DPVAESpatialRegressor(
        n_estimators=2, max_samples=1.0, hidden_layer_sizes=(8,), max_epochs=2, random_state=0
    ).fit(X[:200], coords[:200])
    with pytest.warns(UserWarning, match=r"trained on every cell.*max_samples below 1"):
        model.predict_radius(X)
    model.calibrate(X[200:], coords[200:300])
    assert (model.predict_radius(X) > 0).all()


def test_radii_of_a_chain_that_knows_no_new_cells_warn(fitted):
    _, X, coords = fitted
    pipe = make_spatial_pipeline(
        n_calibration_folds=None,
        n_estimators=4,
        hidden_layer_sizes=(8,),
        max_epochs=2,
        random_state=0,
    ).fit(X[:200], coords[:200])
    with pytest.warns(UserWarning, match="steps before the last .* n_calibration_folds=4"):
        pipe.predict_radius(X)
    pipe.calibrate(X[200:300], coords[200:300])
    assert (pipe.predict_radius(X) > 0).all()


def test_std_grows_where_positions_are_uncertain():
    """Half of the cells lose their expression: they must be the uncertain ones."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(-1, 1, size=(800, 2))
    X = np.hstack([coords @ rng.normal(size=(2, 20)), np.ones((800, 1))])
    blind = rng.random(800) < 0.5
    X[blind, :20] = rng.normal(size=(blind.sum(), 20)) * 0.3
    X[blind, 20] = -1
    model = DPVAESpatialRegressor(
        hidden_layer_sizes=(32,), n_estimators=4, max_epochs=50, random_state=0
    ).fit(X[:500], coords[:500])
    placed, std = model.predict(X[500:], return_std=True)
    error = np.linalg.norm(placed - coords[500:], axis=1)
    assert spearmanr(std, error)[0] > 0.4
    assert np.median(std[blind[500:]]) > 1.3 * np.median(std[~blind[500:]])


def test_anchors_are_certain(fitted):
    pipe, X, coords = fitted
    _, std = pipe.predict(X, anchors=(range(10), coords[:10]), return_std=True)
    assert (std[:10] == 0).all()
    assert (std[10:] > 0).all()


def test_one_member_has_a_spread_too(fitted):
    _, X, coords = fitted
    model = DPVAESpatialRegressor(n_estimators=1, hidden_layer_sizes=(8,), max_epochs=5)
    X = X.toarray()
    _, std = model.fit(X, coords).predict(X, return_std=True)
    assert (std > 0).all()


def test_ratios_are_conformal_quantiles():
    """Scores that are the errors themselves: the radius is the quantile of 1."""
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(99, 2))
    model = ErrorModel.fit(np.arange(99), latents, np.zeros(99), np.full(99, 3.0), 1.0)
    np.testing.assert_allclose(model.radius(latents, np.zeros(99), None, 0.8), 3.0)
    other = model.calibrated(latents, np.zeros(99), None, np.arange(1.0, 100.0))
    # 80 of 100 with the next cell counted: the 80th of the 99 errors.
    np.testing.assert_allclose(other.radius(latents, np.zeros(99), None, 0.8), 80.0)


def test_cells_are_uncertain_whose_like_lie_far_apart():
    """Two kinds of cells of equal spread and error: one in one place, one all over."""
    rng = np.random.default_rng(0)
    scattered = np.arange(200) % 2 == 1
    places = rng.normal(size=(200, 2)) * np.where(scattered, 10.0, 1.0)[:, None]
    inputs = scattered[:, None] + 0.01 * rng.normal(size=(200, 3))
    latents = rng.normal(size=(200, 2))
    model = ErrorModel.fit(
        np.arange(200), latents, np.ones(200), np.ones(200), 2.0, inputs, places
    )
    X = np.array([[0.0] * 3, [1.0] * 3])
    near, far = model.score(np.zeros((2, 2)), np.ones(2), X)
    # The third of three lengths is ten times as long, but for the luck of ten neighbors.
    assert far / near == pytest.approx(10 ** (1 / 3), rel=0.3)
    # By hand: the members' spread and the error of the like are 2 and 1 tissue units.
    nearest = np.argsort(np.linalg.norm(inputs - X[1], axis=1))[:10]
    scatter = 2.0 * np.sqrt(places[nearest].var(axis=0).sum())
    assert far == pytest.approx((2.0 * 1.0 * scatter) ** (1 / 3))


def test_a_cell_of_the_reference_is_not_its_own_like():
    rng = np.random.default_rng(1)
    inputs, places = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
    latents, ones = rng.normal(size=(30, 2)), np.ones(30)
    model = ErrorModel.fit(np.arange(30), latents, ones, ones, 1.0, inputs, places)
    others = np.argsort(np.linalg.norm(inputs - inputs[0], axis=1))[1:11]
    scatter = np.sqrt(places[others].var(axis=0).sum())
    assert model.score(latents, ones, None)[0] == pytest.approx(scatter ** (1 / 3))
    assert model.score(latents, ones, inputs)[0] != pytest.approx(scatter ** (1 / 3))


def test_error_model_compares_inputs_of_few_columns_only(fitted):
    pipe, _, coords = fitted
    model = pipe[-1].error_model_
    assert model.inputs.shape == (400, pipe[-1].n_features_in_)
    assert model.places.shape == (400, 2)
    genes = np.random.default_rng(0).normal(size=(60, 65))
    wide = DPVAESpatialRegressor(hidden_layer_sizes=(8,), n_estimators=2, max_epochs=1)
    wide.fit(genes, coords[:60])
    assert wide.error_model_.inputs is None
    assert (wide.predict_radius(genes) > 0).all()


@pytest.mark.parametrize("level", [0, 1, 2.0, "high"])
def test_level_is_a_probability(fitted, level):
    pipe, X, _ = fitted
    with pytest.raises(ValueError, match="level"):
        pipe.predict_radius(X, level=level)


def test_calibration_data_must_match(fitted):
    pipe, X, coords = fitted
    with pytest.raises(ValueError, match="inconsistent"):
        pipe.calibrate(X, coords[:-1])
    with pytest.raises(ValueError, match="dimension"):
        pipe.calibrate(X, coords[:, 0])


def test_what_a_fitted_model_has_worked_out_does_not_travel(fitted):
    pipe, counts, _ = fitted
    model = pipe[-1]
    pipe.predict(counts[:2], return_std=True)
    assert "encoder" in vars(model.fitted_)
    loaded = pickle.loads(pickle.dumps(model.fitted_))
    assert "encoder" not in vars(loaded)
    assert "_near" not in vars(loaded.error_model)
