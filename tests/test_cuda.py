"""Training and placing on a GPU. Skipped where there is none."""

import pickle

import numpy as np
import pytest
import quick_regressor
import scipy.sparse as sp
import torch
from quick_regressor import z_scored_section
from scipy.spatial import procrustes

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae._training import rows as rows_room
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.reconstruction import anchored_smacof

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def quick(**params):
    return quick_regressor.quick(**{"max_epochs": 60, "batch_size": 64, "device": "cuda"} | params)


@pytest.fixture(scope="module")
def section():
    return z_scored_section()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cuda_and_cpu_learn_alike(section, precision):
    X, coords = section
    on_gpu = quick(max_epochs=150, batch_size=None, precision=precision).fit(X, coords)
    on_cpu = quick(max_epochs=150, batch_size=None, device="cpu").fit(X, coords)
    assert on_gpu.score(X, coords) > 0.8 * on_cpu.score(X, coords)
    pickle.loads(pickle.dumps(on_gpu)).predict(X)


def test_a_fit_on_a_gpu_can_be_repeated(section):
    X, coords = section
    first, second = (quick().fit(X, coords).predict(X) for _ in range(2))
    # Sums on a GPU have no fixed order.
    np.testing.assert_allclose(first, second, atol=0.05 * coords.std())


@pytest.mark.parametrize("room", [np.inf, 0.0], ids=["on the device", "on the host"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_dense_and_sparse_learn_alike_wherever_they_are(section, monkeypatch, room, form):
    X, coords = section
    X = np.where(X > 0.5, X, 0).astype(np.float32)
    expected = quick().fit(X, coords).predict(X)
    monkeypatch.setattr(rows_room, "free_memory", lambda device: room)
    found = quick().fit(form(X), coords).predict(form(X))
    assert procrustes(expected, found)[2] < 0.02


@pytest.mark.parametrize(
    "params", [{"likelihood": "zinb"}, {"early_stopping": True}, {"mask": "knn"}]
)
def test_other_objectives_train_on_a_gpu(section, params):
    X, coords = section
    counts = {}
    if "likelihood" in params:
        counts = {"counts": np.random.default_rng(0).poisson(3.0, X.shape)}
    model = quick(max_epochs=10, **params).fit(X, coords, **counts)
    assert np.isfinite(model.predict(X)).all()


def test_anchors_and_partial_fit_after_a_fit_on_a_gpu(section):
    X, coords = section
    known = np.arange(0, 240, 6)
    model = quick().fit(X[:200], coords[:200])
    placed = model.predict(X, anchors=(known, coords[known]), adapt=True)
    np.testing.assert_allclose(placed[known], coords[known])
    model.partial_fit(X[200:], coords[200:])
    assert np.isfinite(model.predict(X)).all()


def test_a_step_does_not_wait_for_the_gpu(section):
    from benchmarks.device import CountStep

    X, coords = section
    counted = CountStep()
    quick(max_epochs=1, callbacks=[counted]).fit(sp.csr_matrix(X), coords)
    assert counted.waits == 0


@pytest.mark.parametrize("given", ["latents", "dissimilarities"])
def test_smacof_on_a_gpu_is_that_on_the_cpu(given):
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(200, 4))
    table = latents
    if given == "dissimilarities":
        table = np.linalg.norm(latents[:, None] - latents[None], axis=2)
    on_gpu, on_cpu = (
        anchored_smacof(**{given: table}, device=device) for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(on_gpu.stress, on_cpu.stress, rtol=1e-6)
    assert procrustes(on_gpu.embedding, on_cpu.embedding)[2] < 1e-6


def test_the_pipeline_places_counts_on_a_gpu():
    tissue = make_tissue(n_cells=400, n_genes=80, random_state=2)
    some = np.arange(400) % 4 > 0
    scores = [
        make_spatial_pipeline(device=device, random_state=0)
        .fit(tissue.X[some], tissue.coords[some])
        .score(tissue.X[~some], tissue.coords[~some])
        for device in ("cuda", "cpu")
    ]
    assert scores[0] > scores[1] - 0.05
