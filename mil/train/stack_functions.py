"""Functions of torch that heads in a stack call for all of them at once.

Heads draw what each would draw alone: a random function is called once for each head,
in that head's random state. Functions that `torch.func.vmap` does not know, or computes
slowly, are called once with the stacked tensors.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mil.heads._pseudo_inverse import pseudo_inverse
from mil.heads._stkim import draw_ranks
from mil.kernels.bag_attn import bag_attn
from mil.kernels.dispatch import Backend
from mil.kernels.dropout import KeepMask, draw_keep_mask
from mil.kernels.gated_attn_pool import Mask, TrunkDropout, TrunkWeights, gated_attn_pool
from mil.kernels.window_attn import window_attn
from mil.train.over_heads import as_bags, over_heads, stacked_linear
from mil.train.random_state import RandomState, restored
from mil.train.stack_attention import stacked_bag_attn, stacked_window_attn
from mil.train.stack_trunk import reduced_and_scored, stacked_pooled

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
# Functions that vmap has no rule for. Their tensors are [bags, ...], and no bag depends on
# another.
BY_BAG = frozenset({functional.scaled_dot_product_attention, pseudo_inverse})
# Weights of a layer from which on its gradient is worth leaving vmap.
LEAST_WEIGHTS = 1 << 16


class StackedFunctions(TorchFunctionMode):
    """Functions of torch that are computed for all heads of a stack outside of vmap.

    These are random functions, and those of `mil.train.over_heads`. A random function
    that is not known here raises an error of vmap.

    Args:
        states: Random state of each head.
        device: Device of the heads.
    """

    def __init__(self, states: Sequence[RandomState], device: torch.device) -> None:
        super().__init__()
        self._states = states
        self._device = device
        self._index: Tensor | None = None

    @contextmanager
    def of(self, index: Tensor) -> Iterator[None]:
        """Replace the functions.

        Args:
            index: Number of the head, an input of the function that vmap transforms.
        """
        self._index = index
        with self:
            yield

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES:
            once = kwargs.get("generator") is not None
            return self._draw(lambda: func(*args, **kwargs), once)
        if func in IN_PLACE:
            empty = _Like(args[0])
            draws = self._draw(lambda: func(empty.filled(0.0), *args[1:], **kwargs))
            return args[0].copy_(draws)
        if func is functional.dropout:
            return self._dropout(*args, **kwargs)
        if func is draw_ranks:
            return self._draw(lambda: func(*args))
        if func is draw_keep_mask:
            return self._keep_mask(*args, **kwargs)
        if func is gated_attn_pool:
            return self._trunk(*args, **kwargs)
        if func is bag_attn:
            return self._bag_attention(*args, **kwargs)
        if func is window_attn:
            return self._window_attention(*args, **kwargs)
        if func in BY_BAG:
            return self._by_bag(func, args, kwargs)
        if func is functional.linear and self._can_be_one_product(*args, **kwargs):
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            return over_heads(self._index, stacked_linear, args[0], args[1], bias)
        return func(*args, **kwargs)

    def _trunk(
        self,
        features: Tensor,
        weights: TrunkWeights,
        offsets: Tensor,
        mask: Mask | None,
        _: object,
        dropout: TrunkDropout,
    ) -> tuple[Tensor, Tensor, None]:
        """`gated_attn_pool`; a mask is called within vmap, for it may draw numbers."""
        reduce = partial(reduced_and_scored, dropout)
        keep = dropout.keep
        hidden, scores = over_heads(self._index, reduce, features, *keep, *weights)
        if mask is not None:
            # A mode is off while it handles a function.
            with self:
                scores = mask(scores)
        pool = partial(stacked_pooled, offsets.diff().tolist())
        pooled: Tensor = over_heads(self._index, pool, scores, hidden)
        return pooled, scores, None

    def _bag_attention(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        query_offsets: Tensor,
        key_offsets: Tensor,
        key_bias: Tensor | None,
        backend: Backend,
    ) -> tuple[Tensor, Tensor]:
        attend = partial(stacked_bag_attn, query_offsets, key_offsets, backend)
        both: tuple[Tensor, Tensor] = over_heads(
            self._index, attend, queries, keys, values, key_bias
        )
        return both

    def _window_attention(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        neighbours: Tensor,
        bias: Tensor,
        offsets: Tensor | None,
        backend: Backend,
    ) -> Tensor:
        attend = partial(stacked_window_attn, neighbours, offsets, backend)
        rows: Tensor = over_heads(self._index, attend, queries, keys, values, bias)
        return rows

    def _by_bag(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Tensor:
        tensors = [each for each in args if isinstance(each, Tensor)]
        options = args[len(tensors) :]

        def of_bags(*each: Tensor) -> Tensor:
            result: Tensor = func(*each, *options, **kwargs)
            return result

        result: Tensor = over_heads(self._index, partial(as_bags, of_bags), *tensors)
        return result

    def _can_be_one_product(self, rows: Tensor, weight: Tensor, *_: object, **__: object) -> bool:
        # Of a small layer the copies cost less than leaving vmap, about half a
        # millisecond. Autocast converts the arguments of torch's own function alone.
        is_large = rows.dim() > 1 and weight.numel() >= LEAST_WEIGHTS
        return is_large and not torch.is_autocast_enabled(self._device.type)

    def _dropout(
        self, values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return values
        like = _Like(values)
        # Torch itself multiplies by such a mask.
        return values * self._draw(lambda: functional.dropout(like.filled(1.0), p))

    def _keep_mask(self, rows: int, width: int, rate: float) -> KeepMask:
        scales: set[float] = set()

        def draw() -> Tensor:
            mask = draw_keep_mask(rows, width, rate)
            scales.add(mask.scale)
            return mask.keep

        keep = self._draw(draw)
        # It follows from the rate alone.
        (scale,) = scales
        return KeepMask(keep, scale)

    def _draw(self, draw: Callable[[], Tensor], once: bool = False) -> Tensor:
        """Draws of each head; `once`: the same for all, from a generator of the caller."""

        def draw_all() -> Tensor:
            if once:
                drawn = draw()
                return drawn.expand(len(self._states), *drawn.shape)
            draws: list[Tensor] = []
            with restored(self._device):
                for state in self._states:
                    with state.active():
                        draws.append(draw())
            return torch.stack(draws)

        drawn: Tensor = over_heads(self._index, draw_all)
        return drawn


class _Like:
    """Shape and type of the tensor of one head, read within vmap.

    Outside of vmap the tensor itself cannot be read any more.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._shape = tensor.shape
        self._dtype = tensor.dtype
        self._device = tensor.device

    def filled(self, value: float) -> Tensor:
        """New tensor that is this value everywhere."""
        return torch.full(self._shape, value, dtype=self._dtype, device=self._device)
