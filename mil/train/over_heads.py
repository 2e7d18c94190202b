"""Functions of all heads at once, called from the code of one head within `torch.func.vmap`.

Vmap transforms the operations of torch one by one. Some it does not know, and of a
linear layer it makes a product whose gradient has to be copied, transposed, at every
step. `OverHeads` leaves vmap for such a function.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class OverHeads(torch.autograd.Function):
    """Call ``function(*stacked)``, where the caller has the tensors of one head."""

    @staticmethod
    def forward(index: Tensor, function: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
        """Not called: `index` is always of a head within vmap."""
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: gradients are those of the function."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        index: Tensor,
        function: Callable[..., Tensor],
        *tensors: Tensor | None,
    ) -> tuple[Tensor, int]:
        """The function's result, with the heads as its first dimension."""
        stacked: list[Tensor | None] = []
        for tensor, dim in zip(tensors, in_dims[2:], strict=True):
            if tensor is None:
                stacked.append(None)
            elif dim is None:
                # The same for all heads; it is not copied.
                stacked.append(tensor.expand(info.batch_size, *tensor.shape))
            else:
                stacked.append(tensor.movedim(dim, 0))
        return function(*stacked), 0


def stacked_linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x_r W_rᵀ + b_r`` of each head r.

    Args:
        rows: [heads, ..., in], which may be expanded.
        weight: [heads, out, in].
        bias: [heads, out], or None.
    """
    inner = rows.shape[1:-1]
    out: Tensor = BatchedLinear.apply(rows.flatten(1, -2), weight, bias)
    return out.unflatten(1, inner)


def as_bags(function: Callable[..., Tensor], *stacked: Tensor) -> Tensor:
    """Function of tensors [bags, ...], bag by bag, applied to [heads, bags, ...]."""
    results = function(*(tensor.flatten(0, 1) for tensor in stacked))
    return results.unflatten(0, stacked[0].shape[:2])


class BatchedLinear(torch.autograd.Function):
    """Batched linear layer whose weights' gradient has their own layout."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Rows [heads, rows, in] to [heads, rows, out]."""
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
