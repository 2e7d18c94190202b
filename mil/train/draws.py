"""Random numbers of several heads at once, each head from a random state of its own.

Dropout and masking draw from torch's own random state. Heads that are trained together
draw what each would draw alone: `StackedDraws` runs a random function of torch once for
each head, in that head's state.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mil.train.stacked_linear import StackedLinear

FACTORIES = frozenset({torch.rand, torch.randn, torch.randint, torch.randperm})
IN_PLACE = frozenset(
    {
        Tensor.bernoulli_,
        Tensor.exponential_,
        Tensor.normal_,
        Tensor.random_,
        Tensor.uniform_,
    }
)


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


class StackedDraws(TorchFunctionMode):
    """Random functions of torch within `torch.func.vmap` over heads.

    Functions that are not known here raise an error of vmap.

    Args:
        states: Random state of each head.
        device: Device of the heads.
    """

    def __init__(self, states: Sequence[RandomState], device: torch.device) -> None:
        super().__init__()
        self.states = states
        self._device = device
        self._index: Tensor | None = None

    @contextmanager
    def of(self, index: Tensor) -> Iterator[None]:
        """Replace the random functions.

        Args:
            index: Number of the head, an input of the function that vmap transforms.
        """
        self._index = index
        with self:
            yield
        self._index = None

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear and self._is_plain(*args):
            return StackedLinear.apply(args[0], args[1], args[2] if len(args) > 2 else None)
        if func is functional.dropout:
            return self._dropout(*args, **kwargs)
        if func in FACTORIES:
            once = kwargs.get("generator") is not None
            return self._draw(lambda: func(*args, **kwargs), once)
        if func in IN_PLACE:
            values = args[0]
            shape = values.shape
            dtype = values.dtype
            fresh = lambda: torch.empty(shape, dtype=dtype, device=values.device)  # noqa: E731
            return values.copy_(self._draw(lambda: func(fresh(), *args[1:], **kwargs)))
        return func(*args, **kwargs)

    def _is_plain(self, rows: Tensor, *_: Tensor | None) -> bool:
        # Autocast converts the arguments of torch's own layer alone.
        return rows.dim() > 1 and not torch.is_autocast_enabled(self._device.type)

    def _dropout(
        self, values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return values
        shape = values.shape
        dtype = values.dtype
        ones = lambda: torch.ones(shape, dtype=dtype, device=values.device)  # noqa: E731
        # Torch itself multiplies by such a mask.
        return values * self._draw(lambda: functional.dropout(ones(), p))

    def _draw(self, draw: Callable[[], Tensor], once: bool = False) -> Tensor:
        """Draws of each head; `once`: one draw for all, from a generator of the caller."""
        draw_all = draw if once else lambda: self._drawn(draw)
        drawn: Tensor = DrawFunction.apply(self._index, draw_all, None if once else 0)
        return drawn

    def _drawn(self, draw: Callable[[], Tensor]) -> Tensor:
        draws: list[Tensor] = []
        with restored(self._device):
            for state in self.states:
                with state.active():
                    draws.append(draw())
        return torch.stack(draws)


class DrawFunction(torch.autograd.Function):
    """Draws within vmap, which itself allows none: they are made outside of it."""

    @staticmethod
    def forward(index: Tensor, draw: Callable[[], Tensor], dim: int | None) -> Tensor:
        """Not called: outside of vmap torch's own functions draw."""
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: draws have no gradient."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None]:
        """No gradient."""
        return None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, index: Tensor, draw: Callable[[], Tensor], dim: int | None
    ) -> tuple[Tensor, int | None]:
        """The draws, and the dimension of the heads in them."""
        return draw(), dim


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
