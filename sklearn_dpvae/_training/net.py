"""The skorch net: one step, one pass over the batches.

Imports the objective, the network and the callbacks.
"""

from collections.abc import Callable
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer
from torch import Tensor

from .._network.dpvae import DPVAE
from .._network.objective import Objective, Step, rounded
from .callbacks import Diverged


class DPVAENet(NeuralNet):
    """A skorch net that trains a `DPVAE` on `Batches` with an `Objective`."""

    def __init__(
        self, *args: Any, objective: Objective, precision: str = "float32", **kwargs: Any
    ):
        self.objective = objective
        self.after_epoch: Callable[[], None] | None = None
        self.precision = precision
        super().__init__(*args, **kwargs)

    @property
    def _default_callbacks(self) -> list:
        return [("epoch_timer", EpochTimer())]

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Any, None]:
        return X, None

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
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

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        # skorch inspects everything that is set on a net, which takes time in every batch.
        own = self.__dict__
        own["notifying"] = method_name
        super().notify(method_name, **cb_kwargs)
        own["notifying"] = None
        if method_name == "on_epoch_end" and self.after_epoch is not None:
            self.after_epoch()

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        X, y = batch
        with rounded(X["x"], self.precision):
            output = self.module_(**X)
        loss, measured = self.objective.measure(Step(self.bare_module, output, y))
        # Members share no weights: the gradient of the sum is that of each one's own loss.
        loss = loss.sum()
        self.backward(loss)
        return {"loss": loss.detach(), "y_pred": output, "measured": measured}

    @torch.no_grad()
    def _weights_are_finite(self) -> bool:
        sums = torch.stack([weights.sum() for weights in self.bare_module.parameters()])
        return bool(torch.isfinite(sums).all())

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """One pass over the batches; the losses are read once at its end.

        skorch reads each batch's loss as a number, which makes a GPU wait at every step.
        """
        if iterator is None:
            return
        self._set_training(training)
        measured, sizes = [], []
        weightless: Tensor | None = None
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            measured.append(step["measured"])
            sizes.append(batch[1]["s"].shape[-2])
            if weightless is None:
                looked_at = Step(self.bare_module, step["y_pred"], batch[1])
                weightless = self.averaged(self.objective.measure_weightless(looked_at))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        totals = torch.stack(measured).mean(dim=-1)
        weights = torch.tensor(sizes, dtype=totals.dtype, device=totals.device) / sum(sizes)
        means = self.averaged(weights @ totals)
        assert weightless is not None  # There is a batch.
        if not torch.isfinite(means).all() or not self._weights_are_finite():
            raise Diverged(self.objective.blamed(torch.stack(measured)))
        columns = self.objective.columns(means.tolist(), weightless.tolist())
        for name, value in columns.items():
            self.history.record(name, value)
        # Where callbacks of skorch look for it.
        self.history.record("train_loss", columns["loss"])
