"""Attention between segments on a CPU, a block of queries and a block of keys at a time.

No map of queries by keys is ever in memory; for the gradient it is computed again. The
notation is that of FlashAttention, Dao 2023, https://arxiv.org/abs/2307.08691.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Rows of a block; a block's scores of 8 heads take 8 MB.
QUERY_BLOCK = 256
KEY_BLOCK = 1024


class _Segment(NamedTuple):
    """Rows of a segment by key head, float32; queries of the heads that share it end to end."""

    q: Tensor  # [key heads, queries * heads a key head, width], divided by sqrt(width)
    k: Tensor  # [key heads, keys, width]
    v: Tensor  # [key heads, keys, value width]
    bias: Tensor | None  # [key heads, 1, keys]


def _by_key_head(rows: Tensor, key_heads: int) -> Tensor:
    """Rows [rows, heads, width] to [key heads, heads a key head * rows, width]."""
    count, heads, width = rows.shape
    grouped = rows.view(count, key_heads, heads // key_heads, width)
    return grouped.permute(1, 2, 0, 3).reshape(key_heads, -1, width)


def _by_row(grouped: Tensor, rows: int) -> Tensor:
    """Inverse of `_by_key_head`."""
    key_heads, _, width = grouped.shape
    return grouped.view(key_heads, -1, rows, width).permute(2, 0, 1, 3).reshape(rows, -1, width)


def _segment(queries: Tensor, keys: Tensor, values: Tensor, key_bias: Tensor | None) -> _Segment:
    scale = queries.shape[2] ** -0.5
    return _Segment(
        q=_by_key_head(queries.float() * scale, keys.shape[1]),
        k=keys.float().transpose(0, 1),
        v=values.float().transpose(0, 1),
        bias=None if key_bias is None else key_bias.float().T[:, None],
    )


def _blocks(rows: int, size: int) -> Iterator[slice]:
    for first in range(0, rows, size):
        yield slice(first, min(first + size, rows))


def _slices(query_offsets: Tensor, key_offsets: Tensor) -> Iterator[tuple[slice, slice]]:
    """Queries and keys of each segment that has queries."""
    q_ends = query_offsets.tolist()
    k_ends = key_offsets.tolist()
    for number in range(len(q_ends) - 1):
        if q_ends[number + 1] > q_ends[number]:
            of_queries = slice(q_ends[number], q_ends[number + 1])
            yield of_queries, slice(k_ends[number], k_ends[number + 1])


def bag_attn_forward(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    key_bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Rows [queries, heads, value width] and log-sum-exps [queries, heads], float32."""
    heads = queries.shape[1]
    rows = values.new_zeros(len(queries), heads, values.shape[2], dtype=torch.float32)
    lse = rows.new_full((len(queries), heads), -torch.inf)
    for of_queries, of_keys in _slices(query_offsets, key_offsets):
        bias = None if key_bias is None else key_bias[of_keys]
        count = of_queries.stop - of_queries.start
        segment = _segment(queries[of_queries], keys[of_keys], values[of_keys], bias)
        o, log = _attend(segment)
        rows[of_queries] = _by_row(o, count)
        lse[of_queries] = _by_row(log, count)[..., 0]
    return rows, lse


def _attend(segment: _Segment) -> tuple[Tensor, Tensor]:
    """Rows [key heads, queries, value width] and log-sum-exps [key heads, queries, 1]."""
    parts = [_attend_block(segment, block) for block in _blocks(segment.q.shape[1], QUERY_BLOCK)]
    rows, logs = zip(*parts, strict=True)
    return torch.cat(rows, 1), torch.cat(logs, 1)


def _attend_block(segment: _Segment, block: slice) -> tuple[Tensor, Tensor]:
    q = segment.q[:, block]
    m = q.new_full((*q.shape[:2], 1), -torch.inf)
    l = torch.zeros_like(m)  # noqa: E741
    acc = q.new_zeros(*q.shape[:2], segment.v.shape[2])
    for keys in _blocks(segment.k.shape[1], KEY_BLOCK):
        s = _scores(segment, q, keys)
        m_next = torch.maximum(m, s.amax(-1, keepdim=True))
        p = s.sub_(m_next).exp_()
        factor = (m - m_next).exp_()
        l = l.mul_(factor).add_(p.sum(-1, keepdim=True))  # noqa: E741
        acc = acc.mul_(factor).baddbmm_(p, segment.v[:, keys])
        m = m_next
    if segment.k.shape[1] == 0:
        return acc, m
    return acc.div_(l), m + l.log()


