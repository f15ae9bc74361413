"""Bad input in bulk: a result, or an error that names the argument. `bash .ci/fuzz` makes more."""

import os
import signal

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, Phase, given, seed, settings

pytest.importorskip("pandas")
pytest.importorskip("anndata")
from fuzzing import CALLS, N_GENES, TINY, Call, Unclear, check, tissue

from sklearn_dpvae import DPVAESpatialRegressor, SpatialModel, make_spatial_pipeline, metrics
from sklearn_dpvae.datasets import align_genes
from sklearn_dpvae.decomposition import SpatialPCA
from sklearn_dpvae.preprocessing import SectionScaler
from sklearn_dpvae.reconstruction import AnchoredMDS, anchored_smacof

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")

# Here always the same few; more of others where the environment asks for them.
N_CASES = int(os.environ.get("DPVAE_FUZZ_CASES", 150))
SEED = int(os.environ.get("DPVAE_FUZZ_SEED", 0))


def test_every_answer_is_a_result_or_names_the_argument():
    complaints = []

    @seed(SEED)
    @settings(
        max_examples=N_CASES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(CALLS)
    def each(call):
        try:
            check(call)
        except Unclear as error:
            complaints.append(str(error))

    each()
    assert not complaints, "\n".join(complaints)


def a_call(run, **odd):
    return Call("call", run, {name: lambda v=value: v for name, value in odd.items()}, {"X": ()})


def raising(error):
    def run(X):
        raise error

    return run


@pytest.mark.parametrize(
    "run",
    [
        raising(ValueError("setting an array element with a sequence")),
        raising(KeyError("X")),
        raising(AssertionError("X")),
        raising(IndexError("X")),
        lambda X: np.array([1.0, np.nan]),
        lambda X: (np.ones(3), np.array(np.inf)),
    ],
)
def test_bad_answers_are_noticed(run):
    with pytest.raises(Unclear):
        check(a_call(run, X=1))


@pytest.mark.parametrize(
    "run", [raising(ValueError("X has no rows")), raising(TypeError("X: none")), lambda X: None]
)
def test_good_answers_are_none(run):
    check(a_call(run, X=1))


def test_a_half_fitted_estimator_is_noticed():
    call = a_call(raising(ValueError("X is bad")), X=1)
    call.untouched = lambda: False
    with pytest.raises(Unclear, match="half fitted"):
        check(call)


# ------------------------------------------------------ what the generator found, one by one


def test_sparse_matrices_that_point_outside_are_refused():
    """Compiled code would read and write other memory."""
    X = sp.random(30, 6, 0.5, format="csr", random_state=0)
    coords = np.random.default_rng(0).normal(size=(30, 2))
    model = DPVAESpatialRegressor(**TINY).fit(X, coords)
    for index in (600, -3):
        bad = X.copy()
        bad.indices[4] = index
        for ask in (model.predict, lambda bad: DPVAESpatialRegressor(**TINY).fit(bad, coords)):
            with pytest.raises(ValueError, match=r"X: .*(damaged|indices)"):
                ask(bad)


@pytest.mark.parametrize("bad", [np.array(2), 3, []])
def test_hidden_layers_that_are_none_are_named(bad):
    rng = np.random.default_rng(0)
    model = DPVAESpatialRegressor(**TINY | {"hidden_layer_sizes": bad})
    with pytest.raises((TypeError, ValueError), match="hidden_layer_sizes"):
        model.fit(rng.normal(size=(9, 3)), rng.normal(size=(9, 2)))


@pytest.mark.parametrize("bad", [np.array([1, 2]), "maybe", None])
def test_other_answers_to_underdetermined_are_named(bad):
    rng = np.random.default_rng(0)
    X, coords = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    model = DPVAESpatialRegressor(**TINY).fit(X, coords)
    with pytest.raises(ValueError, match='underdetermined must be "error" or "allow", got'):
        model.predict(X, underdetermined=bad)


@pytest.mark.parametrize("bad", [1, "a", None, object(), len, ("name", 3)])
def test_callbacks_that_are_none_are_named(bad):
    rng = np.random.default_rng(0)
    model = DPVAESpatialRegressor(**TINY, callbacks=[bad])
    with pytest.raises(TypeError, match="callbacks must hold skorch callbacks, got"):
        model.fit(rng.normal(size=(9, 3)), rng.normal(size=(9, 2)))


@pytest.mark.parametrize("argument", ["X", "y"])
@pytest.mark.parametrize("bad", [{}, object(), [[1, 2], [3]], "counts", iter([1])])
def test_what_is_no_array_is_named(argument, bad):
    rng = np.random.default_rng(0)
    given = {"X": rng.normal(size=(9, 3)), "y": rng.normal(size=(9, 2))} | {argument: bad}
    with pytest.raises((TypeError, ValueError), match=argument):
        DPVAESpatialRegressor(**TINY).fit(**given)


@pytest.mark.parametrize("mask", [lambda X: X, lambda X, coords, more: X, lambda: None])
def test_masks_of_the_wrong_signature_are_named(mask):
    rng = np.random.default_rng(0)
    model = DPVAESpatialRegressor(**TINY, mask=mask)
    with pytest.raises(TypeError, match=r"mask must be a function of \(X, coords\), got"):
        model.fit(rng.normal(size=(9, 3)), rng.normal(size=(9, 2)))


def test_queries_beyond_all_bounds_are_named():
    rng = np.random.default_rng(0)
    X, coords = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    model = DPVAESpatialRegressor(**TINY).fit(X, coords)
    with pytest.raises(ValueError, match="X holds values so large"):
        model.predict(X * 1e307 * 1.5)


def test_a_model_without_genes_is_named():
    with pytest.raises(ValueError, match="genes must be a list of names, got None"):
        SpatialModel(DPVAESpatialRegressor(), None)


def test_devices_that_hold_no_data_are_named():
    rng = np.random.default_rng(0)
    model = DPVAESpatialRegressor(**TINY, device="meta")
    with pytest.raises(ValueError, match="device='meta' cannot be used here"):
        model.fit(rng.normal(size=(9, 3)), rng.normal(size=(9, 2)))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_counts_beyond_whole_numbers_are_named(kind):
    """They cannot be thinned, and no measurement has them."""
    X, coords, _ = tissue()
    pipe = make_spatial_pipeline(**TINY, n_calibration_folds=None)
    with pytest.raises(ValueError, match=r"X holds counts as large as 1\..*e\+23"):
        pipe.fit(kind(X * 1e20), coords)


@pytest.mark.parametrize("bad", [np.array([1, 2]), None, "a", -1, 1.5])
def test_numbers_of_thinned_copies_are_named(bad):
    X, coords, _ = tissue()
    pipe = make_spatial_pipeline(**TINY, n_thinned=bad)
    with pytest.raises(ValueError, match="n_thinned must be 0 or more, got"):
        pipe.fit(X, coords)


@pytest.mark.parametrize("bad", [object(), iter([1]), 3])
def test_what_is_no_matrix_of_counts_is_named(bad):
    X, coords, _ = tissue()
    pipe = make_spatial_pipeline(**TINY, n_calibration_folds=None)
    for ask in (pipe.fit, pipe.fit(X, coords).partial_fit):
        with pytest.raises((TypeError, ValueError), match=r"\bX\b"):
            ask(bad, coords)


def test_anchors_that_are_rounded_to_one_point_are_named():
    _, coords, _ = tissue()
    far = (np.arange(5), coords[:5] + 1e18)
    with pytest.raises(ValueError, match=r"anchors span .* Subtract an origin from the pos"):
        AnchoredMDS().fit_transform(coords, anchors=far)


@pytest.mark.parametrize("scale", [1e300, 1e-300])
@pytest.mark.parametrize(
    ("score", "name"),
    [
        (metrics.spot_spacing, "coords"),
        (lambda coords: metrics.median_position_error(coords, tissue()[1]), "y_true"),
        (lambda coords: metrics.median_position_error(tissue()[1], coords), "y_pred"),
        (lambda coords: metrics.stress(coords, tissue()[1]), "latents"),
    ],
)
def test_positions_whose_squares_are_none_are_named(score, name, scale):
    with pytest.raises(ValueError, match=f"{name} spans .* Pass {name} in another unit"):
        score(tissue()[1] * scale)


@pytest.mark.parametrize("argument", ["genes", "reference_genes"])
def test_names_that_are_lists_are_named(argument):
    X, _, _ = tissue()
    names = {"genes": [f"g{i}" for i in range(7)], "reference_genes": ["g1", "g2"]}
    names[argument] = [["g0"], *names[argument][1:]]
    with pytest.raises(ValueError, match=f"^{argument}: "):
        align_genes(X, **names)


@pytest.mark.parametrize("argument", ["X", "y", "sections", "anchors"])
def test_hidden_values_of_masked_arrays_are_not_taken_for_measured_ones(argument):
    X, coords, _ = tissue()
    for model in (
        DPVAESpatialRegressor(**TINY),
        make_spatial_pipeline(**TINY, n_calibration_folds=None),
    ):
        plain = {"X": X, "y": coords, "sections": np.arange(24) % 2}
        whole = {name: np.ma.masked_array(values) for name, values in plain.items()}
        model.fit(**whole)
        hidden = {name: np.ma.masked_array(v, mask=v == v[5]) for name, v in plain.items()}
        if argument == "anchors":
            ask, given = model.predict, {"X": X, "anchors": (np.arange(5), hidden["y"][1:6])}
        else:
            ask, given = model.fit, whole | {argument: hidden[argument]}
        with pytest.raises(ValueError, match=f"(?s){argument[:6]}.*masked array are hidden"):
            ask(**given)


def test_counts_of_text_are_numbers():
    X, coords, _ = tissue()
    pipe = make_spatial_pipeline(**TINY, n_calibration_folds=None)
    expected = pipe.fit(X, coords).predict(X)
    found = pipe.fit(X.astype(str).astype(object), coords).predict(X)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.ptp(coords))


