"""Divergence, values that floating point cannot hold, and what must not change a map."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes
from skorch.callbacks import Callback

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (8,), "max_epochs": 8, "random_state": 0}


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    coords = rng.normal(size=(120, 2))
    X = coords @ rng.normal(size=(2, 12)) + 0.1 * rng.normal(size=(120, 12))
    return X.astype(np.float32), coords


# -------------------------------------------------------------------------------- divergence


class Spoil(Callback):
    """Make a weight NaN before some epochs, so often."""

    def __init__(self, epoch, times):
        self.epoch = epoch
        self.times = times
        self.rates = []

    def on_epoch_begin(self, net, **kwargs):
        self.rates.append(max(group["lr"] for group in net.optimizer_.param_groups))
        if len(net.history) == self.epoch and self.times:
            self.times -= 1
            with torch.no_grad():
                next(net.module_.parameters()).fill_(np.nan)


def test_a_divergence_is_caught_within_an_epoch_and_the_rate_halved(cells):
    spoil = Spoil(4, 1)
    model = DPVAESpatialRegressor(**SMALL, lr_schedule="constant", callbacks=[spoil])
    with pytest.warns(RuntimeWarning, match=r"diverged in epoch 4 \(the .* lr=0\.0025 instead"):
        model.fit(*cells)
    # The fourth is run twice, and the rate stays low.
    assert spoil.rates == [0.005] * 4 + [0.0025] * 5
    assert len(model.history_) == 8
    assert np.isfinite([list(row.values()) for row in model.history_]).all()
    assert np.isfinite(model.predict(cells[0])).all()


def test_training_goes_on_from_the_last_good_epoch(cells):
    """With half of the rate from there, as if a schedule had said so."""

    class Halve(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 4:
                for group in net.optimizer_.param_groups:
                    group["lr"] /= 2

    options = SMALL | {"lr_schedule": "constant"}
    expected = DPVAESpatialRegressor(**options, callbacks=[Halve()]).fit(*cells)
    with pytest.warns(RuntimeWarning, match="diverged"):
        found = DPVAESpatialRegressor(**options, callbacks=[Spoil(4, 1)]).fit(*cells)
    np.testing.assert_array_equal(found.predict(cells[0]), expected.predict(cells[0]))


def test_one_cycle_goes_on_at_half_of_its_rates(cells):
    plain, spoiled = Spoil(4, 0), Spoil(4, 1)
    DPVAESpatialRegressor(**SMALL, callbacks=[plain]).fit(*cells)
    with pytest.warns(RuntimeWarning, match="diverged"):
        DPVAESpatialRegressor(**SMALL, callbacks=[spoiled]).fit(*cells)
    np.testing.assert_allclose(spoiled.rates[:4], plain.rates[:4])
    np.testing.assert_allclose(spoiled.rates[4:], np.array(plain.rates[3:]) / 2)


def test_the_second_divergence_is_an_error(cells, tmp_path):
    model = DPVAESpatialRegressor(**SMALL, callbacks=[Spoil(4, 2)], checkpoint=tmp_path / "c")
    with (
        pytest.warns(RuntimeWarning, match="diverged in epoch 4"),
        pytest.raises(FloatingPointError, match=r"epoch 4, with lr=0\.0025 as before .* lower lr"),
    ):
        model.fit(*cells)
    assert not hasattr(model, "fitted_")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("term", ["reconstruction", "distance", "alignment"])
def test_the_error_names_the_term(cells, term, monkeypatch):
    """The one that is not finite, and not those that follow from it a step later."""
    name = f"sklearn_dpvae._network.objective.{term}"
    monkeypatch.setattr(name, lambda step, **kwargs: step.output["z"].sum(dim=(1, 2)) * np.inf)
    words = {"reconstruction": "Scale X.*elbo_weight", "distance": "Lower distance_weight"}
    words["alignment"] = "Lower alignment_weight"
    with (
        pytest.warns(RuntimeWarning, match=f"the {term} term"),
        pytest.raises(FloatingPointError, match=words[term]),
    ):
        DPVAESpatialRegressor(**SMALL).fit(*cells)


def test_a_rate_that_is_far_too_high_is_named(cells):
    with (
        pytest.warns(RuntimeWarning, match="diverged in epoch"),
        pytest.raises(FloatingPointError, match=r"lr=5e\+09 as before with lr=1e\+10"),
    ):
        DPVAESpatialRegressor(**SMALL, lr=1e10).fit(*cells)


# ------------------------------------------------------------------ values beyond all bounds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X * np.float32(1e20), y), r"X holds values as large as .*e\+2.*Scale X"),
        (lambda X, y: (sp.csr_matrix(X) * np.float32(1e20), y), "X holds values as large as"),
        (lambda X, y: (np.ones_like(X), y), "X does not vary: all 120 cells of section 0"),
        (lambda X, y: (sp.csr_matrix(np.ones_like(X)), y), "X does not vary"),
        (lambda X, y: (sp.csr_matrix(X.shape), y), "X does not vary"),
        (lambda X, y: (X, y * 1e-300), r"positions of section 0 span .*e-300.*another unit"),
        (lambda X, y: (X, y * 1e200), r"positions of section 0 span .*e\+200.*another unit"),
        (lambda X, y: (X, y + 1e18), "all 120 positions of section 0 are the same point"),
        (lambda X, y: (X, y * 1e3 + 1e17), "hardly tells them apart. Subtract an origin from y"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_speak_of_the_data(cells, change, message, dtype):
    X, coords = change(*cells)
    model = DPVAESpatialRegressor(**SMALL)
    with pytest.raises(ValueError, match=message):
        model.fit(X.astype(dtype), coords)
    assert not hasattr(model, "fitted_")


@pytest.mark.filterwarnings("ignore:no two values of X differ")
@pytest.mark.parametrize("n_estimators", [1, 2])
def test_latents_that_coincide_are_named(cells, n_estimators):
    """X varies, but by so little that no network sees it."""
    X, coords = cells
    model = DPVAESpatialRegressor(**SMALL | {"n_estimators": n_estimators})
    with pytest.raises(ValueError, match=r"latents of all .* cells.* coincide: X hardly varies"):
        model.fit(X * np.float32(1e-30), coords)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_values_that_hardly_differ_warn(cells, kind):
    X, coords = cells
    with pytest.warns(UserWarning, match="no two values of X differ by more than .* Scale X"):
        DPVAESpatialRegressor(**SMALL).fit(kind(X * np.float32(1e-4)), coords)


def test_a_section_without_variation_is_named(cells):
    X, coords = cells
    labels = np.repeat(["a", "b"], 60)
    X = np.where(labels[:, None] == "b", 1, X)
    with pytest.raises(ValueError, match="all 60 cells of section 'b' have the same expression"):
        DPVAESpatialRegressor(**SMALL).fit(X, coords, sections=labels)


@pytest.mark.parametrize(
    "name", ["distance_weight", "alignment_weight", "kl_weight", "elbo_weight"]
)
def test_weights_that_float32_cannot_hold_are_named(cells, name):
    with pytest.raises(ValueError, match=rf"'{name}' parameter .*1e\+20.*Got 1e\+39"):
        DPVAESpatialRegressor(**SMALL, **{name: 1e39}).fit(*cells)


@pytest.mark.parametrize("scale", [1e-90, 1e-6, 1e6, 1e90])
def test_units_that_floating_point_can_hold_do(cells, scale):
    X, coords = cells
    expected = DPVAESpatialRegressor(**SMALL).fit(X, coords).predict(X)
    found = DPVAESpatialRegressor(**SMALL).fit(X, coords * scale).predict(X)
    np.testing.assert_allclose(found / scale, expected, rtol=1e-6)


def test_numbers_of_numpy_are_numbers_of_epochs(cells):
    """And not "auto", which is the other thing that is no Python integer."""
    model = DPVAESpatialRegressor(**SMALL | {"max_epochs": np.int64(2)}).fit(*cells)
    assert len(model.history_) == 2


def test_latents_and_anchors_beyond_all_bounds_are_named(cells):
    X, coords = cells
    model = DPVAESpatialRegressor(**SMALL).fit(X, coords)
    with pytest.raises(ValueError, match=r"Z holds latents as large as 1e[+]305"):
        model.inverse_transform(np.full((3, 2), 1e305))
    with pytest.raises(ValueError, match=r"anchors lie as far out as .*another unit"):
        model.predict(X, anchors=(range(5), coords[:5] * 1e200))


def test_a_single_gene_is_enough(cells):
    X, coords = cells
    assert np.isfinite(
        DPVAESpatialRegressor(**SMALL).fit(X[:, :1], coords).predict(X[:, :1])
    ).all()


# -------------------------------------------------------------------------------- invariance


@pytest.fixture(scope="module")
def small_tissue():
    tissue = make_tissue(300, 60, random_state=0)
    return tissue.X[:220], tissue.coords[:220], tissue.X[220:]


def placed(X, coords, query, **params):
    options = SMALL | {"max_epochs": 10, "n_calibration_folds": None} | params
    return make_spatial_pipeline(**options).fit(X, coords).predict(query)


@pytest.fixture(scope="module")
def expected(small_tissue):
    return placed(*small_tissue)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    angle=st.floats(0, 2 * np.pi),
    mirrored=st.booleans(),
    unit=st.floats(-6, 6).map(lambda power: 10.0**power),
    shift=st.tuples(*[st.floats(-1e3, 1e3)] * 2),
)
def test_maps_follow_the_frame_of_the_reference(
    small_tissue, expected, angle, mirrored, unit, shift
):
    """Turned, mirrored, moved and in another unit: within 1e-6 of the extent."""
    X, coords, query = small_tissue
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag([1, -1 if mirrored else 1])

    def moved(points):
        return unit * (points @ turn.T + shift)

    extent = unit * np.ptp(coords, axis=0).max()
    found = placed(X, moved(coords), query)
    assert np.abs(found - moved(expected)).max() < 1e-6 * extent


def test_the_order_of_the_query_does_not_matter(small_tissue, expected):
    X, coords, query = small_tissue
    order = np.random.default_rng(0).permutation(query.shape[0])
    np.testing.assert_array_equal(placed(X, coords, query[order]), expected[order])


def test_the_order_of_the_reference_matters_no_more_than_the_seed(small_tissue):
    """Batches are drawn from other rows, as with another seed."""
    X, coords, query = small_tissue
    order = np.random.default_rng(0).permutation(len(coords))
    options = {"max_epochs": 40, "n_estimators": 4}
    first = placed(X, coords, query, **options)
    seeds = [placed(X, coords, query, **options, random_state=seed) for seed in (1, 2, 3)]
    by_seed = [procrustes(first, other)[2] for other in seeds]
    by_order = procrustes(first, placed(X[order], coords[order], query, **options))[2]
    assert by_order < 2 * max(by_seed)
    assert by_order < 0.05
