"""Gated scores as autograd functions: tiled on a CPU, and by Triton.

Both save their inputs alone; the gradient computes the gates again.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.gated_scores import cpu
from mil.kernels.gated_scores.reference import GateWeights
from mil.kernels.gated_scores.sums import WeightGradients


class Saved(NamedTuple):
    """Tensors kept for the gradient."""

    hidden: Tensor
    weights: GateWeights

    def pack(self) -> tuple[Tensor | None, ...]:
        """Flat, for `save_for_backward`."""
        return self.hidden, *self.weights

    @classmethod
    def unpack(cls, tensors: tuple[Any, ...]) -> "Saved":
        """Inverse of `pack`."""
        hidden, *weights = tensors
        return cls(hidden, GateWeights(*weights))


class CpuGatedScores(torch.autograd.Function):
    """Gated scores, tiled on a CPU; see `mil.kernels.gated_scores.gated_scores`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *parameters: Any) -> Tensor:
        """Scores, [tiles, branches]."""
        weights = GateWeights(*parameters)
        ctx.save_for_backward(*Saved(hidden, weights).pack())
        return cpu.gated_scores_forward(hidden, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of hidden rows and weights."""
        hidden, weights = Saved.unpack(ctx.saved_tensors)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        sums = cpu.gated_scores_backward(hidden, weights, grads[0], d_hidden)
        return d_hidden, *sums.by_parameter()


class GatedScoresFunction(torch.autograd.Function):
    """Gated scores by Triton; see `mil.kernels.gated_scores.gated_scores`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *parameters: Any) -> Tensor:
        """Scores, [tiles, branches]."""
        # Imported here and below: Triton exists on Linux alone.
        from mil.kernels.gated_scores.triton import GpuGates, gated_scores_forward

        weights = GateWeights(*parameters)
        hidden = hidden.contiguous()
        ctx.save_for_backward(*Saved(hidden, weights).pack())
        scores = hidden.new_empty(len(hidden), len(weights.score), dtype=torch.float32)
        gated_scores_forward(hidden, GpuGates.of(weights, hidden.dtype), scores)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of hidden rows and weights, each in its own type."""
        from mil.kernels.gated_scores.triton import GpuGates, gated_scores_backward

        hidden, weights = Saved.unpack(ctx.saved_tensors)
        gates = GpuGates.of(weights, hidden.dtype)
        sums = WeightGradients.zeros(gates.weights, gates.score)
        d_scores = grads[0].contiguous()
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        with torch.autocast(hidden.device.type, enabled=False):
            gated_scores_backward(hidden, gates, d_scores, d_hidden, sums, add=False)
        return d_hidden, *cast_like(sums.by_parameter(), weights)


def cast_like(
    grads: tuple[Tensor | None, ...], weights: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """Each gradient in the type of its parameter; None for an absent one."""
    return tuple(
        None if grad is None or weight is None else grad.to(weight.dtype)
        for grad, weight in zip(grads, weights, strict=True)
    )
