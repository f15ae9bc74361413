"""What a caller's process looks like is left alone, and does not change a result."""

import contextlib
import copy
import decimal
import gc
import locale
import multiprocessing
import os
import random
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

import sklearn_dpvae
from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.metrics import distance_correlation, procrustes_disparity

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def small_tissue():
    return make_tissue(200, 40, n_sections=2, random_state=0)


def a_fit(tissue):
    pipe = make_spatial_pipeline(**SMALL, n_calibration_folds=2)
    return pipe.fit(tissue.X, tissue.coords, sections=tissue.sections)


@pytest.fixture(scope="module")
def fitted(small_tissue):
    return a_fit(small_tissue)


def a_session(tissue, folder):
    """Nearly everything, once."""
    pipe = a_fit(tissue)
    coords, _ = pipe.predict(tissue.X, sections=tissue.sections, return_std=True)
    pipe.partial_fit(tissue.X, tissue.coords, sections=tissue.sections)
    pipe.predict(tissue.X, anchors=(range(8), tissue.coords[:8]))
    procrustes_disparity(tissue.coords, coords)
    distance_correlation(tissue.coords, coords)
    sklearn_dpvae.save(pipe, folder / "model.dpvae")
    sklearn_dpvae.load(folder / "model.dpvae").transform(tissue.X)
    with contextlib.suppress(ValueError):
        pipe.fit(-tissue.X, tissue.coords)


def bits(rng_state):
    return [np.asarray(part).tolist() for part in rng_state]


def global_state():
    matplotlib = pytest.importorskip("matplotlib")
    return {
        "torch's generator": torch.get_rng_state().tolist(),
        "numpy's generator": bits(np.random.get_state(legacy=True)[1:]),  # noqa: NPY002
        "python's generator": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients": torch.is_grad_enabled(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "warning filters": list(warnings.filters),
        "floating-point errors": np.geterr(),
        "print options": np.get_printoptions(),
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "decimal": str(decimal.getcontext()),
        "rcParams": dict(matplotlib.rcParams),
        "working directory": os.getcwd(),
        "threads alive": threading.active_count(),
    }


def test_global_state_is_left_alone(small_tissue, tmp_path):
    a_session(small_tissue, tmp_path)  # what is imported on the way does not count
    before = global_state()
    a_session(small_tissue, tmp_path)
    after = global_state()
    assert [name for name in before if before[name] != after[name]] == []


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def other_draws():
    state = random.getstate(), np.random.get_state(legacy=True), torch.get_rng_state()  # noqa: NPY002
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    torch.manual_seed(7)
    try:
        yield
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
        torch.set_rng_state(state[2])


@contextlib.contextmanager
def two_threads():
    torch.set_num_threads(2)
    try:
        with threadpool_limits(2):
            yield
    finally:
        torch.set_num_threads(1)


@contextlib.contextmanager
def another_locale():
    usual = locale.setlocale(locale.LC_ALL)
    for name in ("de_DE.UTF-8", "C"):
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, name)
            break
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, usual)


@pytest.mark.parametrize(
    "surroundings",
    [
        default_dtype,
        other_draws,
        another_locale,
        lambda: np.printoptions(precision=1, threshold=2),
        lambda: np.errstate(all="raise", under="ignore"),
        torch.no_grad,
        torch.inference_mode,
    ],
    ids=["dtype", "draws", "locale", "print", "errors", "no_grad", "inference"],
)
def test_surroundings_do_not_change_a_bit(small_tissue, fitted, surroundings):
    X, labels = small_tissue.X, small_tissue.sections
    expected = fitted.predict(X, sections=labels, return_std=True)
    with surroundings():
        found = a_fit(small_tissue).predict(X, sections=labels, return_std=True)
    for a, b in zip(found, expected, strict=True):
        assert a.tobytes() == b.tobytes()


def test_threads_change_the_last_bits_only(small_tissue, fitted):
    """Sums of several threads are taken in another order, but each time in the same one."""
    X, labels = small_tissue.X, small_tissue.sections
    expected = fitted.predict(X, sections=labels)
    with two_threads():
        found = a_fit(small_tissue).predict(X, sections=labels)
        again = a_fit(small_tissue).predict(X, sections=labels)
    np.testing.assert_array_equal(found, again)
    assert np.abs(found - expected).max() < 1e-6 * np.ptp(small_tissue.coords)


# --------------------------------------------------------------------------------------- load


def test_threads_get_the_serial_answers(small_tissue, fitted):
    """200 calls from 8 threads, on one model that none has asked before."""
    X = small_tissue.X
    parts = [X[start : start + 20] for start in range(0, 180, 20)]
    expected = [fitted.predict(part) for part in parts]
    fresh = copy.deepcopy(fitted)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: fresh.predict(parts[i % len(parts)]), range(200)))
    for i, coords in enumerate(found):
        np.testing.assert_array_equal(coords, expected[i % len(parts)])


def test_threads_fit_the_same_models(small_tissue, fitted):
    with ThreadPoolExecutor(3) as pool:
        models = list(pool.map(lambda _: a_fit(small_tissue), range(3)))
    X = small_tissue.X
    for model in models:
        np.testing.assert_array_equal(model.transform(X), fitted.transform(X))
        np.testing.assert_allclose(model.predict(X), fitted.predict(X), rtol=1e-9, atol=1e-9)


MODEL = None  # What workers of a pool find after a fork.


def ask(rows):
    return MODEL.predict(rows)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fitted_model_works_after_fork(small_tissue, fitted):
    global MODEL
    MODEL = fitted
    X = small_tissue.X
    parts = [X[:70], X[70:150], X[150:]]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        found = list(pool.map(ask, parts))
    for coords, part in zip(found, parts, strict=True):
        np.testing.assert_array_equal(coords, fitted.predict(part))


def test_a_fitted_model_works_in_workers_that_start_anew(small_tissue, fitted):
    """As those of a web server do, which get it by a pickle."""
    parts = [small_tissue.X[:90], small_tissue.X[90:]]
    with joblib.parallel_config(backend="loky"):
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(fitted.predict)(part) for part in parts)
    for coords, part in zip(found, parts, strict=True):
        np.testing.assert_array_equal(coords, fitted.predict(part))


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_memory_is_flat_over_200_fits():
    """A matrix that each fit keeps would be 0.4 MB, 40 MB in the second hundred."""
    rng = np.random.default_rng(0)
    coords = rng.normal(size=(100, 2))
    X = rng.normal(size=(100, 1000)).astype(np.float32)
    X[:, :2] += coords

    def one():
        model = DPVAESpatialRegressor(
            n_estimators=1, hidden_layer_sizes=(2,), max_epochs=1, random_state=0
        )
        model.fit(X, coords).predict(X)

    for _ in range(100):
        one()
    gc.collect()
    before = resident()
    for _ in range(100):
        one()
    gc.collect()
    assert resident() - before < 5e6


def test_queries_do_not_slow_down(small_tissue, fitted):
    """The 200th question takes as long as the first ones."""
    X = small_tissue.X[:50]

    def median_of(n):
        times = []
        for _ in range(n):
            start = time.thread_time()
            fitted.predict(X)
            times.append(time.thread_time() - start)
        return np.median(times)

    fitted.predict(X)
    first = median_of(15)
    median_of(170)
    assert median_of(15) < 3 * first
