"""The contract of DPVAESpatialRegressor."""

import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from quick_regressor import quick, z_scored_section
from read_only import read_only
from scipy.spatial import procrustes
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate
from skorch.callbacks import Callback, EarlyStopping

from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae._training import batches
from sklearn_dpvae._training.devices import pick_device
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler


@pytest.fixture(scope="module")
def section():
    return z_scored_section()


@pytest.fixture(scope="module")
def sections():
    """Two sections with frames of their own."""
    tissue = make_tissue(n_cells=300, n_genes=60, n_sections=2, random_state=1)
    X = LogNormalizer().fit_transform(tissue.X)
    X = SectionScaler().fit_transform(X, sections=tissue.sections)
    return read_only(np.asarray(X, dtype=np.float32), tissue.coords, tissue.sections)


def disparity(a, b):
    return procrustes(a, b)[2]


# ------------------------------------------------------------------ does it learn


def test_recovers_held_out_positions_better_than_chance(section):
    X, coords = section
    model = quick(max_epochs=150).fit(X[:180], coords[:180])
    predicted = model.predict(X[180:])
    assert disparity(coords[180:], predicted) < 0.5
    # In the frame and units of the reference, not only up to a similarity.
    error = np.linalg.norm(predicted - coords[180:], axis=1).mean()
    spread = np.linalg.norm(coords[180:] - coords.mean(0), axis=1).mean()
    assert error < 0.8 * spread


