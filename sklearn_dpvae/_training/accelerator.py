"""Whether processes train one net together. Imports nothing of this package."""

import sys
from typing import Any

import torch


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
