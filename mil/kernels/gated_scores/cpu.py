"""Gated scores on a CPU: a chunk of rows at a time, so that their gates stay in the caches.

The gates of a chunk are never kept; the gradient computes them again.
"""

import torch
from torch import Tensor

from mil.kernels.chunks import add_product, chunks
from mil.kernels.gated_scores.reference import GateWeights
from mil.kernels.gated_scores.sums import WeightGradients, stacked

# Bytes of the widest matrix of a chunk, hidden rows or gates: small enough for the
# caches.
CHUNK_BYTES = 4 << 20
aten = torch.ops.aten


class CpuGates:
    """Gates and scores of hidden rows, and their gradients; weights in the rows' type."""

    def __init__(self, weights: GateWeights, dtype: torch.dtype) -> None:
        cast = weights.to(dtype)
        self.attention = len(cast.value)
        self.score = cast.score
        self.weights = stacked(cast.value, cast.gate)  # [gates, hidden]
        self.biases = stacked(cast.value_bias, cast.gate_bias)

    def gated(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """``[v, u] = [tanh(V h + b), sigmoid(U h + c)]``, [rows, gates]."""
        gated = torch.addmm(self.biases, hidden, self.weights.T, out=out)
        gated[:, : self.attention].tanh_()
        gated[:, self.attention :].sigmoid_()
        return gated

    def values(self, gated: Tensor) -> Tensor:
        """``v ⊙ u``, [rows, attention]; v alone without a gate."""
        value = gated[:, : self.attention]
        gate = gated[:, self.attention :]
        return value * gate if gate.shape[1] else value

    def scores(self, gated: Tensor) -> Tensor:
        """Scores without their bias, [rows, branches]."""
        return torch.mm(self.values(gated), self.score.T)

    def backward(
        self,
        d_scores: Tensor,
        gated: Tensor,
        hidden: Tensor,
        sums: WeightGradients,
        out: Tensor,
        keep: Tensor | None = None,
    ) -> None:
        """Gradient of the gates before tanh and sigmoid; those of the parameters are added.

        With g = v ⊙ u: ``dg = ds w``, ``dv = dg ⊙ u (1 - v²)``, ``du = dg ⊙ v u (1 -
        u)``.

        Args:
            d_scores: [rows, branches], float32.
            gated: [rows, gates], from `gated`.
            hidden: [rows, hidden], hidden rows that the gates come from.
            sums: running sums, to which the parameters' gradients are added.
            out: [rows, gates], memory for the result.
            keep: [rows, attention], what dropout keeps of v ⊙ u; v in `gated` is then 0
                where it is dropped.
        """
        sums.score_bias.add_(d_scores.sum(0))
        d_scores = d_scores.to(gated.dtype)
        add_product(sums.score, d_scores.T, self.values(gated))
        d_values = torch.mm(d_scores, self.score)
        if keep is not None:
            d_values *= keep
        attention = self.attention
        value = gated[:, :attention]
        gate = gated[:, attention:]
        if gate.shape[1]:
            aten.sigmoid_backward.grad_input(d_values * value, gate, grad_input=out[:, attention:])
            d_values *= gate
        aten.tanh_backward.grad_input(d_values, value, grad_input=out[:, :attention])
        sums.biases.add_(out.sum(0, dtype=torch.float32))
        add_product(sums.gates, out.T, hidden)


def gated_scores_forward(hidden: Tensor, weights: GateWeights) -> Tensor:
    """Scores of hidden rows, [tiles, branches], float32."""
    gates = CpuGates(weights, hidden.dtype)
    scores = torch.empty(len(hidden), len(gates.score))
    # Autocast would cast a chunk's matrices once more, to a type of its own.
    with torch.autocast("cpu", enabled=False):
        for part in chunks(len(hidden), _chunk_rows(hidden, gates)):
            scores[part] = gates.scores(gates.gated(hidden[part]))
    return scores.add_(weights.score_bias)


def gated_scores_backward(
    hidden: Tensor, weights: GateWeights, d_scores: Tensor, d_hidden: Tensor | None
) -> WeightGradients:
    """Gradients of the parameters; that of the hidden rows is written into `d_hidden`.

    Args:
        hidden: [tiles, hidden].
        weights: parameters of the forward pass.
        d_scores: [tiles, branches], float32.
        d_hidden: memory of the shape of the hidden rows; None: not needed.
    """
    gates = CpuGates(weights, hidden.dtype)
    sums = WeightGradients.zeros(gates.weights, gates.score)
    rows = _chunk_rows(hidden, gates)
    chunk_d_gates = hidden.new_empty(min(rows, len(hidden)), len(gates.weights))
    with torch.autocast("cpu", enabled=False):
        for part in chunks(len(hidden), rows):
            gated = gates.gated(hidden[part])
            d_gates = chunk_d_gates[: part.stop - part.start]
            gates.backward(d_scores[part], gated, hidden[part], sums, d_gates)
            if d_hidden is not None:
                torch.mm(d_gates, gates.weights, out=d_hidden[part])
    return sums


def _chunk_rows(hidden: Tensor, gates: CpuGates) -> int:
    return max(1, CHUNK_BYTES // (hidden.itemsize * max(gates.weights.shape)))
