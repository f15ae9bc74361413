"""A fit that is killed, interrupted, or cannot write loses nothing that it had learned."""

import errno
import gzip
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score
from skorch.callbacks import Callback

import sklearn_dpvae
from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae._training import checkpoint
from sklearn_dpvae._utils import files
from sklearn_dpvae.cli import main
from sklearn_dpvae.datasets import read_sections

SMALL = {"n_estimators": 2, "hidden_layer_sizes": (8,), "max_epochs": 8, "random_state": 0}


def refuse(**_):
    raise PermissionError(errno.EACCES, "Permission denied")


class CrashError(Exception):
    pass


class At(Callback):
    """Raise in the epoch after so many."""

    def __init__(self, n_epochs, error):
        self.n_epochs = n_epochs
        self.error = error

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == self.n_epochs + 1:
            raise self.error


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    coords = rng.normal(size=(200, 2))
    X = coords @ rng.normal(size=(2, 12)) + 0.1 * rng.normal(size=(200, 12))
    return X.astype(np.float32), coords


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.module_.parameters()).detach().numpy()


def assert_same_fit(found, expected, X):
    assert weights(found).tobytes() == weights(expected).tobytes()
    for a, b in zip(
        found.predict(X, return_std=True), expected.predict(X, return_std=True), strict=True
    ):
        assert a.tobytes() == b.tobytes()
    columns = found.history_[0].keys() - {"dur"}
    assert [[row[c] for c in columns] for row in found.history_] == [
        [row[c] for c in columns] for row in expected.history_
    ]


# ------------------------------------------------------------------------ going on from a file


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"early_stopping": True, "patience": 2, "max_epochs": 15},
        {"lr_schedule": "constant", "weight_decay": 0.0},
        {"mask": "knn"},
        {"dropout": 0.0, "batch_size": None},
    ],
    ids=lambda options: "-".join(options) or "default",
)
@pytest.mark.parametrize("n_epochs", [0, 1, 6])
def test_a_fit_goes_on_to_the_same_bits(cells, tmp_path, options, n_epochs):
    X, coords = cells
    file = tmp_path / "fit.ckpt"
    expected = DPVAESpatialRegressor(**SMALL | options).fit(X, coords)
    model = DPVAESpatialRegressor(
        **SMALL | options,
        checkpoint=file,
        checkpoint_interval=0,
        callbacks=[At(n_epochs, CrashError)],
    )
    with pytest.raises(CrashError):
        model.fit(X, coords)
    assert not hasattr(model, "fitted_")
    assert file.exists() == (n_epochs > 0)
    model.set_params(callbacks=None).fit(X, coords)
    assert_same_fit(model, expected, X)
    assert list(tmp_path.iterdir()) == []


def test_epochs_that_are_in_the_file_are_not_run_again(cells, tmp_path):
    seen = []

    class Count(Callback):
        def on_epoch_begin(self, net, **kwargs):
            seen.append(len(net.history))

    options = SMALL | {"checkpoint": str(tmp_path / "fit.ckpt"), "checkpoint_interval": 0}
    model = DPVAESpatialRegressor(**options, callbacks=[Count(), At(5, CrashError)])
    with pytest.raises(CrashError):
        model.fit(*cells)
    del seen[:]
    model.set_params(callbacks=[Count()]).fit(*cells)
    assert len(seen) == 3


def test_without_a_seed_the_file_brings_its_own(cells, tmp_path):
    options = SMALL | {"random_state": None, "checkpoint": tmp_path / "fit.ckpt"}
    model = DPVAESpatialRegressor(**options, checkpoint_interval=0, callbacks=[At(3, CrashError)])
    with pytest.raises(CrashError):
        model.fit(*cells)
    model.set_params(callbacks=None).fit(*cells)
    again = DPVAESpatialRegressor(**SMALL).set_params(random_state=None)
    assert len(model.history_) == 8
    assert model.fitted_.seed != again.fit(*cells).fitted_.seed


