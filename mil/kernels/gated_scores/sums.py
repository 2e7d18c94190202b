"""Gradients of the parameters of gated scores, summed over chunks of tiles."""

from typing import NamedTuple

import torch
from torch import Tensor


class WeightGradients(NamedTuple):
    """Running sums of the parameters' gradients, float32."""

    gates: Tensor  # [gates, hidden]: rows of V, then rows of U
    # [branches * attention + gates + branches]: one memory, so that one addition sums
    # the three below.
    flat: Tensor
    score: Tensor  # [branches, attention], view of the first part of `flat`
    biases: Tensor  # [gates], view of the second
    score_bias: Tensor  # [branches], view of the last

    @classmethod
    def zeros(cls, gates: Tensor, score: Tensor) -> "WeightGradients":
        """Sums of nothing yet, for weights of these shapes.

        Args:
            gates: [gates, hidden], both gates' weights.
            score: [branches, attention].
        """
        sizes = [score.numel(), len(gates), len(score)]
        flat = gates.new_zeros(sum(sizes), dtype=torch.float32)
        weights, biases, score_bias = flat.split(sizes)
        return cls(
            gates=torch.zeros_like(gates, dtype=torch.float32),
            flat=flat,
            score=weights.view(score.shape),
            biases=biases,
            score_bias=score_bias,
        )

    def by_parameter(self) -> tuple[Tensor | None, ...]:
        """Gradients in the order of `GateWeights`."""
        attention = self.score.shape[1]
        gate = None
        gate_bias = None
        if attention < len(self.gates):
            gate = self.gates[attention:]
            gate_bias = self.biases[attention:]
        value = self.gates[:attention]
        value_bias = self.biases[:attention]
        return value, value_bias, gate, gate_bias, self.score, self.score_bias


def stacked(value: Tensor, gate: Tensor | None) -> Tensor:
    """Both gates' weights or biases, one below the other: one product then gives both."""
    return value if gate is None else torch.cat([value, gate])
