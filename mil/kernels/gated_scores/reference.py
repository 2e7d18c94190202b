"""What gated scores mean."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mil.kernels.precision import at_least_float32


class GateWeights(NamedTuple):
    """Parameters of gated scores, in the order of the operation's gradients."""

    value: Float[Tensor, "attention hidden"]
    value_bias: Float[Tensor, " attention"]
    gate: Float[Tensor, "attention hidden"] | None  # none: tanh alone
    gate_bias: Float[Tensor, " attention"] | None
    score: Float[Tensor, "branches attention"]
    score_bias: Float[Tensor, " branches"]

    def to(self, dtype: torch.dtype) -> "GateWeights":
        """The same in another type."""
        gate, gate_bias = (
            None if tensor is None else tensor.to(dtype) for tensor in (self.gate, self.gate_bias)
        )
        score = self.score.to(dtype)
        score_bias = self.score_bias.to(dtype)
        return GateWeights(
            self.value.to(dtype), self.value_bias.to(dtype), gate, gate_bias, score, score_bias
        )


def gated_scores_reference(
    hidden: Float[Tensor, "tiles hidden"], weights: GateWeights
) -> Float[Tensor, "tiles branches"]:
    """Two layers over each tile, one multiplied by the other, then one score a branch; float32 at least."""
    cast = weights.to(hidden.dtype)
    values = torch.tanh(functional.linear(hidden, cast.value, cast.value_bias))
    if cast.gate is not None:
        values = values * torch.sigmoid(functional.linear(hidden, cast.gate, cast.gate_bias))
    return at_least_float32(functional.linear(values, cast.score, cast.score_bias))
