"""Several processes that train one net together, through Hugging Face accelerate.

Imports the net and the network's random numbers.
"""

import sys
from typing import Any

import torch
from skorch.hf import AccelerateMixin
from torch import Tensor

from .._network.dpvae import DPVAE
from .._network.random import reseed
from .net import DPVAENet


def accelerator_for(device: str) -> Any:
    """An `Accelerator` where the user's script has made one in each of several processes.

    Else None: a launcher's environment alone does not say that processes are to train together,
    and workers of a search inherit it.
    """
    if "accelerate" not in sys.modules:
        return None
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import is_initialized

    if not is_initialized():
        return None
    # All share one state. Where a term has no weight, some parameters get no gradient, which
    # a static graph allows for.
    options = DistributedDataParallelKwargs(static_graph=True)
    accelerator = Accelerator(kwargs_handlers=[options])
    if accelerator.num_processes == 1:
        return None
    if accelerator.device.type != torch.device(device).type:
        raise ValueError(
            f"device={device!r}, but the Accelerator of this process is on "
            f"{accelerator.device}. Pass device={accelerator.device.type!r}, or make the "
            "Accelerator with cpu=True."
        )
    return accelerator


class AcceleratedNet(AccelerateMixin, DPVAENet):
    """A net of several processes.

    Each takes its share of the cells of every batch and forms pairs among those. The gradients
    are averaged, so that all processes keep the same weights.
    """

    @property
    def bare_module(self) -> DPVAE:
        return self.accelerator.unwrap_model(self.module_)

    def averaged(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value, reduction="mean")

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        # Not the mixin's, which knows of a single loss.
        return DPVAENet.train_step_single(self, batch, **fit_params)

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        return dataset.share(self.accelerator.process_index, self.accelerator.num_processes)

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        super().on_train_begin(net, X=X, y=y, **kwargs)
        own = torch.tensor([X.fingerprint()], device=self.accelerator.device)
        if len(self.accelerator.gather(own).unique()) > 1:
            raise ValueError(
                "the processes drew different batches. Pass the same data and the same integer "
                "as random_state in each of them."
            )
        # Shares of a batch need noise of their own. The first process draws what a single one
        # would.
        if self.accelerator.process_index:
            reseed(self.accelerator.process_index)

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        super().on_train_end(net, X=X, y=y, **kwargs)
        self.accelerator.free_memory()