def test_partial_fit_goes_on_too(cells, tmp_path):
    X, coords = cells
    expected = DPVAESpatialRegressor(**SMALL).fit(X, coords).partial_fit(X[:80], coords[:80])
    model = DPVAESpatialRegressor(**SMALL).fit(X, coords)
    model.set_params(
        checkpoint=tmp_path / "fit.ckpt", checkpoint_interval=0, callbacks=[At(3, CrashError)]
    )
    with pytest.raises(CrashError):
        model.partial_fit(X[:80], coords[:80])
    model.set_params(callbacks=None).partial_fit(X[:80], coords[:80])
    assert_same_fit(model, expected, X)


@pytest.mark.parametrize(
    "change",
    [
        lambda X, y, model: (X + 1, y),
        lambda X, y, model: (X, y * 2),
        lambda X, y, model: (X[::-1], y[::-1]),
        lambda X, y, model: model.set_params(lr=0.004) and (X, y),
        lambda X, y, model: model.set_params(max_epochs=9) and (X, y),
        lambda X, y, model: model.set_params(mask="knn") and (X, y),
        lambda X, y, model: model.set_params(random_state=1) and (X, y),
    ],
    ids=["X", "y", "order", "lr", "epochs", "mask", "seed"],
)
def test_the_file_of_another_fit_is_refused(cells, tmp_path, change):
    file = tmp_path / "fit.ckpt"
    options = SMALL | {"checkpoint": file, "checkpoint_interval": 0}
    model = DPVAESpatialRegressor(**options, callbacks=[At(3, CrashError)])
    with pytest.raises(CrashError):
        model.fit(*cells)
    before = file.read_bytes()
    model.set_params(callbacks=None)
    with pytest.raises(ValueError, match=r"checkpoint='.*fit\.ckpt' belongs to another fit"):
        model.fit(*change(*cells, model))
    assert file.read_bytes() == before


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "pickle", "bits"])
def test_damaged_files_are_named(cells, tmp_path, damage):
    file = tmp_path / "fit.ckpt"
    options = SMALL | {"checkpoint": file, "checkpoint_interval": 0}
    model = DPVAESpatialRegressor(**options, callbacks=[At(3, CrashError)])
    with pytest.raises(CrashError):
        model.fit(*cells)
    content = file.read_bytes()
    torch.save({"format": Callback}, tmp_path / "other")
    file.write_bytes(
        {
            "empty": b"",
            "text": b"not a checkpoint",
            "truncated": content[: len(content) // 2],
            "pickle": (tmp_path / "other").read_bytes(),
            "bits": content[:200] + bytes(255 - byte for byte in content[200:400]) + content[400:],
        }[damage]
    )
    model.set_params(callbacks=None)
    with pytest.raises(ValueError, match=r"fit\.ckpt' is no checkpoint .* or is damaged.*delete"):
        model.fit(*cells)


def test_a_file_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    torch.save({"format": Trap()}, tmp_path / "fit.ckpt")
    with pytest.raises(ValueError, match="no checkpoint"):
        checkpoint.CheckpointFile(tmp_path / "fit.ckpt", 0, "", 0)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", IsADirectoryError, "is a folder"),
        ("none/fit.ckpt", FileNotFoundError, "there is no folder .*none"),
    ],
)
def test_places_that_cannot_be_written_are_found_before_the_fit(
    cells, tmp_path, path, error, message
):
    model = DPVAESpatialRegressor(**SMALL, checkpoint=str(tmp_path / path))
    with pytest.raises(error, match=f"checkpoint=.*{message}"):
        model.fit(*cells)


