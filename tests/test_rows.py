"""Rows of a matrix as tensors: the same numbers wherever the matrix lives, and nothing waited for.

No GPU is needed. Tensors of the device "meta" have shapes but no values, so that a step which
read one, or mixed devices, would fail on it as it would make a GPU wait.
"""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_parts import objective, reference, training

from sklearn_dpvae._network.dpvae import DPVAE
from sklearn_dpvae._training import rows as rows_room
from sklearn_dpvae._training.batches import Batches
from sklearn_dpvae._training.loop import build_net
from sklearn_dpvae._training.rows import CompressedRows, DenseRows, HostRows, rows_of


def sparse(density=0.3, index=np.int32):
    X = sp.random(40, 12, density=density, dtype=np.float32, random_state=0).toarray()
    X[7] = 0
    X = sp.csr_matrix(X)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    return X


INDEX = np.random.default_rng(0).integers(0, 40, (3, 9))
INDEX[0, :2] = 7  # a row without values, and twice the same


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_compressed_rows_are_those_of_the_matrix(density, index):
    X = sparse(density, index)
    for part in (X.data, X.indices, X.indptr):
        part.setflags(write=False)  # as joblib's memory maps are
    rows = CompressedRows(X, "cpu").take(INDEX, torch.from_numpy(INDEX))
    assert rows.dtype == torch.float32
    np.testing.assert_array_equal(rows.numpy(), X.toarray()[INDEX])


def test_values_given_twice_are_added_up_in_a_copy():
    twice = sp.csr_matrix(
        (np.array([1.0, 2.0, 4.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 3)
    )
    index = np.array([[0, 1]])
    rows = CompressedRows(twice, "cpu").take(index, torch.from_numpy(index))
    assert rows.tolist() == [[[0, 3, 0], [4, 0, 0]]]
    assert twice.nnz == 3


@pytest.mark.parametrize("kind", ["csr", "float32", "float64"])
def test_every_way_gives_the_same_rows(kind):
    X = sparse()
    given = X if kind == "csr" else X.toarray().astype(kind)
    position = torch.from_numpy(INDEX)
    expected = torch.from_numpy(X.toarray()[INDEX])
    for rows in (rows_of(given, "cpu"), HostRows(given, "cpu")):
        torch.testing.assert_close(rows.take(INDEX, position), expected, rtol=0, atol=0)


def test_sparse_rows_of_the_host_travel_as_they_are(monkeypatch):
    """Sent to a device, a batch is its values; it is made dense there."""
    X = sparse()
    sent = []
    monkeypatch.setattr(rows_room, "send_batch", lambda x, device: sent.append(x) or x.to(device))
    rows = HostRows(X, "meta").take(INDEX, torch.from_numpy(INDEX).to("meta"))
    assert rows.shape == (3, 9, 12)
    assert rows.is_meta
    part = X[INDEX.ravel()]
    sizes = [x.numel() for x in sent]
    assert sizes == [INDEX.size, INDEX.size, part.nnz, part.nnz]


@pytest.mark.parametrize("kind", ["csr", "dense"])
def test_what_travels_is_float32(monkeypatch, kind):
    """Half the bytes, and some devices have no float64."""
    X = sparse().astype(np.float64)
    sent = []
    monkeypatch.setattr(rows_room, "send_batch", lambda x, device: sent.append(x) or x.to(device))
    position = torch.from_numpy(INDEX).to("meta")
    HostRows(X if kind == "csr" else X.toarray(), "meta").take(INDEX, position)
    CompressedRows(X, "meta", send=rows_room.send_batch)
    assert torch.float64 not in {x.dtype for x in sent}


def test_another_device_holds_the_matrix_if_there_is_room(monkeypatch):
    X = sparse()
    assert isinstance(rows_of(X, "meta"), CompressedRows)
    assert isinstance(rows_of(X.toarray(), "meta"), DenseRows)
    assert rows_of(X.toarray().astype(np.float64), "meta").X.dtype == torch.float32
    monkeypatch.setattr(rows_room, "free_memory", lambda device: 100)
    assert isinstance(rows_of(X, "meta"), HostRows)
    assert isinstance(rows_of(X.toarray(), "meta"), HostRows)


def net_on_meta(module, objective, batches):
    settings = training(device="meta")
    net = build_net(module, objective, settings, n_epochs=1, n_batches=batches.n_batches)
    return net.initialize()


@pytest.mark.parametrize("counts", [False, True], ids=["gaussian", "counts"])
@pytest.mark.parametrize("kind", ["csr", "dense"])
@pytest.mark.parametrize("room", [np.inf, 100], ids=["held", "sent"])
def test_a_step_on_a_device_neither_waits_nor_fetches(monkeypatch, kind, counts, room):
    monkeypatch.setattr(rows_room, "free_memory", lambda device: room)
    X = sparse() if kind == "csr" else sparse().toarray()
    data = reference(
        X,
        np.random.default_rng(0).normal(size=(40, 2)),
        codes=np.arange(40) % 2,
        counts=sparse() if counts else None,
    )
    batches = Batches(data, [np.arange(32), np.arange(8, 40)], 16, seed=0, device="meta")
    module = DPVAE(12, 2, 2, likelihood="nb" if counts else "gaussian", dropout=0.3).to("meta")
    net = net_on_meta(module, objective(n_sections=2), batches)
    steps = [net.train_step_single(batch) for batch in batches]
    assert len(steps) == 2
    assert {step["measured"].shape for step in steps} == {(5, 2)}
    assert module.log_scale.grad.is_meta
    with pytest.raises(RuntimeError, match="item"):
        steps[0]["loss"].item()


class Launches(TorchDispatchMode):
    """Counts the operations that a device would be asked for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def test_a_default_step_is_few_operations():
    """A GPU computes a step of so small nets faster than it can be asked to.

    At 4 to 8 microseconds an operation, 600 steps of 260 of them are 0.6 to 1.2 seconds.
    """
    rng = np.random.default_rng(0)
    data = reference(rng.normal(size=(400, 20)), rng.normal(size=(400, 2)))
    batches = Batches(data, [np.arange(400)] * 8, 128, seed=0, device="meta")
    module = DPVAE(20, 2, 8, dropout=0.3, input_noise=0.1).to("meta").train()
    net = net_on_meta(module, objective(n_explained=20, elbo_weight="per_gene"), batches)
    taken = iter(batches)
    net.train_step_single(next(taken))  # gradients are added up from here on
    with Launches() as launches:
        net.train_step_single(next(taken))
    assert launches.count < 290
