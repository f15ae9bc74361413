"""Radii that hold what they say without located cells to calibrate on."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.linear_model import Ridge

from sklearn_dpvae import DPVAESpatialRegressor, SpatialPipeline, make_spatial_pipeline
from sklearn_dpvae._fitted.evidence import N_KINDS
from sklearn_dpvae._fitted.place_model import PlaceTable
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.pipeline import _cross_fitting
from sklearn_dpvae.pipeline._cross_fitting import deal

QUICK = {"n_estimators": 5, "hidden_layer_sizes": (32,), "max_epochs": 60, "random_state": 0}


def make(**params):
    return make_spatial_pipeline(**QUICK | params)


@pytest.fixture(scope="module")
def noisy():
    """Few cells, many genes that say nothing: the chain learns its reference by heart."""
    tissue = make_tissue(500, 1500, informative=0.02, random_state=1)
    return tissue.X, tissue.coords


@pytest.fixture(scope="module")
def fitted(noisy):
    X, coords = noisy
    return {
        folds: make(n_calibration_folds=folds).fit(X[:250], coords[:250]) for folds in (None, 4)
    }


def covered(model, X, coords):
    errors = np.linalg.norm(model.predict(X) - coords, axis=1)
    return [np.mean(errors <= model.predict_radius(X, level=level)) for level in (0.5, 0.8, 0.95)]


def test_radii_hold_for_the_whole_chain(fitted, noisy):
    X, coords = (part[250:] for part in noisy)
    assert covered(fitted[4], X, coords) == pytest.approx([0.5, 0.8, 0.95], abs=0.15)
    # The errors of cells that only the network has not seen are far too small.
    with pytest.warns(UserWarning, match="steps before the last"):
        assert covered(fitted[None], X, coords)[1] < 0.6


def test_standard_deviations_follow_the_radii(fitted, noisy):
    X = noisy[0][250:]
    _, std = fitted[4].predict(X, return_std=True)
    _, too_small = fitted[None].predict(X, return_std=True)
    assert np.median(std) > 1.5 * np.median(too_small)


def test_networks_do_not_depend_on_the_calibration(fitted, noisy):
    X = noisy[0]
    assert_array_equal(fitted[4].transform(X), fitted[None].transform(X))
    named = deepcopy(fitted[4]).set_params(dpvae__reconstruction="latent")
    assert_array_equal(named.predict(X), fitted[None].predict(X))


def test_positions_are_medians_of_places_where_these_are_closer(fitted, noisy):
    X, coords = (part[250:] for part in noisy)
    model = fitted[4]
    assert model[-1].fitted_.places.median_share == 1
    assert fitted[None][-1].fitted_.places.median_share == 0
    placed = model.predict(X)
    places = model.predict_places(X, tolerance=0.0)

    def expected_distance(points):
        return (places.probabilities.toarray() * cdist(points, places.locations)).sum(axis=1)

    best = expected_distance(placed)
    assert (best <= expected_distance(places.mean()) * (1 + 1e-3)).all()
    for shift in ([1, 0], [0, 1], [-1, 0], [0, -1]):
        moved = placed + 0.02 * coords.std() * np.array(shift)
        assert (best <= expected_distance(moved) * (1 + 1e-3)).all()
    # Errors that radii are calibrated on are those of the answer, not of the networks.
    by_networks = fitted[None].predict(X)
    own, other = (np.linalg.norm(p - coords, axis=1).mean() for p in (placed, by_networks))
    assert own < other


def test_positions_in_another_section_are_half_way_to_the_median(fitted, noisy):
    X = noisy[0][250:]
    model = deepcopy(fitted[4])
    last = model[-1]
    by_networks = fitted[None].predict(X)
    last.fitted_ = last.fitted_.for_another_section()
    placed = model.predict(X)
    last.fitted_ = replace(last.fitted_, places=replace(last.fitted_.places, median_share=1.0))
    np.testing.assert_allclose(placed, (by_networks + model.predict(X)) / 2)


def test_bars_show_selection_and_calibration_and_the_logger_what_was_selected(
    noisy, capsys, caplog
):
    X, coords = (part[:250] for part in noisy)
    with caplog.at_level("INFO", logger="sklearn_dpvae"):
        make(verbose=1).fit(X, coords)
    said = capsys.readouterr().err
    assert said.count("Moran's I: 100%") == 1  # Folds select genes, too, but silently.
    assert "calibration: 100%" in said
    assert "genes selected" in caplog.text
    make().fit(X, coords)
    assert not capsys.readouterr().err


def test_the_order_of_the_query_changes_the_last_bits_of_medians_only(fitted, noisy):
    X, coords = (part[250:] for part in noisy)
    assert fitted[4][-1].fitted_.places.median_share == 1
    order = np.random.RandomState(0).permutation(len(coords))
    placed = fitted[4].predict(X)
    extent = np.ptp(coords, axis=0).max()
    np.testing.assert_allclose(fitted[4].predict(X[order]), placed[order], atol=1e-12 * extent)


def test_a_network_learns_places_while_the_chain_is_calibrated(fitted):
    assert fitted[None][-1].fitted_.places.net is None
    tissue = make_tissue(400, 40, random_state=0)
    X, coords = tissue.X, tissue.coords
    model = make().fit(X[:300], coords[:300])
    last = model[-1]
    places = last.fitted_.places
    assert places.net.config["n_places"] == len(places.coords)
    # Folds tell how much it counts: here, for something.
    assert places.weights[3:5].sum() > 0.01
    told = model.predict_places(X[300:]).probabilities
    last.fitted_ = replace(last.fitted_, places=replace(places, net=None))
    silent = model.predict_places(X[300:]).probabilities
    assert np.abs(told - silent).max() > 1e-4


def test_medians_that_are_no_closer_are_not_taken(fitted):
    known = fitted[4][-1].fitted_
    left = replace(known, places=replace(known.places, median_share=0.0))
    table = PlaceTable(
        np.arange(30),
        np.zeros((N_KINDS, 30, 250)),
        np.zeros(30, dtype=np.intp),
        known.places.coords[:250] + 1e4,
        slice(None),
    )
    errors = known.error_model.errors
    told = left.with_errors_of_new_cells(errors, None, [table], another_section=False)
    assert told.places.median_share == 0
    assert_array_equal(told.error_model.errors, errors)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
@pytest.mark.parametrize("query", ["same_section", "new_section"])
def test_sections_batches_and_counts_are_handed_to_every_fold(likelihood, query):
    tissue = make_tissue(150, 30, n_sections=2, random_state=0)
    labels = {"sections": tissue.sections, "batch": tissue.sections}
    model = make(likelihood=likelihood, query=query, max_epochs=5)
    model.fit(tissue.X, tissue.coords, **labels)
    known = model[-1].error_model_
    assert known.cross_fitted
    assert len(known.rows) == 150
    radius = model.predict_radius(tissue.X, level=0.8, sections=tissue.sections)
    assert np.isfinite(radius).all()
    assert (radius > 0).all()


def test_radii_for_another_section_allow_for_its_own_error():
    tissue = make_tissue(200, 40, n_sections=2, random_state=0)
    labels = {"sections": tissue.sections}
    same, new = (
        make(query=query).fit(tissue.X, tissue.coords, **labels)[-1].error_model_
        for query in ("same_section", "new_section")
    )
    np.testing.assert_allclose(same.errors, new.errors)
    names = np.unique(tissue.sections)
    middles = np.stack([tissue.coords[tissue.sections == s].mean(axis=0) for s in names])
    away = tissue.coords - middles[np.unique(tissue.sections, return_inverse=True)[1]]
    extent, own = np.sqrt(np.mean(np.sum(away**2, axis=1))), np.sqrt(np.mean(same.errors**2))
    # Two errors of 0.4 times the extent are added, as variances are: one goes with the cell's own,
    # and one is a normal vector of any direction.
    added = 0.4 * extent / own
    rng = np.random.default_rng(0)
    alone = rng.normal(size=(200_000, 2)) * added * np.sqrt(np.mean(same.ratios**2) / 2)
    with_own = rng.choice(same.ratios, 200_000) * np.sqrt(1 + added**2)
    expected = np.hypot(with_own, np.linalg.norm(alone, axis=1))
    levels = [0.2, 0.5, 0.8, 0.95]
    np.testing.assert_allclose(
        np.quantile(new.ratios, levels), np.quantile(expected, levels), rtol=0.03
    )
    assert len(new.ratios) == len(same.ratios)
    assert (new.ratios > same.ratios).all()


def test_folds_leave_out_the_same_share_of_each_section():
    codes = np.repeat([0, 1, 2], [40, 100, 9])
    folds = deal(codes, 4, np.random.RandomState(0))
    assert_array_equal(np.bincount(folds[codes == 0]), [10] * 4)
    assert_array_equal(np.bincount(folds[codes == 1]), [25] * 4)
    assert (folds[codes == 2] == -1).all()


def test_a_fold_of_a_large_reference_is_fitted_on_a_part_of_it(monkeypatch):
    monkeypatch.setattr(_cross_fitting, "_MAX_CELLS", 60)
    tissue = make_tissue(200, 30, n_sections=2, random_state=0)
    sizes = []
    fit = DPVAESpatialRegressor.fit

    def counting_fit(self, X, y, views=None, **labels):
        sizes.append(len(X))
        return fit(self, X, y, views=views, **labels)

    monkeypatch.setattr(DPVAESpatialRegressor, "fit", counting_fit)
    model = make(max_epochs=3).fit(tissue.X, tissue.coords, sections=tissue.sections)
    assert sizes[0] == 200
    assert all(40 <= size <= 60 for size in sizes[1:])
    # All cells are placed nevertheless.
    assert len(model[-1].error_model_.rows) == 200


def test_a_reference_of_few_cells_keeps_the_errors_of_its_networks():
    tissue = make_tissue(15, 20, random_state=0)
    model = make(max_epochs=2).fit(tissue.X, tissue.coords)
    assert not model[-1].error_model_.cross_fitted


def test_one_dimensional_positions():
    tissue = make_tissue(80, 20, random_state=0)
    model = make(max_epochs=3).fit(tissue.X, tissue.coords[:, 0])
    assert model.predict(tissue.X).shape == (80,)
    assert model[-1].error_model_.cross_fitted


def test_folds_are_a_parameter():
    model = clone(make(n_calibration_folds=3))
    assert model.get_params()["n_calibration_folds"] == 3
    assert SpatialPipeline([("dpvae", DPVAESpatialRegressor())]).n_calibration_folds is None


@pytest.mark.parametrize("folds", [1, 2.5, "four"])
def test_impossible_numbers_of_folds(folds, noisy):
    X, coords = noisy
    with pytest.raises(ValueError, match=f"n_calibration_folds must be 2 or more.*{folds}"):
        make(n_calibration_folds=folds).fit(X, coords)


def test_only_the_regressor_is_calibrated(noisy):
    X, coords = noisy
    pipe = SpatialPipeline([("ridge", Ridge())], n_calibration_folds=4)
    with pytest.raises(ValueError, match="n_calibration_folds=4 calibrates a DPVAESpatial"):
        pipe.fit(X, coords)


def test_radii_are_wider_where_the_query_comes_from_a_part_that_the_reference_lacks(fitted, noisy):
    X = noisy[0][250:]
    last = fitted[4][-1]
    known = last.fitted_
    inputs = known.error_model.inputs
    same = known.for_query(inputs[:100])
    assert same is known
    new = known.for_query(inputs[:100] + 3 * inputs.std(axis=0))
    assert new.places.median_share == 0.5 * known.places.median_share
    assert (
        new.error_model.ratios > 1.1 * known.error_model.ratios[: len(new.error_model.ratios)]
    ).all()
    # However new, radii stay about the tissue: an error of .65 of its extent is added, twice.
    added = 0.65 * known.places.extent / np.sqrt(np.mean(known.error_model.errors**2))
    rms = np.sqrt(np.mean(new.error_model.ratios**2) / np.mean(known.error_model.ratios**2))
    assert rms == pytest.approx(np.sqrt(1 + 2 * added**2), rel=0.05)
    # A few cells say nothing of the whole.
    assert known.for_query(inputs[:19] + 3 * inputs.std(axis=0)) is known
    calibrated = deepcopy(fitted[4]).calibrate(X, noisy[1][250:])[-1].fitted_
    assert calibrated.for_query(inputs[:100] + 3 * inputs.std(axis=0)) is calibrated
