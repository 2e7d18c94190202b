"""What reducing, scoring and pooling a bag means."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mil.kernels.attn_pool import attn_pool

Mask = Callable[[Tensor], Tensor]


class Weights(NamedTuple):
    """Parameters of a reducer and of gated scores, in the order of the operation's gradients."""

    reducer: Float[Tensor, "hidden dim"]
    value: Float[Tensor, "attention hidden"]
    value_bias: Float[Tensor, " attention"]
    gate: Float[Tensor, "attention hidden"] | None  # none: tanh alone
    gate_bias: Float[Tensor, " attention"] | None
    score: Float[Tensor, "branches attention"]
    score_bias: Float[Tensor, " branches"]

    def to(self, dtype: torch.dtype) -> "Weights":
        """The same in another type."""
        gate, gate_bias = (None if tensor is None else tensor.to(dtype) for tensor in (self.gate, self.gate_bias))
        value, value_bias = self.value.to(dtype), self.value_bias.to(dtype)
        score, score_bias = self.score.to(dtype), self.score_bias.to(dtype)
        return Weights(self.reducer.to(dtype), value, value_bias, gate, gate_bias, score, score_bias)


def gated_attn_pool_reference(
    features: Float[Tensor, "tiles dim"],
    weights: Weights,
    offsets: Int[Tensor, " bags_plus_1"],
    mask: Mask | None = None,
) -> tuple[Float[Tensor, "bags branches hidden"], Float[Tensor, "tiles branches"]]:
    """Reduce the tiles, score them, put other scores in the place of some, pool each bag by what came of it."""
    cast = weights.to(features.dtype)
    hidden = functional.linear(features, cast.reducer).relu()
    values = torch.tanh(functional.linear(hidden, cast.value, cast.value_bias))
    if cast.gate is not None:
        values = values * torch.sigmoid(functional.linear(hidden, cast.gate, cast.gate_bias))
    scores = _at_least_float32(functional.linear(values, cast.score, cast.score_bias))
    if mask is not None:
        scores = mask(scores)
    return _at_least_float32(attn_pool(scores, hidden, offsets)), scores


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
