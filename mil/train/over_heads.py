"""Functions of all heads at once, called from the code of one head within `torch.func.vmap`.

Vmap transforms the operations of torch one by one. Some it does not know, and of a
linear layer it makes a product whose gradient has to be copied, transposed, at every
step. `over_heads` leaves vmap for such a function.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Results = Tensor | tuple[Tensor, ...]


def over_heads(
    index: Tensor | None, function: Callable[..., Results], *tensors: Tensor | None
) -> Any:
    """Results of ``function(*stacked)``, from the tensors that the code of one head has.

    An autograd function with a rule for vmap does the same, but takes about half a
    millisecond a call. That the tensors of torch behave as assumed here is what
    `mil.train.stack_size.can_stack` tries for each recipe.

    Args:
        index: Number of the head, which vmap batches; None, outside of vmap, is an error.
        function: Function of tensors whose first dimension are the heads; tensors that
            are the same for all heads come expanded.
        tensors: Tensors of one head.
    """
    # Not public: if a release of torch has others, the trial fails and heads train apart.
    from torch._C import _functorch as functorch
    from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack

    assert index is not None
    level = functorch.maybe_get_level(index)
    count = len(functorch.get_unwrapped(index))
    stacked = [
        None if each is None else _stacked(each, functorch, level, count) for each in tensors
    ]
    with temporarily_pop_interpreter_stack():
        results = function(*stacked)
    if isinstance(results, Tensor):
        return functorch._add_batch_dim(results, 0, level)
    return tuple(functorch._add_batch_dim(result, 0, level) for result in results)


def _stacked(tensor: Tensor, functorch: Any, level: int, count: int) -> Tensor:
    if functorch.maybe_get_level(tensor) != level:
        # The same for all heads; it is not copied.
        return tensor.expand(count, *tensor.shape)
    dim = functorch.maybe_get_bdim(tensor)
    whole: Tensor = functorch.get_unwrapped(tensor)
    return whole if dim == 0 else whole.movedim(dim, 0)


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
