"""Definition of gated scores, in plain torch."""

from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from mil.kernels.dispatch import at_least_float32


class GateWeights(NamedTuple):
    """Parameters of gated scores, in the order of the operation's gradients."""

    value: Float[Tensor, "attention hidden"]
    value_bias: Float[Tensor, " attention"]
    gate: Float[Tensor, "attention hidden"] | None  # None: tanh alone
    gate_bias: Float[Tensor, " attention"] | None
    score: Float[Tensor, "branches attention"]
    score_bias: Float[Tensor, " branches"]

    def to(self, dtype: torch.dtype) -> "GateWeights":
        """These weights in another type."""
        gate = None if self.gate is None else self.gate.to(dtype)
        gate_bias = None if self.gate_bias is None else self.gate_bias.to(dtype)
        return GateWeights(
            value=self.value.to(dtype),
            value_bias=self.value_bias.to(dtype),
            gate=gate,
            gate_bias=gate_bias,
            score=self.score.to(dtype),
            score_bias=self.score_bias.to(dtype),
        )


def gated_scores_reference(
    hidden: Float[Tensor, "tiles hidden"],
    weights: GateWeights,
    keep: UInt8[Tensor, "tiles attention"] | None = None,
) -> Float[Tensor, "tiles branches"]:
    """``s = w (v ⊙ u) + d``, ``v = tanh(V h + b)``, ``u = sigmoid(U h + c)``; at least float32.

    With `keep` (dropout, 1: kept) ``v ⊙ u ⊙ keep`` in place of ``v ⊙ u``.
    """
    cast = weights.to(hidden.dtype)
    values = torch.tanh(functional.linear(hidden, cast.value, cast.value_bias))
    if cast.gate is not None:
        values = values * torch.sigmoid(functional.linear(hidden, cast.gate, cast.gate_bias))
    if keep is not None:
        values = values * keep
    return at_least_float32(functional.linear(values, cast.score, cast.score_bias))
