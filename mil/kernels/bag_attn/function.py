"""Attention between segments as an autograd function, tiled on a CPU."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mil.kernels.bag_attn import cpu


class Saved(NamedTuple):
    """Tensors kept for the gradient."""

    queries: Tensor  # [queries, heads, width]
    keys: Tensor  # [keys, key heads, width]
    values: Tensor  # [keys, key heads, value width]
    query_offsets: Tensor  # [segments + 1]
    key_offsets: Tensor  # [segments + 1]
    key_bias: Tensor | None  # [keys, key heads]
    rows: Tensor  # [queries, heads, value width], float32; by Triton in the type of the values
    lse: Tensor  # [queries, heads], float32


class CpuBagAttn(Function):
    """Tiled on a CPU; see `mil.kernels.bag_attn.bag_attn`."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        query_offsets: Tensor,
        key_offsets: Tensor,
        key_bias: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Rows and log-sum-exps."""
        # In float32 whatever the type of the rows: autocast would take the products back.
        with torch.autocast("cpu", enabled=False):
            per_key_head = queries.shape[1] // keys.shape[1]
            pairs = cpu.blocks_of(query_offsets, key_offsets, per_key_head)
            rows, lse = cpu.bag_attn_forward(queries, keys, values, pairs, key_bias)
        ctx.pairs = pairs
        saved = Saved(queries, keys, values, query_offsets, key_offsets, key_bias, rows, lse)
        ctx.save_for_backward(*saved)
        return rows.to(values.dtype), lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys, values and biases."""
        saved = Saved(*ctx.saved_tensors)
        d_rows, d_lse = grads
        with torch.autocast("cpu", enabled=False):
            gradients = cpu.bag_attn_backward(
                *saved[:3],
                ctx.pairs,
                saved.key_bias,
                saved.rows,
                saved.lse,
                d_rows=d_rows,
                d_lse=d_lse,
            )
        d_bias = gradients.key_bias
        return (
            gradients.queries.to(saved.queries.dtype),
            gradients.keys.to(saved.keys.dtype),
            gradients.values.to(saved.values.dtype),
            None,
            None,
            None if d_bias is None or saved.key_bias is None else d_bias.to(saved.key_bias.dtype),
        )


class TritonBagAttn(Function):
    """By Triton; see `mil.kernels.bag_attn.bag_attn`."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        query_offsets: Tensor,
        key_offsets: Tensor,
        key_bias: Tensor | None,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        """Rows, in the type of the values, and log-sum-exps."""
        # Imported here and below: Triton exists on Linux alone.
        from mil.kernels.bag_attn.triton_forward import bag_attn_forward

        given = (
            queries.contiguous(),
            keys.contiguous(),
            values.contiguous(),
            query_offsets.contiguous(),
            key_offsets.contiguous(),
            None if key_bias is None else key_bias.contiguous(),
        )
        rows, lse = bag_attn_forward(*given, scale)
        ctx.scale = scale
        ctx.save_for_backward(*given, rows, lse)
        return rows, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys, values and biases."""
        from mil.kernels.bag_attn.triton_backward import bag_attn_backward

        d_rows, d_lse = (grad.contiguous() for grad in grads)
        saved = Saved(*ctx.saved_tensors)
        gradients = bag_attn_backward(*saved, scale=ctx.scale, d_rows=d_rows, d_lse=d_lse)
        return (*gradients[:3], None, None, gradients.key_bias, None)
