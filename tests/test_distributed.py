"""The same search, and the same fit, on one process and on several."""

import importlib.util
import os
import socket
import subprocess
import sys
import textwrap
from copy import deepcopy

import joblib
import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from training_parts import reference

from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae._network.dpvae import DPVAE
from sklearn_dpvae._network.random import generator_on
from sklearn_dpvae._training.batches import Batches
from sklearn_dpvae._training.net import DPVAENet
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.model_selection import SpatialBlockKFold

# ------------------------------------------------------------------ many fits


@pytest.fixture(scope="module")
def search_on():
    """Run a small search by a backend of joblib; results without the times."""
    tissue = make_tissue(n_cells=150, n_genes=40, random_state=0)

    def run(**options):
        pipe = make_spatial_pipeline(
            n_estimators=2,
            hidden_layer_sizes=(8,),
            max_epochs=3,
            device="cpu",
            random_state=0,
        )
        grid = {"dpvae__distance_weight": [0.1, 1.0]}
        cv = SpatialBlockKFold(n_splits=2)
        search = GridSearchCV(pipe, grid, cv=cv, **options)
        search.fit(tissue.X, tissue.coords)
        scores = [search.cv_results_[f"split{k}_test_score"] for k in range(2)]
        return np.array(scores), search.best_params_, search.predict(tissue.X[:20])

    return run


@pytest.fixture(scope="module")
def in_one_process(search_on):
    return search_on()


def assert_equal(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    assert found[1] == expected[1]
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-4, atol=1e-6)


def test_search_with_two_jobs_finds_the_same(search_on, in_one_process):
    assert_equal(search_on(n_jobs=2), in_one_process)


@pytest.mark.slow
def test_search_on_a_dask_cluster_finds_the_same(search_on, in_one_process):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client, parallel_config(backend="dask"):
        found = search_on()
        # Not on this process: tasks were done on the cluster.
        done = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert sum(done.values()) > 0
    assert_equal(found, in_one_process)


# ------------------------------------------------------------------ one fit by two processes


def section():
    tissue = make_tissue(n_cells=150, n_genes=40, random_state=0)
    X = np.log1p(tissue.X.toarray())
    return (X - X.mean(axis=0)) / X.std(axis=0), tissue.coords


QUICK = {
    "n_estimators": 2,
    "hidden_layer_sizes": (8,),
    "batch_size": 32,
    "device": "cpu",
    "random_state": 0,
}
FITS = {
    "defaults": {"max_epochs": 40},
    # The learned scale gets no gradient here.
    "without distances": {"distance_weight": 0.0, "max_epochs": 30, "early_stopping": True},
    "masked": {"mask": "knn", "max_epochs": 3},
}
WORKER = """
    import sys
    import joblib, torch
    from accelerate import Accelerator
    from sklearn_dpvae import DPVAESpatialRegressor

    torch.set_num_threads(1)
    (X, coords), quick, fits = joblib.load(sys.argv[1])
    rank = Accelerator(cpu=True).process_index
    models = {
        name: DPVAESpatialRegressor(**quick | params).fit(X, coords)
        for name, params in fits.items()
    }
    try:
        DPVAESpatialRegressor(**quick | {"random_state": rank}).fit(X, coords)
    except ValueError as error:
        models["other seed"] = str(error)
    joblib.dump(models, sys.argv[2 + rank])
"""


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    """What each of two processes has after the same fits, trained together."""
    if importlib.util.find_spec("accelerate") is None:
        pytest.skip("needs accelerate")
    folder = tmp_path_factory.mktemp("processes")
    joblib.dump((section(), QUICK, FITS), folder / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", textwrap.dedent(WORKER), folder / "data"]
    command += [folder / "0", folder / "1"]
    # What torchrun or accelerate launch would set.
    launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | launch | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
    finally:
        for process in processes:
            process.kill()
    return [joblib.load(folder / str(rank)) for rank in range(2)]


@pytest.fixture
def as_two(monkeypatch):
    """Make one process do what two would: halves of a batch, each with noise of its own."""
    step_of_one, noise = DPVAENet.train_step_single, {}

    def half(values, k):
        return {
            name: None if value is None else torch.tensor_split(value, 2, dim=1)[k]
            for name, value in values.items()
        }

    def train_step_single(net, batch, **fit_params):
        generator = generator_on(torch.device("cpu"))
        if not net.history[:-1] and not net.history[-1]["batches"][:-1]:
            second = torch.Generator().manual_seed(generator.initial_seed() + 1)
            noise["second"] = second.get_state()
        X, y = batch
        first = step_of_one(net, (half(X, 0), half(y, 0)))
        own = generator.get_state()
        generator.set_state(noise["second"])
        second = step_of_one(net, (half(X, 1), half(y, 1)))
        noise["second"] = generator.get_state()
        generator.set_state(own)
        for parameter in net.module_.parameters():
            if parameter.grad is not None:
                parameter.grad /= 2
        mean = {name: (first[name] + second[name]) / 2 for name in ("loss", "measured")}
        return {"y_pred": first["y_pred"], **mean}

    monkeypatch.setattr(DPVAENet, "train_step_single", train_step_single)


def losses(model):
    return np.array([epoch["loss"] for epoch in model.history_])


@pytest.mark.slow
@pytest.mark.parametrize("fit", FITS)
def test_both_processes_have_the_same_model(on_two, fit):
    one, other = (models[fit] for models in on_two)
    for name, value in one.module_.state_dict().items():
        torch.testing.assert_close(value, other.module_.state_dict()[name], rtol=0, atol=0)
    X, _ = section()
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    np.testing.assert_array_equal(losses(one), losses(other))


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["defaults", "without distances"])
def test_two_processes_learn_what_one_learns_from_both_shares(on_two, as_two, fit):
    X, coords = section()
    alone = DPVAESpatialRegressor(**QUICK | FITS[fit]).fit(X, coords)
    together = on_two[0][fit]
    assert together.n_iter_ == alone.n_iter_
    np.testing.assert_allclose(losses(together), losses(alone), rtol=1e-4)
    np.testing.assert_allclose(together.predict(X), alone.predict(X), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_two_processes_reach_the_loss_of_one(on_two):
    """Pairs of half a batch, and other noise: not the same fit, but as good a one."""
    X, coords = section()
    alone = DPVAESpatialRegressor(**QUICK | FITS["defaults"]).fit(X, coords)
    together = on_two[0]["defaults"]
    # Seeds of one process differ by as much.
    assert losses(together)[-1] == pytest.approx(losses(alone)[-1], rel=0.1)


@pytest.mark.slow
def test_what_two_processes_trained_is_a_plain_model(on_two):
    model = on_two[0]["defaults"]
    assert type(model.module_) is DPVAE
    X, coords = section()
    deepcopy(model).partial_fit(X, coords)


@pytest.mark.slow
def test_processes_with_different_seeds_are_refused(on_two):
    for models in on_two:
        assert "random_state" in models["other seed"]


def test_shares_of_a_batch_are_the_batch():
    data = reference(np.arange(25, dtype=np.float32)[:, None], np.zeros((25, 2)))

    def batches():
        return Batches(data, [np.arange(25)], 8, seed=0)

    shares = zip(*(batches().share(rank, 2) for rank in range(2)), strict=True)
    for (whole, _), parts in zip(batches(), shares, strict=True):
        torch.testing.assert_close(torch.cat([part["x"] for part, _ in parts], 1), whole["x"])
    with pytest.raises(ValueError, match="Raise batch_size"):
        batches().share(0, 3)
