"""The state of a training between two epochs: in memory to go back to, in a file to go on from.

Imports the network's random numbers.
"""

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from .._network.random import generator_states, set_generator_states
from .._utils.files import replacing
from .._utils.warn import warn

# Of the file. Other ones are refused.
_FORMAT = 1

# Of the columns of skorch's history, what a history of this package keeps.
NOT_KEPT = ("batches", "train_loss")

# Files of fits that are done, where more work follows them.
_DONE: ContextVar["list[CheckpointFile] | None"] = ContextVar("done", default=None)


def capture(net: Any, batches: Any) -> dict[str, Any]:
    """All that the next epochs depend on: weights, optimizer, schedule and random numbers.

    Parameters
    ----------
    net : DPVAENet
        Between two epochs.
    batches : Batches

    Returns
    -------
    dict
        Of tensors and plain values. Training on does not change it.
    """
    callbacks = dict(net.callbacks_)
    state: dict[str, Any] = {
        "weights": deepcopy(net.bare_module.state_dict()),
        "optimizer": deepcopy(net.optimizer_.state_dict()),
        "batches": batches.random_state,
        "networks": generator_states(),
        "n_epochs": len(net.history),
    }
    if "lr_schedule" in callbacks:
        schedule = callbacks["lr_schedule"]
        state["schedule"] = deepcopy(schedule.lr_scheduler_.state_dict()), schedule.batch_idx_
    if "held_out" in callbacks:
        state["held_out"] = callbacks["held_out"].state
    return state


def restore(net: Any, batches: Any, state: dict[str, Any]) -> None:
    """Bring a net to a state that `capture` returned; epochs after it are forgotten.

    Parameters
    ----------
    net : DPVAENet
        Initialized, after "on_train_begin".
    batches : Batches
    state : dict
    """
    callbacks = dict(net.callbacks_)
    state = deepcopy(state)
    net.bare_module.load_state_dict(state["weights"])
    net.optimizer_.load_state_dict(state["optimizer"])
    batches.random_state = state["batches"]
    set_generator_states(state["networks"])
    del net.history[state["n_epochs"] :]
    if "schedule" in state:
        schedule = callbacks["lr_schedule"]
        of_torch, schedule.batch_idx_ = state["schedule"]
        schedule.lr_scheduler_.load_state_dict(of_torch)
    if "held_out" in state:
        callbacks["held_out"].state = state["held_out"]


