"""Attention within a window as autograd functions: on a CPU, and by Triton.

Scores are computed again for the gradient: what is kept does not grow with the window.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mil.kernels.window_attn import cpu


class Saved(NamedTuple):
    """Tensors kept for the gradient."""

    queries: Tensor  # [rows, heads, width]
    keys: Tensor  # [rows, key heads, width]
    values: Tensor  # [rows, key heads, value width]
    neighbours: Tensor  # [window, rows]
    bias: Tensor  # [window, heads]
    rows: Tensor  # [rows, heads, value width], float32 at least
    lse: Tensor  # [rows, heads], float32 at least


class CpuWindowAttn(Function):
    """In plain torch; see `mil.kernels.window_attn.window_attn`."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        neighbours: Tensor,
        bias: Tensor,
        offsets: Tensor | None,
    ) -> Tensor:
        """Averaged rows."""
        given = cpu.Given(queries, keys, values, neighbours, bias)
        # In float32 whatever the type of the rows: autocast would take the products back.
        with torch.autocast("cpu", enabled=False):
            spans = cpu.spans_of(offsets, len(queries), len(neighbours))
            rows, lse = cpu.window_attn_forward(given, spans)
        ctx.spans = spans
        ctx.save_for_backward(*Saved(*given, rows, lse))
        return rows.to(values.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys, values and biases."""
        saved = Saved(*ctx.saved_tensors)
        given = cpu.Given(*saved[:5])
        with torch.autocast("cpu", enabled=False):
            of_sums = cpu.window_attn_backward(
                given, ctx.spans, saved.rows, saved.lse, d_rows=grads[0]
            )
        return (
            of_sums.queries.to(saved.queries.dtype),
            of_sums.keys.to(saved.keys.dtype),
            of_sums.values.to(saved.values.dtype),
            None,
            of_sums.bias.to(saved.bias.dtype),
            None,
        )


class TritonWindowAttn(Function):
    """By Triton; see `mil.kernels.window_attn.window_attn`."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        neighbours: Tensor,
        bias: Tensor,
        scale: float,
    ) -> Tensor:
        """Averaged rows."""
        # Imported here and below: Triton exists on Linux alone.
        from mil.kernels.window_attn.triton import Given, window_attn_forward

        inputs = (queries, keys, values, neighbours, bias)
        given = Given(*(tensor.contiguous() for tensor in inputs))
        out, lse = window_attn_forward(given, scale)
        ctx.scale = scale
        ctx.save_for_backward(*given, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys, values and biases."""
        from mil.kernels.window_attn.triton import Given, window_attn_backward

        *given, out, lse = ctx.saved_tensors
        d_out = grads[0].contiguous()
        *of_rows, d_bias = window_attn_backward(Given(*given), out, lse, ctx.scale, d_out)
        return (*of_rows, None, d_bias, None)
