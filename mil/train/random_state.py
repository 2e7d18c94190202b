"""Random state of each of several heads in one process.

Dropout and masking draw from torch's own random state. A head that shares a process
with others has a state of its own, and draws what it would draw alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class RandomState:
    """State of torch's own random generators, as one head alone would leave it.

    Args:
        seed: Seed of the state at the start.
        device: Device of the head.

    Attributes:
        tensors: State of each generator, by type of device.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        with restored(device):
            torch.manual_seed(seed)
            self.tensors = _states(device)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Draw from this state; the caller restores torch's own afterwards."""
        _set_states(self.tensors, self._device)
        yield
        self.tensors = _states(self._device)


def _states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_states(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def restored(device: torch.device) -> Iterator[None]:
    """Restore torch's own random state afterwards."""
    states = _states(device)
    try:
        yield
    finally:
        _set_states(states, device)
