"""The training loop: a net is built around a module, run, and thrown away.

Imports the net, its callbacks, the batches and the checkpoints.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import LRScheduler, PrintLog

from .._network.dpvae import DPVAE
from .._network.objective import Objective
from .._utils.warn import warn
from .batches import Batches
from .callbacks import Diverged, HeldOut, ProgressBar, RecordScale, StopTraining, comes_from
from .checkpoint import NOT_KEPT, CheckpointFile, capture, restore
from .distributed import AcceleratedNet, accelerator_for
from .net import DPVAENet

# Share of a one-cycle schedule before early stopping looks at the stress.
_HIGH_RATES = 0.5

# What becomes of the learning rate when a training diverges, once.
_LOWERED = 0.5

# What to do where it diverges again, by the term that is not finite.
_REMEDIES = {
    "reconstruction": "the reconstruction of X is infinite or NaN. Scale X, for instance by "
    "SectionScaler, lower elbo_weight",
    "kl": "the KL divergence is infinite or NaN. Lower elbo_weight or kl_weight, scale X",
    "distance": "the distance term is infinite or NaN. Lower distance_weight, scale X",
    "alignment": "the alignment term is infinite or NaN. Lower alignment_weight, scale X",
}


@dataclass(frozen=True)
class TrainingSettings:
    """The parameters of the regressor that training goes by; see there.

    Here `device` is the name of a device, not "auto".
    """

    max_epochs: int | str
    lr: float
    lr_schedule: str
    weight_decay: float
    batch_size: int | None
    early_stopping: bool
    validation_fraction: float
    patience: int
    device: str
    precision: str
    callbacks: Sequence[Any] | None
    verbose: int
    checkpoint: "str | os.PathLike[str] | None" = None
    checkpoint_interval: float = 60.0
    on_interrupt: str = "raise"


def build_net(
    module: DPVAE,
    objective: Objective,
    settings: TrainingSettings,
    *,
    n_epochs: int,
    n_batches: int,
    held_out: NDArray[np.intp] | None = None,
) -> DPVAENet:
    """Assemble the net around a module.

    Parameters
    ----------
    module : DPVAE
    objective : Objective
    settings : TrainingSettings
    n_epochs : int
        What `settings.max_epochs` comes to.
    n_batches : int
        Batches of an epoch.
    held_out : ndarray of int, optional
        Rows of the reference for early stopping.
    """
    one_cycle = settings.lr_schedule == "one_cycle"
    device, verbose = settings.device, settings.verbose
    kind: type[DPVAENet] = DPVAENet
    where: dict[str, Any] = {"device": device}
    accelerator = accelerator_for(device)
    if accelerator is not None:
        kind = AcceleratedNet
        # accelerate puts the module on its device.
        where = {"accelerator": accelerator, "device": None, "callbacks__print_log__sink": print}
        verbose = verbose if accelerator.is_main_process else 0

    callbacks: list[Any] = [("scale", RecordScale())]
    if one_cycle:
        schedule = LRScheduler(
            torch.optim.lr_scheduler.OneCycleLR,
            step_every="batch",
            max_lr=float(settings.lr),
            total_steps=n_epochs * n_batches + 1,
            cycle_momentum=False,
        )
        callbacks.append(("lr_schedule", schedule))
    if held_out is not None:
        first_epoch = 1 + round(_HIGH_RATES * n_epochs) if one_cycle else 1
        callbacks.append(("held_out", HeldOut(held_out, settings.patience, first_epoch)))
    if verbose == 1:
        callbacks.append(("progress_bar", ProgressBar(n_epochs)))
    elif verbose > 1:
        callbacks.append(("print_log", PrintLog(keys_ignored=list(NOT_KEPT))))

    optimizer: dict[str, Any] = {
        # A short schedule ends before a mean over 1,000 squared gradients has settled.
        "optimizer__betas": (0.9, 0.99 if one_cycle else 0.999),
    }
    if settings.weight_decay:
        optimizer["optimizer__weight_decay"] = float(settings.weight_decay)
    if torch.device(device).type in ("cpu", "cuda"):
        # One kernel for all weights, where torch has one.
        optimizer["optimizer__fused"] = True
    return kind(
        module=module,
        criterion=object,  # The loss is all in the objective.
        objective=objective,
        precision=settings.precision,
        optimizer=torch.optim.AdamW if settings.weight_decay else torch.optim.Adam,
        lr=float(settings.lr),
        max_epochs=n_epochs,
        train_split=None,
        verbose=int(verbose > 1),  # Whether PrintLog prints.
        callbacks=[*callbacks, *(settings.callbacks or ())],
        **optimizer,
        **where,
    )


class _Run:
    """A training with what it needs to go back by an epoch, or to go on in another process."""

    def __init__(
        self,
        net: DPVAENet,
        batches: Batches,
        settings: TrainingSettings,
        file: CheckpointFile | None,
    ):
        self.net = net
        self.batches = batches
        self.settings = settings
        self.file = file
        self.lowered = self.finished = False
        if file is not None and file.found is not None:
            net.history.extend({**row, "batches": []} for row in file.found["history"])
            state = file.found["state"]
            restore(net, batches, state)
            self.lowered, self.finished = state["lowered"], file.found["finished"]
        self.last = self._state()
        net.__dict__["after_epoch"] = self._after_epoch

    def _state(self) -> dict[str, Any]:
        return capture(self.net, self.batches) | {"lowered": self.lowered}

    def _after_epoch(self) -> None:
        self.last = self._state()
        if self.file is not None and self.file.due:
            self.file.write(self.net, self.last)

    def go(self) -> None:
        """Run the epochs that are left."""
        while not self.finished:
            n_left = self.net.max_epochs - len(self.net.history)
            try:
                self.net.fit_loop(self.batches, epochs=n_left)
                return
            except Diverged as error:
                self._lower_the_rate(error.term)

    def finish(self) -> None:
        """Keep the weights until what follows the training is done, too."""
        if self.file is not None and not self.finished:
            self.file.write(self.net, self._state(), finished=True)

    def write_what_is_there(self) -> None:
        """Have the next fit go on from the last whole epoch, not from the last write."""
        if self.file is not None:
            self.file.write(self.net, self.last)
            self.file.keep = True

    def keep_what_is_there(self) -> bool:
        """After an interrupt: whether the last whole epoch is to be the model."""
        n_epochs = self.last["n_epochs"]
        if self.settings.on_interrupt != "keep" or not n_epochs or in_a_search():
            return False
        restore(self.net, self.batches, self.last)
        kept = "the best epoch so far" if self.settings.early_stopping else "the last whole epoch"
        warn(
            f"the fit was interrupted after {n_epochs} of {self.net.max_epochs} epochs; the model "
            f"of {kept} is kept (on_interrupt='keep'). The learning rate had not come down to its "
            "end: a whole fit is better.",
            RuntimeWarning,
        )
        return True

    def _lower_the_rate(self, term: str) -> None:
        """Go back to the last good epoch with half of the learning rate; the second time raise."""
        epoch = len(self.net.history)
        restore(self.net, self.batches, self.last)
        rate = self.settings.lr
        if self.lowered:
            if self.file is not None:
                self.file.close()
            raise FloatingPointError(
                f"training diverged in epoch {epoch}, with lr={rate * _LOWERED:g} as before with "
                f"lr={rate:g}: {_REMEDIES[term]}, or lower lr."
            )
        for group in self.net.optimizer_.param_groups:
            for key in ("lr", "initial_lr", "max_lr", "min_lr"):
                if key in group:
                    group[key] *= _LOWERED
        self.lowered = True
        self.last = self._state()
        warn(
            f"training diverged in epoch {epoch} (the {term} term); it goes on from the epoch "
            f"before with lr={rate * _LOWERED:g} instead of {rate:g}.",
            RuntimeWarning,
        )


def in_a_search() -> bool:
    """Whether scikit-learn's cross-validation or search is among the callers."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__", "").startswith("sklearn.model_selection."):
            return True
    return False


