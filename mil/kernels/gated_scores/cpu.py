"""Gated scores on a CPU: some rows at a time, so that their gates stay in the caches and are never kept."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.gated_scores.common import GateSums, add_product, chunks, joined
from mil.kernels.gated_scores.reference import GateWeights

CHUNK_BYTES = 4 << 20  # of the widest that a chunk's rows have: small enough for the caches
aten = torch.ops.aten


class Gates:
    """Gates and scores of some hidden rows, and their gradient; weights of the rows' type."""

    def __init__(self, weights: GateWeights, dtype: torch.dtype) -> None:
        cast = weights.to(dtype)
        self.attention = len(cast.value)
        self.score = cast.score
        self.weights = joined(cast.value, cast.gate)  # [gates, hidden]
        self.biases = joined(cast.value_bias, cast.gate_bias)

    def gated(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """``[tanh, sigmoid]`` of some rows [rows, gates]."""
        gated = torch.addmm(self.biases, hidden, self.weights.T, out=out)
        gated[:, : self.attention].tanh_()
        gated[:, self.attention :].sigmoid_()
        return gated

    def values(self, gated: Tensor) -> Tensor:
        """What is scored."""
        value = gated[:, : self.attention]
        gate = gated[:, self.attention :]
        return value * gate if gate.shape[1] else value

    def scores(self, gated: Tensor) -> Tensor:
        """Scores without their bias."""
        return torch.mm(self.values(gated), self.score.T)

    def back(
        self, d_scores: Tensor, gated: Tensor, hidden: Tensor, sums: GateSums, out: Tensor
    ) -> None:
        """The gradient of gates before tanh and sigmoid, from that of the scores in float32; and those of parameters.

        Args:
            d_scores: [rows, branches].
            gated: of the same rows.
            hidden: of the same rows.
            sums: to add the parameters' gradients to.
            out: [rows, gates], where that of the gates goes.
        """
        sums.score_bias.add_(d_scores.sum(0))
        d_scores = d_scores.to(gated.dtype)
        add_product(sums.score, d_scores.T, self.values(gated))
        d_values = torch.mm(d_scores, self.score)
        middle = self.attention
        value = gated[:, :middle]
        gate = gated[:, middle:]
        if gate.shape[1]:
            aten.sigmoid_backward.grad_input(d_values * value, gate, grad_input=out[:, middle:])
            d_values *= gate
        aten.tanh_backward.grad_input(d_values, value, grad_input=out[:, :middle])
        sums.biases.add_(out.sum(0, dtype=torch.float32))
        add_product(sums.gates, out.T, hidden)


class ChunkedGatedScores(torch.autograd.Function):
    """Gated scores with their gradient; see `mil.kernels.gated_scores.gated_scores`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *given: Any) -> Tensor:
        """Score, and keep nothing but what was given."""
        weights = GateWeights(*given)
        ctx.save_for_backward(hidden, *weights)
        gates = Gates(weights, hidden.dtype)
        scores = torch.empty(len(hidden), len(gates.score))
        with torch.autocast("cpu", enabled=False):
            for part in chunks(len(hidden), _rows(hidden, gates)):
                scores[part] = gates.scores(gates.gated(hidden[part]))
        return scores.add_(weights.score_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of hidden rows and weights."""
        hidden, *given = ctx.saved_tensors
        gates = Gates(GateWeights(*given), hidden.dtype)
        sums = GateSums.zeros(gates.weights, gates.score)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        rows = _rows(hidden, gates)
        d_gates = hidden.new_empty(min(rows, len(hidden)), len(gates.weights))
        with torch.autocast("cpu", enabled=False):
            for part in chunks(len(hidden), rows):
                gated = gates.gated(hidden[part])
                of_part = d_gates[: part.stop - part.start]
                gates.back(grads[0][part], gated, hidden[part], sums, of_part)
                if d_hidden is not None:
                    torch.mm(of_part, gates.weights, out=d_hidden[part])
        return d_hidden, *sums.named()


def _rows(hidden: Tensor, gates: Gates) -> int:
    return max(1, CHUNK_BYTES // (hidden.itemsize * max(gates.weights.shape)))