def _scores(segment: _Segment, q: Tensor, keys: slice) -> Tensor:
    k = segment.k[:, keys].mT
    if segment.bias is None:
        return torch.bmm(q, k)
    return torch.baddbmm(segment.bias[:, :, keys], q, k)


class Gradients(NamedTuple):
    """Gradients of the inputs, float32."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    key_bias: Tensor | None


def bag_attn_backward(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    key_bias: Tensor | None,
    rows: Tensor,
    lse: Tensor,
    d_rows: Tensor,
    d_lse: Tensor,
) -> Gradients:
    """Gradients of queries, keys, values and biases.

    Args:
        queries: [queries, heads, width].
        keys: [keys, key heads, width].
        values: [keys, key heads, value width].
        query_offsets: [segments + 1].
        key_offsets: [segments + 1].
        key_bias: [keys, key heads], or None.
        rows: [queries, heads, value width], from the forward pass.
        lse: [queries, heads], from the forward pass.
        d_rows: Gradient of `rows`.
        d_lse: Gradient of `lse`.
    """
    d_queries = torch.zeros_like(queries, dtype=torch.float32)
    d_keys = torch.zeros_like(keys, dtype=torch.float32)
    d_values = torch.zeros_like(values, dtype=torch.float32)
    d_bias = None if key_bias is None else torch.zeros_like(key_bias, dtype=torch.float32)
    key_heads = keys.shape[1]
    d_rows = d_rows.float()
    # The log-sum-exp depends on the scores by p: its gradient counts against delta.
    delta = (d_rows * rows).sum(-1) - d_lse
    scale = queries.shape[2] ** -0.5
    for of_queries, of_keys in _slices(query_offsets, key_offsets):
        if of_keys.stop == of_keys.start:
            continue
        bias = None if key_bias is None else key_bias[of_keys]
        segment = _segment(queries[of_queries], keys[of_keys], values[of_keys], bias)
        do = _by_key_head(d_rows[of_queries], key_heads)
        log = _by_key_head(lse[of_queries, :, None], key_heads)
        of_segment = _segment_backward(
            segment, do, log, _by_key_head(delta[of_queries, :, None], key_heads)
        )
        count = of_queries.stop - of_queries.start
        d_queries[of_queries] = _by_row(of_segment.queries, count) * scale
        d_keys[of_keys] = of_segment.keys.transpose(0, 1)
        d_values[of_keys] = of_segment.values.transpose(0, 1)
        if d_bias is not None and of_segment.key_bias is not None:
            d_bias[of_keys] = of_segment.key_bias.T
    return Gradients(d_queries, d_keys, d_values, d_bias)


def _segment_backward(segment: _Segment, do: Tensor, lse: Tensor, delta: Tensor) -> Gradients:
    """Gradients of a segment's scaled queries, keys, values and biases, by key head."""
    dq = torch.zeros_like(segment.q)
    dk = torch.zeros_like(segment.k)
    dv = torch.zeros_like(segment.v)
    d_bias = segment.k.new_zeros(segment.k.shape[:2])
    for block in _blocks(segment.q.shape[1], QUERY_BLOCK):
        q = segment.q[:, block]
        for keys in _blocks(segment.k.shape[1], KEY_BLOCK):
            p = _scores(segment, q, keys).sub_(lse[:, block]).exp_()
            dv[:, keys].baddbmm_(p.mT, do[:, block])
            dp = torch.bmm(do[:, block], segment.v[:, keys].mT)
            ds = dp.sub_(delta[:, block]).mul_(p)
            dq[:, block].baddbmm_(ds, segment.k[:, keys])
            dk[:, keys].baddbmm_(ds.mT, q)
            d_bias[:, keys] += ds.sum(1)
    return Gradients(dq, dk, dv, None if segment.bias is None else d_bias)
