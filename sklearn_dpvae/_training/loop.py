"""The training loop: a net is built around a module, run, and thrown away.

Imports the net, its callbacks and the batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import LRScheduler, PrintLog

from .._network.dpvae import DPVAE
from .._network.objective import Objective
from .batches import Batches
from .callbacks import HeldOut, ProgressBar, RecordScale, StopTraining
from .distributed import AcceleratedNet, accelerator_for
from .net import DPVAENet

# Share of a one-cycle schedule before early stopping looks at the stress.
_HIGH_RATES = 0.5

# What skorch records for itself.
_NOT_KEPT = ("batches", "train_loss")


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
            max_lr=settings.lr,
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
        callbacks.append(("print_log", PrintLog(keys_ignored=list(_NOT_KEPT))))

    optimizer: dict[str, Any] = {
        # A short schedule ends before a mean over 1,000 squared gradients has settled.
        "optimizer__betas": (0.9, 0.99 if one_cycle else 0.999),
    }
    if settings.weight_decay:
        optimizer["optimizer__weight_decay"] = settings.weight_decay
    if torch.device(device).type in ("cpu", "cuda"):
        # One kernel for all weights, where torch has one.
        optimizer["optimizer__fused"] = True
    return kind(
        module=module,
        criterion=object,  # The loss is all in the objective.
        objective=objective,
        precision=settings.precision,
        optimizer=torch.optim.AdamW if settings.weight_decay else torch.optim.Adam,
        lr=settings.lr,
        max_epochs=n_epochs,
        train_split=None,
        verbose=int(verbose > 1),  # Whether PrintLog prints.
        callbacks=[*callbacks, *(settings.callbacks or ())],
        **optimizer,
        **where,
    )


def train(net: DPVAENet, batches: Batches) -> list[dict[str, Any]]:
    """Run skorch's loop; the module is left in evaluation mode on the CPU.

    skorch's own `partial_fit` takes any KeyboardInterrupt for a callback's wish to stop, so a
    user's Ctrl-C would pass off a half-trained model as a fitted one. Here only an interrupt
    that a callback raises at the end of an epoch stops training; any other goes through.

    Returns
    -------
    list of dict
        The history: a row for each epoch.
    """
    net.initialize()
    net.notify("on_train_begin", X=batches, y=None)
    try:
        net.fit_loop(batches)
    except StopTraining:
        pass
    except KeyboardInterrupt:
        if net.notifying != "on_epoch_end":
            raise
    net.notify("on_train_end", X=batches, y=None)
    # The module is kept, and its gradients are as large as its weights.
    net.optimizer_.zero_grad(set_to_none=True)
    net.module_.eval()
    net.module_.to("cpu")
    return [{k: v for k, v in row.items() if k not in _NOT_KEPT} for row in net.history]
