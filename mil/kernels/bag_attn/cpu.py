"""Attention between segments on a CPU, a tile of queries and a tile of keys at a time.

No map of queries by keys is ever in memory; for the gradient it is computed again. Short
segments of like length are computed together, see `mil.kernels.padding`. The notation is that of FlashAttention, Dao 2023, https://arxiv.org/abs/2307.08691.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mil.kernels.dispatch import at_least_float32
from mil.kernels.padding import Padding, Pair

# Rows of a tile; a tile's scores of 8 heads take 8 MB.
QUERY_BLOCK = 256
KEY_BLOCK = 1024


class _Block(NamedTuple):
    """Rows of a block of segments by segment and key head, float32 at least.

    Queries of the heads that share a key head lie end to end. Places after the end of a
    segment hold zeros, and have a bias of minus infinity as keys.
    """

    q: Tensor  # [segments * key heads, heads a key head * queries, width], by sqrt(width)
    k: Tensor  # [segments * key heads, keys, width]
    v: Tensor  # [segments * key heads, keys, value width]
    bias: Tensor | None  # [segments * key heads, 1, keys]


def _by_key_head(rows: Tensor, key_heads: int) -> Tensor:
    """Rows [segments, rows, heads, ...] to [segments * key heads, heads a key head * rows, ...]."""
    grouped = rows.unflatten(2, (key_heads, -1)).movedim(1, 3)
    return grouped.flatten(2, 3).flatten(0, 1)


def _by_row(grouped: Tensor, segments: int, rows: int) -> Tensor:
    """Inverse of `_by_key_head`."""
    by_head = grouped.unflatten(1, (-1, rows)).unflatten(0, (segments, -1))
    return by_head.movedim(3, 1).flatten(2, 3)


def _block(
    pair: Pair, queries: Tensor, keys: Tensor, values: Tensor, key_bias: Tensor | None
) -> _Block:
    key_heads = keys.shape[1]
    scaled = at_least_float32(pair.queries.fill(queries)) * queries.shape[2] ** -0.5
    return _Block(
        q=_by_key_head(scaled, key_heads),
        k=_by_key_head(at_least_float32(pair.keys.fill(keys)), key_heads),
        v=_by_key_head(at_least_float32(pair.keys.fill(values)), key_heads),
        bias=_bias(pair.keys, key_bias, keys),
    )


def _bias(padding: Padding, key_bias: Tensor | None, keys: Tensor) -> Tensor | None:
    ended = padding.ended()
    if key_bias is None and ended is None:
        return None
    if key_bias is None:
        size = (padding.segments, padding.length, keys.shape[1])
        block = at_least_float32(keys.new_zeros(size))
    else:
        block = at_least_float32(padding.fill(key_bias))
    if ended is not None:
        block = block.masked_fill(ended[..., None], -torch.inf)
    return block.mT.flatten(0, 1)[:, None]


def _tiles(rows: int, size: int) -> Iterator[slice]:
    for first in range(0, rows, size):
        yield slice(first, min(first + size, rows))


def bag_attn_forward(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    pairs: Sequence[Pair],
    key_bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Rows [queries, heads, value width] and log-sum-exps [queries, heads], float32 at least.

    Args:
        queries: [queries, heads, width].
        keys: [keys, key heads, width].
        values: [keys, key heads, value width].
        pairs: Blocks of the segments.
        key_bias: [keys, key heads], or None.
    """
    heads = queries.shape[1]
    rows = at_least_float32(values.new_zeros(len(queries), heads, values.shape[2]))
    lse = rows.new_full((len(queries), heads), -torch.inf)
    for pair in pairs:
        o, log = _attend(_block(pair, queries, keys, values, key_bias))
        size = (pair.queries.segments, pair.queries.length)
        rows[pair.queries.rows] = pair.queries.take(_by_row(o, *size))
        lse[pair.queries.rows] = pair.queries.take(_by_row(log, *size)[..., 0])
    return rows, lse


def _attend(block: _Block) -> tuple[Tensor, Tensor]:
    """Rows [..., queries, value width] and log-sum-exps [..., queries, 1]."""
    parts = [_attend_tile(block, tile) for tile in _tiles(block.q.shape[1], QUERY_BLOCK)]
    if len(parts) == 1:
        return parts[0]
    rows, logs = zip(*parts, strict=True)
    return torch.cat(rows, 1), torch.cat(logs, 1)