def test_recovers_a_known_map():
    """Expression that is a linear image of the positions: almost nothing may be lost."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(-1, 1, size=(300, 2)) * [3.0, 1.0]
    X = coords @ rng.normal(size=(2, 20))
    model = quick(max_epochs=200, dropout=0.0, input_dropout=0.0, elbo_weight=0.01).fit(
        X[:250], coords[:250]
    )
    assert disparity(coords[250:], model.predict(X[250:])) < 0.01


def test_distance_weight_zero_is_a_plain_vae_with_worse_positions(section):
    X, coords = section
    with_term = quick(max_epochs=100).fit(X, coords).score(X, coords)
    without = quick(max_epochs=100, distance_weight=0.0, alignment_weight=0.0)
    assert without.fit(X, coords).score(X, coords) < with_term - 0.1


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_any_number_of_dimensions(n_dims):
    tissue = make_tissue(n_cells=150, n_genes=40, n_dims=max(n_dims, 2), random_state=0)
    coords = tissue.coords[:, :n_dims]
    X = LogNormalizer().fit_transform(tissue.X)
    model = quick(max_epochs=3).fit(X, coords)
    assert model.n_components_ == n_dims
    assert model.predict(X).shape == (150, n_dims)
    flat = quick(max_epochs=3).fit(X, coords[:, 0])
    assert flat.predict(X).shape == (150,)
    known = np.full(150, np.nan)
    known[:9] = coords[:9, 0]
    placed = flat.predict(X, anchors=known)
    np.testing.assert_array_equal(placed[:9], coords[:9, 0])
    np.testing.assert_array_equal(placed, flat.predict(X, anchors=(np.arange(9), known[:9])))


def test_the_pose_of_the_reference_only_moves_the_answer(section):
    """Rotating, mirroring, shifting and scaling the positions does the same to predictions."""
    X, coords = section
    turn = np.array([[0.6, 0.8], [0.8, -0.6]])
    plain = quick().fit(X, coords)
    moved = quick().fit(X, 1000 * coords @ turn + [5.0, -3.0])
    assert moved.scale_ == pytest.approx(plain.scale_ / 1000, rel=0.1)
    assert disparity(plain.predict(X), moved.predict(X)) < 0.05


def test_scale_is_the_ratio_of_latent_to_tissue_distances(section):
    X, coords = section
    model = quick(max_epochs=150, dropout=0.0, input_dropout=0.0).fit(X, coords)
    Z = model.transform(X)
    ratio = np.linalg.norm(Z[:120] - Z[120:], axis=1).mean()
    ratio /= np.linalg.norm(coords[:120] - coords[120:], axis=1).mean()
    assert ratio == pytest.approx(model.scale_, rel=0.2)


# ------------------------------------------------------------------ inputs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_and_dense_agree(section, dtype):
    X, coords = section
    X = np.where(X > 0.5, X, 0).astype(dtype)
    dense = quick().fit(X, coords)
    sparse = quick().fit(sp.csr_matrix(X), coords)
    np.testing.assert_allclose(dense.predict(X), sparse.predict(sp.csr_array(X)), rtol=1e-4)


def test_data_frames_name_the_features(section):
    X, coords = section
    names = [f"gene_{j}" for j in range(X.shape[1])]
    frame = pd.DataFrame(X, columns=names)
    model = quick(max_epochs=2).fit(frame, pd.DataFrame(coords, columns=["x", "y"]))
    assert list(model.feature_names_in_) == names
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[names[::-1]])
    model.set_output(transform="pandas")
    assert list(model.transform(frame).columns) == list(model.get_feature_names_out())


def test_input_is_not_changed(section):
    X, coords = section
    X0, coords0 = X.copy(), coords.copy()
    X.flags.writeable = coords.flags.writeable = False
    try:
        quick(max_epochs=2).fit(X, coords).predict(X)
    finally:
        X.flags.writeable = coords.flags.writeable = True
    np.testing.assert_array_equal(X, X0)
    np.testing.assert_array_equal(coords, coords0)


def test_memory_maps(section, tmp_path):
    X, coords = section
    joblib.dump(X, tmp_path / "X.joblib")
    mapped = joblib.load(tmp_path / "X.joblib", mmap_mode="r")
    model = quick(max_epochs=2).fit(mapped, coords)
    np.testing.assert_array_equal(
        model.predict(mapped), quick(max_epochs=2).fit(X, coords).predict(X)
    )


# ------------------------------------------------------------------ prediction


def test_predict_is_pointwise(section):
    X, coords = section
    model = quick(max_epochs=5).fit(X, coords)
    whole = model.predict(X)
    np.testing.assert_allclose(
        np.vstack([model.predict(X[i : i + 1]) for i in range(9)]), whole[:9]
    )
    shuffled = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(model.predict(X[shuffled]), whole[shuffled])


def test_more_components_than_dimensions_are_placed_among_the_reference(section):
    X, coords = section
    model = quick(n_components=5, max_epochs=150).fit(X[:180], coords[:180])
    assert model.transform(X).shape == (240, 5)
    predicted = model.predict(X[180:])
    assert disparity(coords[180:], predicted) < 0.5
    np.testing.assert_allclose(model.predict(X[180:185]), predicted[:5])


def test_reference_and_latent_reconstruction_agree_on_an_isometry(section):
    """Where latent distances are right both must find the same place."""
    X, coords = section
    latent = quick(max_epochs=150, reconstruction="latent").fit(X, coords)
    reference = clone(latent).set_params(reconstruction="reference").fit(X, coords)
    assert disparity(latent.predict(X), reference.predict(X)) < 0.05


def test_transform_keeps_the_dtype_and_inverse_transform_decodes(section):
    X, coords = section
    model = quick(max_epochs=150, elbo_weight=1.0).fit(X, coords)
    Z = model.transform(X)
    assert Z.dtype == X.dtype
    decoded = model.inverse_transform(Z)
    assert decoded.shape == X.shape
    assert decoded.dtype == X.dtype
    # Better than the mean gene by gene, which is 0 for z-scores.
    assert np.mean((decoded - X) ** 2) < np.mean(X**2)
    with pytest.raises(ValueError, match="latent components"):
        model.inverse_transform(np.zeros((3, 7)))


def test_score_is_one_minus_disparity(section):
    X, coords = section
    model = quick(max_epochs=5).fit(X, coords)
    assert model.score(X, coords) == pytest.approx(1 - disparity(coords, model.predict(X)))


def test_not_fitted(section):
    with pytest.raises(NotFittedError):
        quick().predict(section[0])


# ------------------------------------------------------------------ sections


def test_sections_have_frames_of_their_own(sections):
    X, coords, labels = sections
    model = quick(max_epochs=150).fit(X, coords, sections=labels)
    predicted = model.predict(X, sections=labels)
    for label in np.unique(labels):
        rows = labels == label
        error = np.linalg.norm(predicted[rows] - coords[rows], axis=1).mean()
        spread = np.linalg.norm(coords[rows] - coords[rows].mean(0), axis=1).mean()
        assert error < 0.8 * spread
    # Without labels all are answered in one frame, that of the largest section.
    default = model.frames_.frames[model.frames_.default].label
    np.testing.assert_allclose(model.predict(X[labels == default]), predicted[labels == default])
    # A label that the reference does not have is answered there too.
    elsewhere = np.full(len(X), "elsewhere")
    np.testing.assert_allclose(model.predict(X, sections=elsewhere), model.predict(X))


def test_moving_a_section_changes_nothing_but_its_own_frame(sections):
    X, coords, labels = sections
    moved = coords + np.where(labels == labels[0], 1e4, 0.0)[:, None]
    plain = quick().fit(X, coords, sections=labels)
    shifted = quick().fit(X, moved, sections=labels)
    np.testing.assert_allclose(plain.transform(X), shifted.transform(X), atol=1e-3)
    np.testing.assert_allclose(
        plain.predict(X, sections=labels) + (moved - coords),
        shifted.predict(X, sections=labels),
        rtol=1e-3,
    )


def test_sections_are_sliced_by_cross_validation(sections):
    X, coords, labels = sections
    search = GridSearchCV(quick(max_epochs=2), {"distance_weight": [0.1, 1.0]}, cv=3)
    search.fit(X, coords, sections=labels)
    assert len(search.best_estimator_.sections_) == 2
    scores = cross_validate(quick(max_epochs=2), X, coords, params={"sections": labels})
    assert np.isfinite(scores["test_score"]).all()


# ------------------------------------------------------------------ seeds and the caller's state


def test_equal_seeds_give_equal_models_and_leave_the_callers_rng(section):
    X, coords = section
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the global state is what must not move
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the global state is what must not move
    first = quick(max_epochs=3).fit(X, coords).predict(X)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002
    np.testing.assert_array_equal(first, quick(max_epochs=3).fit(X, coords).predict(X))
    assert not np.array_equal(first, quick(max_epochs=3, random_state=1).fit(X, coords).predict(X))


def test_a_fit_on_the_cpu_does_not_start_cuda(section, monkeypatch):
    def refuse(*args):
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", refuse)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    X, coords = section
    quick(max_epochs=1).fit(X, coords)


# ------------------------------------------------------------------ training


def test_history_has_every_term_of_every_epoch(section):
    X, coords = section
    model = quick(max_epochs=4).fit(X, coords)
    assert model.n_iter_ == len(model.history_) == 4
    for epoch in model.history_:
        for term in ("loss", "reconstruction", "kl", "distance", "alignment", "scale"):
            assert np.isfinite(epoch[term])
    last = model.history_[-1]
    total = (last["reconstruction"] + last["kl"]) / X.shape[1]
    total += model.distance_weight * last["distance"]
    total += model.alignment_weight * last["alignment"]
    assert last["loss"] == pytest.approx(total, rel=1e-4)


def test_early_stopping_keeps_the_best_epoch(section):
    X, coords = section
    model = quick(
        max_epochs=300,
        early_stopping=True,
        patience=5,
        dropout=0.0,
        input_dropout=0.0,
        lr=0.01,
        lr_schedule="constant",
    ).fit(X, coords)
    stress = [epoch["valid_stress"] for epoch in model.history_]
    assert model.n_iter_ < 300
    assert np.argmin(stress) == model.n_iter_ - 1 - 5


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_history_has_the_elbo_of_held_out_cells(tissue, likelihood):
    X = tissue.X.toarray() if likelihood == "nb" else np.log1p(tissue.X.toarray())
    params = {"likelihood": likelihood, "max_epochs": 60, "batch_size": 64}
    model = quick(early_stopping=True, patience=60, **params)
    history = model.fit(X, tissue.coords).history_
    elbo = [row["valid_elbo"] for row in history]
    # It rises while the model learns expression, and is that of cells like those of the fit.
    assert elbo[-1] > elbo[0]
    trained = -(history[-1]["reconstruction"] + history[-1]["kl"])
    assert elbo[-1] == pytest.approx(trained, rel=0.3)
    # Looking at it does not change what is learned.
    again = quick(early_stopping=True, patience=60, **params).fit(X, tissue.coords)
    assert [row["valid_elbo"] for row in again.history_] == elbo
    assert "valid_elbo" not in quick(**params).fit(X, tissue.coords).history_[0]


def test_sections_in_different_units_are_noticed_where_nothing_mends_it(tissue):
    X, coords = tissue.X.toarray(), tissue.coords.copy()
    first = tissue.sections == tissue.sections[0]
    coords[first] *= 100.0
    given = {"sections": tissue.sections}
    with pytest.warns(UserWarning, match="different units: one is .* times as large"):
        quick(max_epochs=1, alignment_weight=0.0).fit(X, coords, **given)
    # The alignment term has a scale for each section, and without distances there is none.
    quick(max_epochs=1).fit(X, coords, **given)
    quick(max_epochs=1, alignment_weight=0.0, distance_weight=0.0).fit(X, coords, **given)
    # A small piece of the same tissue is no other unit.
    far = np.linalg.norm(tissue.coords - tissue.coords[first][0], axis=1)
    piece = first & (far <= np.sort(far[first])[11])
    kept = piece | ~first
    quick(max_epochs=1, alignment_weight=0.0).fit(
        X[kept], tissue.coords[kept], sections=tissue.sections[kept]
    )


def test_early_stopping_waits_for_low_rates_of_a_one_cycle_schedule(section):
    X, coords = section
    stopped = {
        schedule: quick(
            max_epochs=40, early_stopping=True, patience=1, lr=0.03, lr_schedule=schedule
        )
        .fit(X, coords)
        .n_iter_
        for schedule in ("constant", "one_cycle")
    }
    assert stopped["constant"] < 20 <= stopped["one_cycle"]


def test_early_stopping_holds_the_reference_once(section, monkeypatch):
    held = []
    rows_of = batches.rows_of
    monkeypatch.setattr(batches, "rows_of", lambda X, device: held.append(X) or rows_of(X, device))
    X, coords = section
    quick(max_epochs=2, early_stopping=True).fit(X, coords)
    assert len(held) == 1


def test_early_stopping_needs_cells_to_hold_out(section):
    X, coords = section
    with pytest.raises(ValueError, match="validation_fraction"):
        quick(early_stopping=True, validation_fraction=0.01).fit(X[:50], coords[:50])


def test_warm_start_goes_on_and_fit_starts_anew(section):
    X, coords = section
    model = quick(max_epochs=5, warm_start=True).fit(X, coords)
    first = model.history_[-1]["loss"]
    assert model.fit(X, coords).history_[-1]["loss"] < first
    with pytest.raises(ValueError, match="n_components"):
        model.set_params(n_components=4).fit(X, coords)
    model.set_params(warm_start=False).fit(X, coords)
    assert model.n_components_ == 4


def test_partial_fit_learns_another_section_from_a_few_located_cells(sections):
    X, coords, labels = sections
    here, there = (labels == k for k in np.unique(labels))
    model = quick(max_epochs=150).fit(X[here], coords[here])
    before = disparity(coords[there], model.predict(X[there]))
    known = np.flatnonzero(there)[::5]
    model.partial_fit(X[known], coords[known], sections=["new"] * len(known))
    rest = np.setdiff1d(np.flatnonzero(there), known)
    assert list(model.sections_) == ["new"]
    predicted = model.predict(X[rest])
    assert disparity(coords[rest], predicted) < before + 0.02
    # In the new section's frame.
    error = np.linalg.norm(predicted - coords[rest], axis=1).mean()
    assert error < np.linalg.norm(coords[rest] - coords[rest].mean(0), axis=1).mean()


def test_partial_fit_on_an_unfitted_model_fits(section):
    X, coords = section
    a = quick(max_epochs=2).partial_fit(X, coords)
    np.testing.assert_array_equal(a.predict(X), quick(max_epochs=2).fit(X, coords).predict(X))


class CountEpochs(Callback):
    def __init__(self):
        self.epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1


class PressCtrlC(Callback):
    def on_batch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def test_user_callbacks_are_called_and_can_stop(section):
    X, coords = section
    counter = CountEpochs()
    quick(max_epochs=3, callbacks=[counter]).fit(X, coords)
    assert counter.epochs == 3
    stopper = EarlyStopping(monitor="train_loss", patience=2, threshold=10.0, sink=lambda _: None)
    assert quick(max_epochs=50, callbacks=[stopper]).fit(X, coords).n_iter_ < 10


def test_ctrl_c_leaves_no_half_fitted_model(section):
    X, coords = section
    model = quick(callbacks=[PressCtrlC()])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, coords)
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize("verbose", [1, 2])
def test_verbose_shows_progress_and_still_pickles(section, verbose, capfd):
    X, coords = section
    model = quick(max_epochs=2, verbose=verbose).fit(X, coords)
    out = "".join(capfd.readouterr())
    assert "DPVAE" in out if verbose == 1 else "distance" in out
    pickle.loads(pickle.dumps(model)).predict(X)


# ------------------------------------------------------------------ persistence and devices


def test_another_process_predicts_the_same_bytes(section, tmp_path):
    X, coords = section
    model = quick(max_epochs=3).fit(X, coords)
    joblib.dump((model, X), tmp_path / "model.joblib")
    script = (
        "import joblib, sys; model, X = joblib.load(sys.argv[1]);"
        "sys.stdout.buffer.write(model.predict(X).tobytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model.joblib")],
        capture_output=True,
        check=True,
    )
    assert done.stdout == model.predict(X).tobytes()


def test_a_trained_model_holds_few_cells_and_no_device_state(section, monkeypatch):
    monkeypatch.setattr("sklearn_dpvae._fitted.fitting._CELLS_FOR_ERRORS", 20)
    X, coords = section
    model = quick(max_epochs=2, hidden_layer_sizes=(8,), n_landmarks=10).fit(X, coords)
    small = len(pickle.dumps(model))
    bigger = quick(max_epochs=2, hidden_layer_sizes=(8,), n_landmarks=10, early_stopping=True).fit(
        np.vstack([X] * 4), np.vstack([coords] * 4)
    )
    assert len(pickle.dumps(bigger)) < 1.5 * small
    assert all(p.device.type == "cpu" for p in model.module_.parameters())


def test_auto_device_falls_back_to_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == "cuda"
    assert pick_device("cpu") == "cpu"


# ------------------------------------------------------------------ errors


def with_(array, value):
    array = array.copy()
    array[3, 0] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, c: (with_(X, np.nan), c, {}), "NaN"),
        (lambda X, c: (with_(X, np.inf), c, {}), "infinity"),
        (lambda X, c: (X, with_(c, np.nan), {}), "NaN"),
        (lambda X, c: (X, with_(c, np.inf), {}), "infinity"),
        (lambda X, c: (X, c[:-1], {}), "inconsistent numbers of samples"),
        (lambda X, c: (X, np.ones_like(c), {}), "same point"),
        (lambda X, c: (X[:2], c[:2], {}), "at least 3"),
        (lambda X, c: (X, c, {"sections": ["a"] * 2 + ["b"] * (len(X) - 2)}), "section 'a'"),
        (lambda X, c: (X, c, {"sections": ["a"] * (len(X) - 1)}), "one label per row"),
        (lambda X, c: (X, c, {"sections": ["a"] * (len(X) - 1) + [None]}), "missing label"),
        (lambda X, c: (X, c, {"sections": "a"}), "one label per row"),
        (lambda X, c: (X[:, 0], c, {}), "Expected 2D array"),
        (lambda X, c: (np.array([["a"] * 3] * len(c)), c, {}), "convert string"),
    ],
)
def test_bad_input_is_refused_before_anything_is_fitted(section, change, message):
    X, coords, params = change(*section)
    model = quick()
    with pytest.raises(ValueError, match=message):
        model.fit(X, coords, **params)
    assert not hasattr(model, "net_")
    assert not hasattr(model, "history_")


def test_a_failed_refit_leaves_the_fitted_model_as_it_was(section):
    X, coords = section
    model = quick(max_epochs=2).fit(X, coords)
    expected = model.predict(X)
    with pytest.raises(ValueError, match="same point"):
        model.fit(X, np.ones_like(coords))
    np.testing.assert_array_equal(model.predict(X), expected)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"n_components": 1}, "smaller than the 2 dimensions"),
        ({"distance_weight": -1}, "distance_weight"),
        ({"distance_loss": "cube"}, "distance_loss"),
        ({"elbo_weight": "per_cell"}, "elbo_weight"),
        ({"dropout": 1.0}, "dropout"),
        ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes"),
        ({"hidden_layer_sizes": ()}, "hidden_layer_sizes"),
        ({"batch_size": 1}, "batch_size"),
        ({"device": "toaster"}, "device"),
    ],
)
def test_bad_parameters_are_named(section, params, error):
    with pytest.raises(ValueError, match=error):
        quick(**params).fit(*section)


def test_partial_fit_refuses_other_genes_and_dimensions(section):
    X, coords = section
    model = quick(max_epochs=2).fit(X, coords)
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :5], coords)
    with pytest.raises(ValueError, match="dimension"):
        model.partial_fit(X, coords[:, 0])


def test_rows_in_another_order_are_refused(tissue):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(tissue.X.toarray(), index=tissue.obs_names)
    y = pandas.DataFrame(tissue.coords, index=tissue.obs_names)
    small = DPVAESpatialRegressor(hidden_layer_sizes=(4,), n_estimators=1, max_epochs=1)
    X.columns = X.columns.astype(str)
    with pytest.raises(ValueError, match=r"index of X in another order .* pass y\.loc"):
        small.fit(X, y.iloc[::-1])
    # Rows of other names belong together by their place.
    small.fit(X, y.reset_index(drop=True))
    small.fit(X, y)
