"""Linear layers of several heads within `torch.func.vmap`, without transposed copies.

Left to itself, vmap asks for the gradient of the transposed weights, and a copy of the
size of all parameters turns it back at every step.
"""

from typing import Any

import torch
from torch import Tensor


class StackedLinear(torch.autograd.Function):
    """``x Wᵀ + b`` of one head within vmap."""

    @staticmethod
    def forward(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Not called: outside of vmap torch's own layer computes."""
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: `BatchedLinear` has the gradient."""

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, rows: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, int]:
        """The layers of all heads as one batched product."""
        heads = info.batch_size
        rows_dim, weight_dim, bias_dim = in_dims
        weight = _batched(weight, weight_dim, heads)
        if bias is not None:
            bias = _batched(bias, bias_dim, heads)
        rows = _batched(rows, rows_dim, heads)
        shape = rows.shape
        out = BatchedLinear.apply(rows.flatten(1, -2) if rows.dim() > 3 else rows, weight, bias)
        return out.unflatten(1, shape[1:-1]) if rows.dim() > 3 else out, 0


class BatchedLinear(torch.autograd.Function):
    """``x_r W_rᵀ + b_r`` for each head r."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Rows [heads, rows, in], which may be expanded, to [heads, rows, out]."""
        ctx.save_for_backward(rows, weight)
        if bias is None:
            return torch.bmm(rows, weight.mT)
        return torch.baddbmm(bias[:, None], rows, weight.mT)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of rows, weights and biases."""
        rows, weight = ctx.saved_tensors
        (grad,) = grads
        needs_rows, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            torch.bmm(grad, weight) if needs_rows else None,
            torch.bmm(grad.mT, rows) if needs_weight else None,
            grad.sum(1) if needs_bias else None,
        )


def _batched(tensor: Tensor, dim: int | None, heads: int) -> Tensor:
    return tensor.expand(heads, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