def test_a_full_disk_costs_no_fit(cells, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected = DPVAESpatialRegressor(**SMALL).fit(*cells)
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    model = DPVAESpatialRegressor(**SMALL, checkpoint=tmp_path / "fit.ckpt", checkpoint_interval=0)
    with pytest.warns(RuntimeWarning, match=r"cannot write checkpoint='.*fit\.ckpt' \(No space"):
        model.fit(*cells)
    assert_same_fit(model, expected, cells[0])
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_replaced_as_a_whole(cells, tmp_path, monkeypatch):
    """An older checkpoint stays until the newer one is complete."""
    file = tmp_path / "fit.ckpt"
    options = SMALL | {"checkpoint": file, "checkpoint_interval": 0}
    model = DPVAESpatialRegressor(**options, callbacks=[At(3, CrashError)])
    with pytest.raises(CrashError):
        model.fit(*cells)
    whole = file.read_bytes()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.set_params(callbacks=None).fit(*cells)
    assert file.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [file]


# ----------------------------------------------------------------------------------- SIGKILL


def pipeline_of(tissue, folder):
    pipe = make_spatial_pipeline(
        n_estimators=2,
        hidden_layer_sizes=(8,),
        max_epochs=25,
        batch_size=32,
        n_spatial_components=8,
        n_calibration_folds=2,
        random_state=0,
        checkpoint=folder / "fit.ckpt",
        checkpoint_interval=0,
    )
    return pipe.fit(tissue.X, tissue.coords, sections=tissue.sections)


def answers_of(tissue, folder):
    pipe = pipeline_of(tissue, folder)
    coords, std = pipe.predict(tissue.X, sections=tissue.sections, return_std=True)
    return weights(pipe[-1]), coords, std


def answer_into(tissue, folder):
    np.savez(folder / "answers.npz", *answers_of(tissue, folder))


def killed_and_resumed(tissue, folder, expected, duration, n_kills, rng):
    """Number of fits, each killed at a random moment and begun again, that end at the same."""
    fork = multiprocessing.get_context("fork")
    n_same = 0
    for _ in range(n_kills):
        child = fork.Process(target=answer_into, args=(tissue, folder))
        child.start()
        time.sleep(rng.uniform(0, duration))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        (folder / "answers.npz").unlink(missing_ok=True)
        found = answers_of(tissue, folder)
        n_same += all(a.tobytes() == b.tobytes() for a, b in zip(found, expected, strict=True))
        assert not (folder / "fit.ckpt").exists()
    return n_same


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("n_kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_fits_end_at_the_same_bits(tissue, tmp_path, n_kills):
    """At random moments of selection, components, training and calibration alike."""
    start = time.perf_counter()
    expected = answers_of(tissue, tmp_path)
    duration = time.perf_counter() - start
    rng = np.random.default_rng(n_kills)
    same = killed_and_resumed(tissue, tmp_path, expected, duration, n_kills, rng)
    assert same == n_kills


def test_a_crash_in_the_calibration_costs_no_training(tissue, tmp_path, monkeypatch):
    expected = answers_of(tissue, tmp_path)

    def crash(*args):
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr("sklearn_dpvae.pipeline._pipeline.cross_fit", crash)
        with pytest.raises(CrashError):
            pipeline_of(tissue, tmp_path)
    assert (tmp_path / "fit.ckpt").exists()
    trained = []
    monkeypatch.setattr(
        "sklearn_dpvae._training.net.DPVAENet.run_single_epoch",
        record_and_call(trained, "sklearn_dpvae._training.net.DPVAENet.run_single_epoch"),
    )
    found = answers_of(tissue, tmp_path)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(found, expected, strict=True))
    # Only the networks of the folds, which are single.
    assert set(trained) == {1}
    assert list(tmp_path.iterdir()) == []


def record_and_call(numbers, name):
    from sklearn_dpvae._training.net import DPVAENet

    original = DPVAENet.run_single_epoch

    def wrapped(self, *args, **kwargs):
        if args[0] is not None:
            numbers.append(self.bare_module.n_members)
        return original(self, *args, **kwargs)

    return wrapped


@pytest.mark.filterwarnings("ignore:section.h5ad is taken for one section")
def test_the_command_goes_on_from_its_checkpoint(tissue, tmp_path, monkeypatch, capsys):
    anndata = pytest.importorskip("anndata")
    monkeypatch.chdir(tmp_path)
    adata = anndata.AnnData(tissue.X.astype(np.float32), obsm={"spatial": tissue.coords})
    adata.write_h5ad("section.h5ad")
    command = ["fit", "section.h5ad", "-q", "--set", "max_epochs=3", "--set", "n_estimators=2"]
    command += ["--checkpoint", "fit.ckpt", "--set", "checkpoint_interval=0", "-o"]
    assert main([*command, "whole.dpvae"]) == 0

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sklearn_dpvae.pipeline._pipeline.cross_fit", interrupted)
        assert main([*command, "resumed.dpvae"]) == 130
    assert (tmp_path / "fit.ckpt").exists()
    assert main([*command, "resumed.dpvae"]) == 0
    assert not (tmp_path / "fit.ckpt").exists()
    answers = []
    for name in ("whole", "resumed"):
        assert main(["predict", f"{name}.dpvae", "section.h5ad", "-q", "-o", f"{name}.csv"]) == 0
        answers.append((tmp_path / f"{name}.csv").read_bytes())
    assert answers[0] == answers[1]


# ------------------------------------------------------------------------------------ Ctrl-C


def test_an_interrupt_keeps_the_last_whole_epoch_on_request(cells):
    X, coords = cells
    model = DPVAESpatialRegressor(
        **SMALL, on_interrupt="keep", callbacks=[At(5, KeyboardInterrupt)]
    )
    with pytest.warns(RuntimeWarning, match="after 5 of 8 epochs; the model of the last"):
        model.fit(X, coords)
    assert model.n_iter_ == 5
    assert np.isfinite(model.predict(X)).all()
    # Weights are those of the fifth epoch, and not of the steps after it.
    seen = []

    class Look(Callback):
        def on_epoch_end(self, net, **kwargs):
            vector = torch.nn.utils.parameters_to_vector(net.module_.parameters())
            seen.append(vector.detach().clone().numpy())

    DPVAESpatialRegressor(**SMALL, callbacks=[Look()]).fit(X, coords)
    np.testing.assert_array_equal(weights(model), seen[4])


def test_an_interrupt_with_early_stopping_keeps_the_best_epoch(cells):
    X, coords = cells
    options = SMALL | {"max_epochs": 20, "early_stopping": True, "lr_schedule": "constant"}
    seen = []

    class Look(Callback):
        def on_epoch_end(self, net, **kwargs):
            vector = torch.nn.utils.parameters_to_vector(net.module_.parameters())
            seen.append(vector.detach().clone().numpy())

    model = DPVAESpatialRegressor(
        **options, lr=0.05, on_interrupt="keep", callbacks=[Look(), At(15, KeyboardInterrupt)]
    )
    with pytest.warns(RuntimeWarning, match="of the best epoch so far"):
        model.fit(X, coords)
    best = np.argmin([row["valid_stress"] for row in model.history_])
    np.testing.assert_array_equal(weights(model), seen[best])


@pytest.mark.parametrize(
    ("n_epochs", "on_interrupt"), [(5, "raise"), (0, "keep")], ids=["by default", "first epoch"]
)
def test_an_interrupt_is_raised(cells, tmp_path, n_epochs, on_interrupt):
    model = DPVAESpatialRegressor(
        **SMALL, on_interrupt=on_interrupt, callbacks=[At(n_epochs, KeyboardInterrupt)]
    )
    with pytest.raises(KeyboardInterrupt):
        model.fit(*cells)
    assert not hasattr(model, "fitted_")


@pytest.mark.parametrize("on_interrupt", ["raise", "keep"])
def test_an_interrupt_while_held_out_cells_are_looked_at(cells, monkeypatch, on_interrupt):
    """It is Ctrl-C then, too, and no wish of a callback to stop."""
    from sklearn_dpvae._training import callbacks

    looks, measure = [], callbacks.relative_stress

    def interrupted(*args):
        looks.append(None)
        if len(looks) == 6:
            raise KeyboardInterrupt
        return measure(*args)

    monkeypatch.setattr(callbacks, "relative_stress", interrupted)
    model = DPVAESpatialRegressor(**SMALL, early_stopping=True, on_interrupt=on_interrupt)
    if on_interrupt == "raise":
        with pytest.raises(KeyboardInterrupt):
            model.fit(*cells)
        assert not hasattr(model, "fitted_")
    else:
        with pytest.warns(RuntimeWarning, match="interrupted after 5 of 8 epochs"):
            model.fit(*cells)
        assert model.n_iter_ == 5


@pytest.mark.parametrize("on_interrupt", ["raise", "keep"])
def test_an_exit_writes_what_there_is(cells, tmp_path, on_interrupt):
    """As from a handler of SIGTERM; the process ends in any case."""
    X, coords = cells
    expected = DPVAESpatialRegressor(**SMALL).fit(X, coords)
    options = SMALL | {"checkpoint": tmp_path / "fit.ckpt", "on_interrupt": on_interrupt}
    model = DPVAESpatialRegressor(**options, callbacks=[At(5, SystemExit)])
    with pytest.raises(SystemExit):
        model.fit(X, coords)
    content = torch.load(tmp_path / "fit.ckpt", weights_only=True)
    assert len(json.loads(content["history"])) == 5
    model.set_params(callbacks=None).fit(X, coords)
    assert_same_fit(model, expected, X)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.filterwarnings("ignore:section.h5ad is taken for one section")
def test_sigterm_ends_the_command_in_order(tissue, tmp_path, monkeypatch, capsys):
    """The last whole epoch is in the checkpoint, though its next write was not due."""
    anndata = pytest.importorskip("anndata")
    monkeypatch.chdir(tmp_path)
    adata = anndata.AnnData(tissue.X.astype(np.float32), obsm={"spatial": tissue.coords})
    adata.write_h5ad("section.h5ad")
    command = ["fit", "section.h5ad", "-q", "--set", "max_epochs=4", "--set", "n_estimators=2"]
    command += ["--checkpoint", "fit.ckpt", "-o"]
    assert main([*command, "whole.dpvae"]) == 0
    capsys.readouterr()

    from sklearn_dpvae._training.net import DPVAENet

    usual, run_epoch = signal.getsignal(signal.SIGTERM), DPVAENet.run_single_epoch

    def asked_to_end(self, *args, **kwargs):
        if len(self.history) == 3 and args[0] is not None:
            os.kill(os.getpid(), signal.SIGTERM)
        run_epoch(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(DPVAENet, "run_single_epoch", asked_to_end)
        assert main([*command, "resumed.dpvae"]) == 143
    assert "terminated" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is usual
    content = torch.load(tmp_path / "fit.ckpt", weights_only=True)
    assert len(json.loads(content["history"])) == 2
    assert main([*command, "resumed.dpvae"]) == 0
    X = adata.X.toarray()
    whole, resumed = (sklearn_dpvae.load(f"{name}.dpvae") for name in ("whole", "resumed"))
    np.testing.assert_array_equal(resumed.pipeline.predict(X), whole.pipeline.predict(X))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["resumed.dpvae", "section.h5ad", "whole.dpvae"]


def test_an_interrupt_in_a_search_is_raised(cells):
    model = DPVAESpatialRegressor(
        **SMALL, on_interrupt="keep", callbacks=[At(5, KeyboardInterrupt)]
    )
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(model, *cells, cv=2)


def test_an_interrupt_writes_what_there_is(cells, tmp_path):
    X, coords = cells
    expected = DPVAESpatialRegressor(**SMALL).fit(X, coords)
    model = DPVAESpatialRegressor(
        **SMALL,
        checkpoint=tmp_path / "fit.ckpt",
        on_interrupt="keep",
        callbacks=[At(5, KeyboardInterrupt)],
    )
    with pytest.warns(RuntimeWarning, match="interrupted after 5"):
        model.fit(X, coords)
    content = torch.load(tmp_path / "fit.ckpt", weights_only=True)
    assert len(json.loads(content["history"])) == 5
    model.set_params(callbacks=None).fit(X, coords)
    assert_same_fit(model, expected, X)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_in_the_calibration_keeps_the_model(tissue, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklearn_dpvae.pipeline._pipeline.cross_fit", interrupted)
    pipe = make_spatial_pipeline(**SMALL)
    with pytest.raises(KeyboardInterrupt):
        pipe.fit(tissue.X, tissue.coords)
    pipe.set_params(dpvae__on_interrupt="keep")
    with pytest.warns(RuntimeWarning, match="calibration by folds was interrupted"):
        pipe.fit(tissue.X, tissue.coords)
    assert np.isfinite(pipe.predict(tissue.X)).all()


# ------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("size", [None, 10_000], ids=["closed", "full"])
@pytest.mark.filterwarnings("ignore:section.h5ad is taken for one section")
def test_a_result_that_cannot_be_written_is_named(tissue, tmp_path, monkeypatch, capfd, size):
    """The disk is full in the middle of a file, by a limit that the system puts on its size."""
    resource = pytest.importorskip("resource")
    anndata = pytest.importorskip("anndata")
    monkeypatch.chdir(tmp_path)
    adata = anndata.AnnData(tissue.X.astype(np.float32), obsm={"spatial": tissue.coords})
    adata.write_h5ad("section.h5ad")
    options = ["--set", "max_epochs=1", "--set", "n_estimators=1"]
    assert main(["fit", "section.h5ad", "-q", *options, "-o", "model.dpvae"]) == 0
    before = sorted(tmp_path.iterdir())
    if size is None:
        (tmp_path / "closed").mkdir()
        before.append(tmp_path / "closed")
        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
        output = "closed/answer.h5ad"
    else:
        output = "answer.h5ad"
        usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        status = main(["predict", "model.dpvae", "section.h5ad", "-q", "-o", output])
    finally:
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, usual)
    assert status == 2
    assert output in capfd.readouterr().err
    assert sorted(tmp_path.iterdir()) == sorted(before)


@pytest.fixture
def small_files():
    """No file can become larger than 10 kB, as on a full disk."""
    resource = pytest.importorskip("resource")
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, usual)


@pytest.fixture
def packed_section(tissue, tmp_path):
    anndata = pytest.importorskip("anndata")
    adata = anndata.AnnData(tissue.X.astype(np.float32), obsm={"spatial": tissue.coords})
    adata.write_h5ad(tmp_path / "section.h5ad")
    packed = tmp_path / "section.h5ad.gz"
    packed.write_bytes(gzip.compress((tmp_path / "section.h5ad").read_bytes()))
    return packed


def test_a_disk_too_small_to_unpack_is_no_damage(packed_section, small_files):
    with pytest.raises(OSError, match=r"File too large while .*section\.h5ad\.gz is unpacked"):
        read_sections(packed_section)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("as_json", [True, False])
def test_output_that_cannot_be_written_is_named(as_json):
    full = os.open("/dev/full", os.O_WRONLY)
    code = "from argparse import Namespace; from sklearn_dpvae.cli._output import result\n"
    code += f"result(Namespace(json={as_json}, quiet=False), 'found', disparity=0.1)"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(full)
    assert done.returncode
    assert "No space left on device on standard output" in done.stderr


def test_progress_says_how_long_is_left(cells, tmp_path, capsys):
    options = SMALL | {"verbose": 1, "checkpoint": tmp_path / "f.ckpt", "checkpoint_interval": 0}
    model = DPVAESpatialRegressor(**options, callbacks=[At(5, CrashError)])
    with pytest.raises(CrashError):
        model.fit(*cells)
    capsys.readouterr()
    model.set_params(callbacks=None).fit(*cells)
    bar = capsys.readouterr().err
    assert "8/8" in bar
    assert "<" in bar  # elapsed<left
    assert "1/8" not in bar