def test_another_number_of_rows_to_score_is_named():
    X, coords, _ = tissue()
    model = DPVAESpatialRegressor(**TINY).fit(X, coords)
    with pytest.raises(ValueError, match=r"X and y: .*inconsistent numbers of samples"):
        model.score(X[:1], coords)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.float32, 1e30), (np.float32, 1e-30), (np.float64, 1e300), (np.float64, 1e-300)],
)
def test_latents_whose_squares_are_none_are_named(dtype, scale):
    _, coords, _ = tissue()
    latents, anchors = (coords * scale).astype(dtype), (np.arange(5), coords[:5])
    with pytest.raises(ValueError, match=r"X spans .* Pass X in another unit"):
        AnchoredMDS().fit_transform(latents, anchors=anchors)
    with pytest.raises(ValueError, match=r"latents span .* Pass latents in another unit"):
        anchored_smacof(latents=latents, anchors=anchors)


def test_a_query_of_one_dimension_is_named():
    X, coords, _ = tissue()
    pipe = make_spatial_pipeline(**TINY, n_calibration_folds=None).fit(X, coords)
    with pytest.raises(ValueError, match=r"X must be a matrix of cells and genes, got .*\(7,\)"):
        pipe.predict(X[0], missing_genes=np.zeros(N_GENES, bool))


@pytest.mark.parametrize("make", [SpatialPCA, SectionScaler])
def test_half_precision_is_converted(make):
    X, coords, _ = tissue()
    X = np.minimum(X, 2000).astype(np.float16)  # whole numbers that float16 holds
    expected = make().fit(X.astype(np.float64), coords).transform(X.astype(np.float64))
    np.testing.assert_array_equal(make().fit(X, coords).transform(X), expected)
