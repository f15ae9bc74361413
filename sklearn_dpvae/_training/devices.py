"""Which device to train on. Imports nothing of this package."""

import torch


def pick_device(device: str) -> str:
    """Resolve "auto": CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    ValueError
        If the device is not there.
    """
    if device != "auto":
        try:
            # A device may be known and yet hold no data, such as "meta".
            torch.zeros(1, device=device).cpu()
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"device={device!r} cannot be used here ({reason}). Pass "
                "device='auto' to take the best that this machine has."
            ) from error
        return device
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"