class CheckpointFile:
    """Where a training is kept, so that it can go on after a crash.

    Parameters
    ----------
    path : path-like
    interval : float
        Seconds between two writes.
    fingerprint : str
        Of the data and the settings.
    seed : int or None
        Of the fit. None takes that of the file, if there is one.

    Attributes
    ----------
    seed : int or None
    found : dict or None
        What the file held: "history", "finished" and the state of the training.
    keep : bool
        Whether the file is to outlive the fit, because it was interrupted.

    Raises
    ------
    ValueError
        If the file is none of this package, is damaged, or belongs to another fit.
    OSError
        If the folder is not there or cannot be written to.
    """

    def __init__(
        self,
        path: "str | os.PathLike[str]",
        interval: float,
        fingerprint: str,
        seed: int | None,
    ):
        self.path = Path(path)
        self.interval = interval
        self.fingerprint = fingerprint
        self.seed = seed
        self.keep = False
        self._written = time.monotonic()
        self._check_folder()
        self.found = self._read() if self.path.exists() else None

    def _check_folder(self) -> None:
        """Find out before the fit whether the file can be written."""
        folder = self.path.absolute().parent
        if self.path.is_dir():
            raise IsADirectoryError(f"checkpoint={str(self.path)!r} is a folder; name a file.")
        if not folder.is_dir():
            raise FileNotFoundError(
                f"checkpoint={str(self.path)!r}: there is no folder {folder}. Make it first."
            )
        if not os.access(folder, os.W_OK):
            raise PermissionError(
                f"checkpoint={str(self.path)!r}: the folder {folder} cannot be written to."
            )

    def _read(self) -> dict[str, Any]:
        given = io.BytesIO(self.path.read_bytes())
        try:
            # Tensors and plain values only: a file cannot run code.
            content = torch.load(given, map_location="cpu", weights_only=True)
            known = {"format", "fingerprint", "seed", "history", "finished", "state"}
            if not isinstance(content, dict) or content.keys() != known:
                raise ValueError("its parts are others")
            content["history"] = json.loads(content["history"])
        except Exception as error:  # Damaged files raise nearly anything.
            raise ValueError(
                f"checkpoint={str(self.path)!r} is no checkpoint of this package, or is damaged. "
                "Name another file; or delete this one, if it is a checkpoint, to start anew."
            ) from error
        own = (_FORMAT, self.fingerprint, content["seed"] if self.seed is None else self.seed)
        if (content["format"], content["fingerprint"], content["seed"]) != own:
            raise ValueError(
                f"checkpoint={str(self.path)!r} belongs to another fit: of other data, parameters "
                "or versions. Name another file, or delete this one to start anew. If nothing "
                "was changed: pass an integer as random_state of every step, so that the data "
                "are the same again."
            )
        self.seed = content["seed"]
        return content

    def write(self, net: Any, state: dict[str, Any], *, finished: bool = False) -> None:
        """Write a state, in one piece or not at all. A file that cannot be written costs no fit.

        Warns
        -----
        RuntimeWarning
            If it cannot be written.
        """
        self._written = time.monotonic()
        rows = [
            {name: value for name, value in row.items() if name not in NOT_KEPT}
            for row in list(net.history)[: state["n_epochs"]]
        ]
        content = io.BytesIO()
        torch.save(
            {
                "format": _FORMAT,
                "fingerprint": self.fingerprint,
                "seed": self.seed,
                "history": json.dumps(rows, default=str),
                "finished": finished,
                "state": state,
            },
            content,
        )
        try:
            # Always the same name, so that many crashes leave one scratch file.
            with replacing(self.path, scratch=self.path.name + ".part") as scratch:
                scratch.write_bytes(content.getbuffer())
        except OSError as error:
            warn(
                f"cannot write checkpoint={str(self.path)!r} ({error.strerror or error}). The fit "
                "goes on without it and tries again later.",
                RuntimeWarning,
            )

    @property
    def due(self) -> bool:
        """Whether the last write is long enough ago."""
        return time.monotonic() - self._written >= self.interval

    def close(self) -> None:
        """Delete the file after the fit, unless more work follows."""
        done = _DONE.get()
        if done is not None:
            done.append(self)
        elif not self.keep:
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def keeping_checkpoints() -> Iterator[None]:
    """A block in which work follows the fits: their files are deleted at its end, if it succeeds.

    A fit that is repeated after a crash then takes its weights from there.
    """
    done: list[CheckpointFile] = []
    token = _DONE.set(done)
    try:
        yield
    finally:
        _DONE.reset(token)
    for file in done:
        file.close()


def fingerprint(*values: Any) -> str:
    """Equal for equal values; arrays go in with shape and type, whatever their layout.

    Parameters
    ----------
    *values : arrays, sparse matrices, tensors, objects of these, or what `repr` tells apart

    Returns
    -------
    str
    """
    digest = hashlib.blake2b(digest_size=16)

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().numpy()
        if sp.issparse(value):
            digest.update(b"csr")
            for part in (value.data, value.indices, value.indptr, np.asarray(value.shape)):
                add(part)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            digest.update(f"{value.shape}{value.dtype}".encode())
            digest.update(np.ascontiguousarray(value).view(np.uint8).data)
        elif isinstance(value, np.ndarray | list | tuple):
            digest.update(f"{len(value)}".encode())
            for item in value:
                add(item)
        elif hasattr(value, "__dict__"):
            add(sorted(vars(value).items()))
        else:
            digest.update(repr(value).encode() + b"\0")

    add(values)
    return digest.hexdigest()