def train(
    net: DPVAENet,
    batches: Batches,
    settings: TrainingSettings,
    file: CheckpointFile | None = None,
) -> list[dict[str, Any]]:
    """Run skorch's loop; the module is left in evaluation mode on the CPU.

    skorch's own `partial_fit` takes any KeyboardInterrupt for a callback's wish to stop, so a
    user's Ctrl-C would pass off a half-trained model as a fitted one. Here only an interrupt
    that a callback of the caller's raises at the end of an epoch stops training, as skorch's
    EarlyStopping does; any other goes through, or keeps the last whole epoch if that is asked for.

    Returns
    -------
    list of dict
        The history: a row for each epoch.

    Raises
    ------
    FloatingPointError
        If the training diverges at half of the learning rate, too.

    Warns
    -----
    RuntimeWarning
        If it diverged once, was interrupted and kept, or its checkpoint cannot be written.
    """
    net.initialize()
    net.notify("on_train_begin", X=batches, y=None)
    run = _Run(net, batches, settings, file)
    try:
        run.go()
        run.finish()
    except StopTraining:
        run.finish()
    except KeyboardInterrupt as error:
        if net.notifying == "on_epoch_end" and comes_from(error, settings.callbacks):
            run.finish()
        else:
            run.write_what_is_there()
            if not run.keep_what_is_there():
                raise
    except SystemExit:  # The process is to end, as by a handler of SIGTERM.
        run.write_what_is_there()
        raise
    net.notify("on_train_end", X=batches, y=None)
    # The module is kept, and its gradients are as large as its weights.
    net.optimizer_.zero_grad(set_to_none=True)
    net.module_.eval()
    net.module_.to("cpu")
    return [{k: v for k, v in row.items() if k not in NOT_KEPT} for row in net.history]
