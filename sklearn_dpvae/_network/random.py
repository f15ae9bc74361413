"""Random numbers of the networks, from generators that belong to one fit.

torch's global generator is shared by all threads of a process: two fits side by side would draw
from it in turns, and neither could be repeated. Within `own_generators`, all layers draw from
generators of the block instead. Imports nothing of this package.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

# By the type of the device. A thread that is started anew begins without any.
_GENERATORS: ContextVar[dict[str, torch.Generator] | None] = ContextVar("generators", default=None)


@contextmanager
def own_generators(seed: int, device: str) -> Iterator[None]:
    """Draw the networks' random numbers within a block from generators of its own.

    Parameters
    ----------
    seed : int
        Of all of them.
    device : str
        Where the networks are trained. Weights are drawn on the CPU, wherever that is.
    """
    kinds = {"cpu": torch.device("cpu"), torch.device(device).type: torch.device(device)}
    generators = {kind: torch.Generator(where) for kind, where in kinds.items()}
    for generator in generators.values():
        generator.manual_seed(seed)
    token = _GENERATORS.set(generators)
    try:
        yield
    finally:
        _GENERATORS.reset(token)


def generator_on(device: torch.device) -> torch.Generator | None:
    """The generator of the present block for a device; None stands for torch's global one."""
    return (_GENERATORS.get() or {}).get(device.type)


def generator_states() -> dict[str, Tensor]:
    """States of the generators of the present block, by the type of their device."""
    return {kind: one.get_state() for kind, one in (_GENERATORS.get() or {}).items()}


def set_generator_states(states: dict[str, Tensor]) -> None:
    """Bring the generators of the present block to states of `generator_states`."""
    for kind, generator in (_GENERATORS.get() or {}).items():
        generator.set_state(states[kind])


def reseed(shift: int) -> None:
    """Move the seeds of the present block, so that a process has noise of its own."""
    for generator in (_GENERATORS.get() or {}).values():
        generator.manual_seed(generator.initial_seed() + shift)


def normal_like(x: Tensor) -> Tensor:
    """Standard normal numbers in the shape of `x`."""
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator_on(x.device))
