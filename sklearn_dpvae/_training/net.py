"""Training: the skorch net, batches taken from memory, callbacks. The only file that says skorch.

Imports the losses, the module and the batches.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, LRScheduler, PrintLog
from skorch.hf import AccelerateMixin
from torch import Tensor, nn
from tqdm.auto import tqdm

from .._network.dpvae import DPVAE
from .._network.losses import (
    distance_preservation,
    pairwise_distance_preservation,
    procrustes_misfit,
)
from .accelerator import accelerator_for
from .batches import Batches

# What `history_` holds of every epoch, in this order.
TERMS = ("loss", "reconstruction", "kl", "distance", "alignment")

# What the networks' matrix products are computed in, by the names of torch's types.
PRECISIONS = ("float32", "bfloat16")

# Share of a one-cycle schedule before early stopping looks at the stress.
_HIGH_RATES = 0.5


@dataclass(frozen=True)
class Objective:
    """Weights of the training loss, eq. (4) with the alignment term."""

    elbo_weight: float
    kl_weight: float
    distance_weight: float
    alignment_weight: float
    distance_loss: str
    n_sections: int = 1
    pairs_between_groups: bool = False


class DPVAENet(NeuralNet):
    """A skorch net that trains `DPVAE` on `Batches` with the loss of `Objective`."""

    def __init__(self, *args, objective: Objective, precision: str = "float32", **kwargs):
        self.objective = objective
        self.precision = precision
        super().__init__(*args, **kwargs)

    @property
    def _default_callbacks(self):
        return [("epoch_timer", EpochTimer())]

    def get_split_datasets(self, X, y=None, **fit_params):
        return X, None

    def get_iterator(self, dataset, training=False):
        return dataset

    @property
    def bare_module(self) -> DPVAE:
        """The module without what is wrapped around it for training."""
        return self.module_

    def averaged(self, value: Tensor) -> Tensor:
        """Mean over the processes that train together."""
        return value

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def notify(self, method_name, **cb_kwargs):
        # skorch looks at all that is set on a net, which takes its time in every batch.
        own = vars(self)
        own["notifying"] = method_name
        super().notify(method_name, **cb_kwargs)
        own["notifying"] = None

    def rounded(self, x: Tensor) -> Any:
        """A block in which the networks' matrix products are computed in `precision`.

        The terms on positions must stay out of it: gradients of the pair term are differences
        of large sums.
        """
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(x.device.type, dtype=getattr(torch, self.precision))

    def loss_terms(self, y_pred, y_true) -> tuple[Tensor, ...]:
        """The terms of `TERMS`, in this order, each of shape (n_members,)."""
        goal, module = self.objective, self.bare_module
        with self.rounded(y_pred["hidden"]):
            log_prob = module.likelihood.log_prob(
                y_true["target"], y_pred["hidden"], y_true["library"]
            )
        reconstruction = -log_prob.mean(dim=-1)
        kl = y_pred["kl"].mean(dim=-1)
        z, s, codes = y_pred["z"], y_true["s"], y_true["codes"]
        distance = alignment = torch.zeros_like(kl)
        if goal.distance_weight:
            distance = self.distance_term(z, y_true)
        if goal.alignment_weight:
            alignment = procrustes_misfit(z, s, codes=codes, n_sections=goal.n_sections)
        loss = goal.elbo_weight * reconstruction.add(kl, alpha=goal.kl_weight)
        loss = loss.add(distance, alpha=goal.distance_weight)
        loss = loss.add(alignment, alpha=goal.alignment_weight)
        return loss, reconstruction, kl, distance, alignment

    def distance_term(self, z, y_true) -> Tensor:
        """Eq. (3), or eq. (5) on the pairs that the mask leaves."""
        s, codes, scale = y_true["s"], y_true["codes"], self.bare_module.scale
        loss = self.objective.distance_loss
        if "pairs" in y_true:
            pairs, weights = y_true["pairs"], y_true["weights"]
            return pairwise_distance_preservation(z, s, scale, pairs, weights, loss=loss)
        weights = None
        if "groups" in y_true and self.objective.pairs_between_groups:
            groups = y_true["groups"]
            weights = groups[..., :, None] != groups[..., None, :]
        elif "groups" in y_true:
            # Groups lie within sections, so that they stand in for them.
            codes = y_true["groups"]
        return distance_preservation(z, s, scale, codes=codes, weights=weights, loss=loss)

    def train_step_single(self, batch, **fit_params):
        X, y = batch
        with self.rounded(X["x"]):
            y_pred = self.module_(**X)
        terms = self.loss_terms(y_pred, y)
        # Members share no weights: the gradient of the sum is that of each one's own loss.
        loss = terms[0].sum()
        self.backward(loss)
        with torch.no_grad():
            return {"loss": loss, "y_pred": y_pred, "terms": torch.stack(terms)}

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """One pass over the batches; the losses are read once at its end.

        skorch reads each batch's loss as a number, which makes a GPU wait at every step.
        """
        if iterator is None:
            return
        self._set_training(training)
        terms, sizes = [], []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            terms.append(step["terms"])
            sizes.append(batch[1]["s"].shape[-2])
            self.notify("on_batch_end", batch=batch, training=training, **step)
        totals = torch.stack(terms).mean(dim=-1)
        weights = torch.tensor(sizes, device=totals.device) / sum(sizes)
        means = self.averaged(weights @ totals)
        for name, value in zip(TERMS, means.tolist(), strict=True):
            self.history.record(name, value)
        self.history.record("train_loss", self.history[-1]["loss"])


class AcceleratedNet(AccelerateMixin, DPVAENet):
    """Several processes train one net together, through Hugging Face accelerate.

    Each takes its share of the cells of every batch and forms pairs among those. The gradients
    are averaged, so that all processes keep the same weights.
    """

    @property
    def bare_module(self):
        return self.accelerator.unwrap_model(self.module_)

    def averaged(self, value):
        return self.accelerator.reduce(value, reduction="mean")

    def backward(self, loss):
        self.accelerator.backward(loss)

    def train_step_single(self, batch, **fit_params):
        # Not the mixin's, which knows of a single loss.
        return DPVAENet.train_step_single(self, batch, **fit_params)

    def get_iterator(self, dataset, training=False):
        return dataset.share(self.accelerator.process_index, self.accelerator.num_processes)

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        super().on_train_begin(net, X=X, y=y, **kwargs)
        own = torch.tensor([X.fingerprint()], device=self.accelerator.device)
        if len(self.accelerator.gather(own).unique()) > 1:
            raise ValueError(
                "the processes drew different batches. Pass the same data and the same integer "
                "as random_state in each of them."
            )
        # Shares of a batch need noise of their own. That of the first process is what a single
        # one would draw.
        if self.accelerator.process_index:
            torch.manual_seed(torch.initial_seed() + self.accelerator.process_index)

    def on_train_end(self, net, X=None, y=None, **kwargs):
        super().on_train_end(net, X=X, y=y, **kwargs)
        # What is kept, and pickled, is a plain net that needs no accelerate.
        self.optimizer_ = self.optimizer_.optimizer
        for _, callback in self.callbacks_:
            if isinstance(callback, LRScheduler):
                callback.lr_scheduler_.optimizer = self.optimizer_
        self.accelerator.free_memory()
        for name in ("accelerator", "unwrap_after_train", "_wrapped_with_accelerator"):
            delattr(self, name)
        self.__class__ = DPVAENet


class StopTraining(Exception):
    """Raised by a callback of this package to end training early."""


class RecordScale(Callback):
    """Record c, in latent units per scaled unit of the positions, after every epoch."""

    def on_epoch_end(self, net, **kwargs):
        net.history.record("scale", net.bare_module.scale.detach().mean().item())


class HeldOutStress(Callback):
    """Stop when the distance-preserving stress of held-out cells no longer falls.

    The stress is eq. (3) on posterior means, divided by the mean scaled tissue distance: relative,
    so that it cannot be lowered by shrinking both latents and c. The weights of the best epoch
    are put back at the end.

    Parameters
    ----------
    held_out : ndarray of int
        Rows of the reference that are not trained on.
    patience : int
        Epochs without a better stress before training stops.
    first_epoch : int
        The first that counts. At the high learning rates of a one-cycle schedule, the stress
        wanders, and falls only when they do.
    """

    def __init__(self, held_out: np.ndarray, patience: int, first_epoch: int):
        self.held_out = held_out
        self.patience = patience
        self.first_epoch = first_epoch

    def on_train_begin(self, net, X=None, **kwargs):
        self.batches_ = X
        self.best_, self.best_epoch_, self.best_state_ = np.inf, 0, None

    def on_epoch_end(self, net, **kwargs):
        # All processes must stop at the same epoch.
        given = self.batches_.inputs_and_positions(self.held_out)
        stress = float(net.averaged(relative_stress(net.bare_module, *given)))
        net.history.record("valid_stress", stress)
        epoch = len(net.history)
        if epoch < self.first_epoch:
            return
        if stress < self.best_:
            self.best_, self.best_epoch_ = stress, epoch
            self.best_state_ = deepcopy(net.bare_module.state_dict())
        elif epoch - self.best_epoch_ >= self.patience:
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        if self.best_state_ is not None:
            net.bare_module.load_state_dict(self.best_state_)
        # The trained net is kept and pickled; the reference must not be.
        self.best_state_ = self.batches_ = None


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


class ProgressBar(Callback):
    """One tqdm bar over the epochs of a fit, with the loss and, if there is one, the stress."""

    def __init__(self, n_epochs: int):
        self.n_epochs = n_epochs

    def on_train_begin(self, net, **kwargs):
        self.bar_ = tqdm(total=self.n_epochs, desc="DPVAE", unit="epoch", leave=True)

    def on_epoch_end(self, net, **kwargs):
        last = net.history[-1]
        shown = {k: f"{last[k]:.3g}" for k in ("loss", "distance", "valid_stress") if k in last}
        self.bar_.set_postfix(shown, refresh=False)
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        self.bar_.close()
        # Bars hold locks and streams, which do not pickle.
        self.bar_ = None


def build_net(
    module: nn.Module,
    objective: Objective,
    *,
    max_epochs: int,
    lr: float,
    lr_schedule: str,
    weight_decay: float,
    n_batches: int,
    device: str,
    verbose: int,
    precision: str = "float32",
    callbacks: Sequence = (),
    held_out: np.ndarray | None = None,
    patience: int = 10,
) -> DPVAENet:
    """Assemble the net around a module that exists already."""
    kind: Any = DPVAENet
    accelerator = accelerator_for(device)
    placement: dict[str, Any] = {"device": device}
    if accelerator is not None:
        kind = AcceleratedNet
        # accelerate puts the module on its device.
        placement = {
            "accelerator": accelerator,
            "device": None,
            "callbacks__print_log__sink": print,
        }
        verbose = verbose if accelerator.is_main_process else 0
    own: list = [("scale", RecordScale())]
    if lr_schedule == "one_cycle":
        own.append(
            (
                "lr_schedule",
                LRScheduler(
                    torch.optim.lr_scheduler.OneCycleLR,
                    step_every="batch",
                    max_lr=lr,
                    total_steps=max_epochs * n_batches + 1,
                    cycle_momentum=False,
                ),
            )
        )
    if held_out is not None:
        first_epoch = 1 + round(_HIGH_RATES * max_epochs) if lr_schedule == "one_cycle" else 1
        own.append(("held_out_stress", HeldOutStress(held_out, patience, first_epoch)))
    if verbose == 1:
        own.append(("progress_bar", ProgressBar(max_epochs)))
    elif verbose > 1:
        own.append(("print_log", PrintLog(keys_ignored=["train_loss", "batches"])))
    return kind(
        module=module,
        criterion=object,  # nothing: the loss is all in `loss_terms`
        objective=objective,
        precision=precision,
        optimizer=torch.optim.AdamW if weight_decay else torch.optim.Adam,
        # One kernel for all weights, where torch has one.
        **({"optimizer__fused": True} if torch.device(device).type in ("cpu", "cuda") else {}),
        # A short schedule ends before a mean over 1,000 squared gradients has settled.
        optimizer__betas=(0.9, 0.99 if lr_schedule == "one_cycle" else 0.999),
        lr=lr,
        **({"optimizer__weight_decay": weight_decay} if weight_decay else {}),
        max_epochs=max_epochs,
        train_split=None,
        verbose=int(verbose > 1),  # whether PrintLog prints
        callbacks=own + list(callbacks),
        **placement,
    )


def train(net: DPVAENet, batches: Batches) -> None:
    """Run skorch's loop; the module is left in evaluation mode on the CPU.

    skorch's own `partial_fit` takes any KeyboardInterrupt for a callback's wish to stop, so a
    user's Ctrl-C would pass off a half-trained model as a fitted one. Here only an interrupt
    that a callback raises at the end of an epoch stops training; any other goes through.
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
    # Adam's moments and the gradients are three times the weights; nothing reads them again.
    net.optimizer_.zero_grad(set_to_none=True)
    net.optimizer_.state.clear()
    net.module_.eval()
    net.module_.to("cpu")
    net.set_params(device="cpu")
