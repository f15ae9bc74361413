"""Callbacks of the training loop: what is recorded, shown, and when training stops early.

Imports the objective and the network.
"""

from copy import deepcopy
from traceback import walk_tb
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback
from torch import Tensor
from tqdm.auto import tqdm

from .._network.dpvae import DPVAE
from .._network.losses import distance_preservation
from .._network.objective import Step, divergence, reconstruction
from .._network.random import own_generators

# Held-out cells that the ELBO is measured on, which takes their genes as dense rows.
_CELLS_FOR_ELBO = 1000


class StopTraining(Exception):
    """Raised by a callback of this package to end training early."""


class Diverged(Exception):
    """Raised when a loss, or a weight after a step, is not finite.

    Parameters
    ----------
    term : str
        Name of the term that is to blame.
    """

    def __init__(self, term: str):
        super().__init__(term)
        self.term = term


class RecordScale(Callback):
    """Record c, in latent units per scaled unit of the positions, after every epoch."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        net.history.record("scale", net.bare_module.scale.detach().mean().item())


class HeldOut(Callback):
    """Record how held-out cells fare, and stop when their stress no longer falls.

    The stress is eq. (3) on posterior means, divided by the mean scaled tissue distance. Being
    relative, it cannot be lowered by shrinking both latents and c. The weights of the best epoch
    are put back at the end. The ELBO says whether the generative model fits new cells; training
    does not go by it.

    Parameters
    ----------
    held_out : ndarray of int
        Rows of the reference that are not trained on.
    patience : int
        Epochs without a better stress before training stops.
    first_epoch : int
        The first that counts. At the high learning rates of a one-cycle schedule the stress
        wanders; it falls only when they do.
    """

    def __init__(self, held_out: NDArray[np.intp], patience: int, first_epoch: int):
        self.held_out = held_out
        self.patience = patience
        self.first_epoch = first_epoch
        self.some = held_out[:: -(-len(held_out) // _CELLS_FOR_ELBO)]

    def on_train_begin(self, net: Any, X: Any = None, **kwargs: Any) -> None:
        self.batches_ = X
        self.best_, self.best_epoch_ = np.inf, 0
        self.best_state_: dict[str, Tensor] | None = None

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        # All processes must stop at the same epoch.
        given = self.batches_.inputs_and_positions(self.held_out)
        stress = float(net.averaged(relative_stress(net.bare_module, *given)))
        net.history.record("valid_stress", stress)
        index = np.tile(self.some, (net.bare_module.n_members, 1))
        elbo = net.averaged(held_out_elbo(net.bare_module, *self.batches_.take(index)))
        net.history.record("valid_elbo", float(elbo))
        epoch = len(net.history)
        if epoch < self.first_epoch:
            return
        if stress < self.best_:
            self.best_, self.best_epoch_ = stress, epoch
            self.best_state_ = deepcopy(net.bare_module.state_dict())
        elif epoch - self.best_epoch_ >= self.patience:
            raise StopTraining

    @property
    def state(self) -> tuple[float, int, dict[str, Tensor] | None]:
        """The lowest stress, its epoch and its weights."""
        return self.best_, self.best_epoch_, self.best_state_

    @state.setter
    def state(self, state: tuple[float, int, dict[str, Tensor] | None]) -> None:
        self.best_, self.best_epoch_, self.best_state_ = state

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        if self.best_state_ is not None:
            net.bare_module.load_state_dict(self.best_state_)


@torch.no_grad()
def relative_stress(module: DPVAE, x: Tensor, s: Tensor, codes: Tensor | None) -> Tensor:
    """Distance-preserving loss of posterior means over the mean scaled tissue distance.

    The mean over members, which all look at the same cells.
    """
    module.eval()
    mean, _ = module.encode(x)
    s = s.expand(len(mean), -1, -1)
    scale = module.scale
    value = distance_preservation(mean, s, scale, codes=codes)
    tissue = distance_preservation(torch.zeros_like(mean), s, torch.ones_like(scale), codes=codes)
    return (value / (scale * tissue)).mean()


@torch.no_grad()
def held_out_elbo(module: DPVAE, given: dict[str, Any], compared: dict[str, Any]) -> Tensor:
    """Evidence lower bound of cells, with the weights 1 of the plain VAE; mean over members.

    The noise of the posterior is the same in every epoch, so that epochs compare, and training
    goes on with its own.
    """
    module.eval()
    with own_generators(0, given["x"].device.type):
        step = Step(module, module(**given), compared)
    return -(reconstruction(step) + divergence(step)).mean()


def check_callbacks(callbacks: Any) -> None:
    """Raise where a list of callbacks holds something else.

    Parameters
    ----------
    callbacks : list, tuple or None
        Of skorch callbacks, their classes, or pairs of a name and one of these.

    Raises
    ------
    TypeError
        If an item is none.
    """
    for item in callbacks or ():
        if not issubclass(_kind_of(item), Callback):
            raise TypeError(
                f"callbacks must hold skorch callbacks, got {item!r}. Derive it from "
                "skorch.callbacks.Callback."
            )


def comes_from(error: BaseException, callbacks: Any) -> bool:
    """Whether an error was raised in a method of one of some callbacks.

    Parameters
    ----------
    error : BaseException
    callbacks : list, tuple or None
        As `check_callbacks` takes them.
    """
    kinds = tuple(map(_kind_of, callbacks or ()))
    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    return any(isinstance(frame.f_locals.get("self"), kinds) for frame in frames)


def _kind_of(item: Any) -> type:
    """The class of what a list of callbacks holds."""
    named = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
    callback = item[1] if named else item
    return callback if isinstance(callback, type) else type(callback)


class ProgressBar(Callback):
    """One bar over the epochs of a fit, with the loss and, if there is one, the stress."""

    def __init__(self, n_epochs: int):
        self.n_epochs = n_epochs

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.bar_ = tqdm(total=self.n_epochs, desc="DPVAE", unit="epoch", leave=True)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        last = net.history[-1]
        shown = {k: f"{last[k]:.3g}" for k in ("loss", "distance", "valid_stress") if k in last}
        self.bar_.set_postfix(shown, refresh=False)
        # Epochs of a checkpoint take no time, and say nothing about how long is left.
        done = len(net.history)
        if not self.bar_.n:
            self.bar_.initial = self.bar_.n = done - 1
        self.bar_.update(done - self.bar_.n)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.bar_.close()
