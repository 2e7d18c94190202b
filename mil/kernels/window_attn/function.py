"""Attention within a window as autograd functions: tiled in plain torch, and by Triton.

Tiled, a chunk of the rows and a place of the window at a time fits a cache. Scores are computed
again for the gradient: what is kept does not grow with the window.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mil.kernels.chunks import chunks

CHUNK_ROWS = 256


class Saved(NamedTuple):
    """Tensors kept for the gradient."""

    queries: Tensor  # [rows, heads, width]
    keys: Tensor  # [rows, key heads, width]
    values: Tensor  # [rows, key heads, value width]
    neighbours: Tensor  # [window, rows]
    bias: Tensor  # [window, heads]
    rows: Tensor  # [rows, heads, value width], float32
    lse: Tensor  # [rows, heads], float32


class TiledWindowAttn(Function):
    """See `mil.kernels.window_attn.window_attn`."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, neighbours: Tensor, bias: Tensor
    ) -> Tensor:
        """Averaged rows."""
        rows = queries.new_empty(*queries.shape[:2], values.shape[2], dtype=torch.float32)
        lse = rows.new_empty(queries.shape[:2])
        for chunk in chunks(len(queries), CHUNK_ROWS):
            given = (queries[chunk], keys, values, neighbours[:, chunk], bias)
            rows[chunk], lse[chunk] = _attended(*given)
        saved = Saved(queries, keys, values, neighbours, bias, rows, lse)
        ctx.save_for_backward(*saved)
        return rows.to(values.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys, values and biases."""
        saved = Saved(*ctx.saved_tensors)
        d_queries = torch.empty_like(saved.queries)
        dk = torch.zeros_like(saved.keys, dtype=torch.float32)
        dv = torch.zeros_like(saved.values, dtype=torch.float32)
        d_bias = torch.zeros_like(saved.bias, dtype=torch.float32)
        for chunk in chunks(len(saved.queries), CHUNK_ROWS):
            of_chunk = saved._replace(
                queries=saved.queries[chunk],
                neighbours=saved.neighbours[:, chunk],
                rows=saved.rows[chunk],
                lse=saved.lse[chunk],
            )
            d_queries[chunk] = _chunk_backward(of_chunk, grads[0][chunk], dk, dv, d_bias)
        return (
            d_queries,
            dk.to(saved.keys.dtype),
            dv.to(saved.values.dtype),
            None,
            d_bias.to(saved.bias.dtype),
        )


def _attended(
    queries: Tensor, keys: Tensor, values: Tensor, neighbours: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Averaged rows of some queries, and the log-sum-exps of their scores."""
    q = _scaled(queries, keys.shape[1])
    m = q.new_full(q.shape[:3], -torch.inf)
    l = torch.zeros_like(m)  # noqa: E741
    acc = q.new_zeros(*q.shape[:3], values.shape[2])
    for place, row_bias in zip(neighbours, _by_key_head(bias, keys.shape[1]), strict=True):
        s, v = _scores(q, _taken(keys, place), place, row_bias), _taken(values, place)
        m_next = torch.maximum(m, s)
        factor = _exp_of_difference(m, m_next)
        p = _exp_of_difference(s, m_next)
        l = l * factor + p  # noqa: E741
        acc = acc * factor[..., None] + p[..., None] * v
        m = m_next
    return (acc / l[..., None]).flatten(1, 2), (m + l.log()).flatten(1, 2)


def _chunk_backward(saved: Saved, d_rows: Tensor, dk: Tensor, dv: Tensor, d_bias: Tensor) -> Tensor:
    """Gradient of some queries; their part of those of keys, values and biases is added."""
    key_heads = saved.keys.shape[1]
    q = _scaled(saved.queries, key_heads)
    do = d_rows.float().unflatten(1, (key_heads, -1))
    lse = saved.lse.unflatten(1, (key_heads, -1))
    delta = (do * saved.rows.unflatten(1, (key_heads, -1))).sum(-1)
    dq = torch.zeros_like(q)
    of_places = zip(saved.neighbours, _by_key_head(saved.bias, key_heads), d_bias, strict=True)
    for place, row_bias, d_row_bias in of_places:
        k, v = _taken(saved.keys, place), _taken(saved.values, place)
        # Where there is no neighbour the score is minus infinity, and p is 0.
        p = (_scores(q, k, place, row_bias) - lse).exp()
        ds = p * ((do * v).sum(-1) - delta)
        dq += ds[..., None] * k
        index = place.clamp(min=0)
        dk.index_add_(0, index, (ds[..., None] * q).sum(2))
        dv.index_add_(0, index, (p[..., None] * do).sum(2))
        d_row_bias += ds.sum(0).flatten()
    return dq.flatten(1, 2) * saved.queries.shape[2] ** -0.5


def _scaled(queries: Tensor, key_heads: int) -> Tensor:
    """Queries [rows, key heads, heads a key head, width], divided by sqrt(width), float32."""
    scaled = queries.float() * queries.shape[2] ** -0.5
    return scaled.unflatten(1, (key_heads, -1))


def _by_key_head(bias: Tensor, key_heads: int) -> Tensor:
    return bias.float().unflatten(1, (key_heads, -1))


def _taken(rows: Tensor, place: Tensor) -> Tensor:
    """Rows at a place of the window [rows, key heads, 1, width], float32; any row for none."""
    return rows.index_select(0, place.clamp(min=0)).float()[:, :, None]


def _scores(q: Tensor, k: Tensor, place: Tensor, bias: Tensor) -> Tensor:
    """Scores [rows, key heads, heads a key head]; minus infinity where there is no neighbour."""
    scores = (q * k).sum(-1) + bias
    return scores.masked_fill(place[:, None, None] < 0, -torch.inf)


def _exp_of_difference(value: Tensor, largest: Tensor) -> Tensor:
    """``exp(value - largest)``; 0 where both are minus infinity."""
    return (value - largest).nan_to_num(nan=-torch.inf).exp()


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