def _attend_tile(block: _Block, queries: slice) -> tuple[Tensor, Tensor]:
    q = block.q[:, queries]
    first, *others = _tiles(block.k.shape[1], KEY_BLOCK)
    s = _scores(block, q, first)
    m = s.amax(-1, keepdim=True)
    p = s.sub_(m).exp_()
    l = p.sum(-1, keepdim=True)  # noqa: E741
    acc = torch.bmm(p, block.v[:, first])
    for keys in others:
        s = _scores(block, q, keys)
        m_next = torch.maximum(m, s.amax(-1, keepdim=True))
        p = s.sub_(m_next).exp_()
        factor = (m - m_next).exp_()
        l = l.mul_(factor).add_(p.sum(-1, keepdim=True))  # noqa: E741
        acc = acc.mul_(factor).baddbmm_(p, block.v[:, keys])
        m = m_next
    return acc.div_(l), l.log_().add_(m)


def _scores(block: _Block, q: Tensor, keys: slice) -> Tensor:
    k = block.k[:, keys].mT
    if block.bias is None:
        return torch.bmm(q, k)
    return torch.baddbmm(block.bias[:, :, keys], q, k)


class Gradients(NamedTuple):
    """Gradients of the inputs, float32 at least."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    key_bias: Tensor | None


def bag_attn_backward(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    pairs: Sequence[Pair],
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
        pairs: Blocks of the segments.
        key_bias: [keys, key heads], or None.
        rows: [queries, heads, value width], from the forward pass.
        lse: [queries, heads], from the forward pass.
        d_rows: Gradient of `rows`.
        d_lse: Gradient of `lse`.
    """
    d_queries = torch.zeros_like(at_least_float32(queries))
    d_keys = torch.zeros_like(at_least_float32(keys))
    d_values = torch.zeros_like(at_least_float32(values))
    d_bias = None if key_bias is None else torch.zeros_like(at_least_float32(key_bias))
    key_heads = keys.shape[1]
    d_rows = at_least_float32(d_rows)
    # The log-sum-exp depends on the scores by p: its gradient counts against delta.
    delta = (d_rows * rows).sum(-1) - d_lse
    scale = queries.shape[2] ** -0.5
    for pair in pairs:
        of_queries = pair.queries
        block = _block(pair, queries, keys, values, key_bias)
        # Zeros where a segment has ended: what filled it up has no part in the gradients.
        do = _by_key_head(of_queries.fill(d_rows), key_heads)
        log = _by_key_head(of_queries.fill(lse)[..., None], key_heads)
        of_delta = _by_key_head(of_queries.fill(delta)[..., None], key_heads)
        of_block = _block_backward(block, do, log, of_delta)
        dq = _by_row(of_block.queries, of_queries.segments, of_queries.length)
        d_queries[of_queries.rows] = of_queries.take(dq) * scale
        of_keys = (pair.keys.segments, pair.keys.length)
        d_keys[pair.keys.rows] = pair.keys.take(_by_row(of_block.keys, *of_keys))
        d_values[pair.keys.rows] = pair.keys.take(_by_row(of_block.values, *of_keys))
        if d_bias is not None and of_block.key_bias is not None:
            of_biases = _by_row(of_block.key_bias[..., None], *of_keys)[..., 0]
            d_bias[pair.keys.rows] = pair.keys.take(of_biases)
    return Gradients(d_queries, d_keys, d_values, d_bias)


def _block_backward(block: _Block, do: Tensor, lse: Tensor, delta: Tensor) -> Gradients:
    """Gradients of a block's scaled queries, keys, values and biases."""
    dq = torch.zeros_like(block.q)
    dk = torch.zeros_like(block.k)
    dv = torch.zeros_like(block.v)
    d_bias = None if block.bias is None else block.k.new_zeros(block.k.shape[:2])
    for queries in _tiles(block.q.shape[1], QUERY_BLOCK):
        q = block.q[:, queries]
        for keys in _tiles(block.k.shape[1], KEY_BLOCK):
            p = _scores(block, q, keys).sub_(lse[:, queries]).exp_()
            dv[:, keys].baddbmm_(p.mT, do[:, queries])
            dp = torch.bmm(do[:, queries], block.v[:, keys].mT)
            ds = dp.sub_(delta[:, queries]).mul_(p)
            dq[:, queries].baddbmm_(ds, block.k[:, keys])
            dk[:, keys].baddbmm_(ds.mT, q)
            if d_bias is not None:
                d_bias[:, keys] += ds.sum(1)
    return Gradients(dq, dk, dv, d_bias)
