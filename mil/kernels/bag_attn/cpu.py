"""Attention between segments on a CPU, a tile of queries and a tile of keys at a time.

No map of a long segment is ever in memory; for the gradient it is computed again. Short
segments are computed together, see `mil.kernels.padding`. The notation is that of
FlashAttention, Dao 2023, https://arxiv.org/abs/2307.08691.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mil.kernels.dispatch import at_least_float32
from mil.kernels.padding import Padding, Pair, as_one, padded_pairs
from mil.kernels.shares import exp_

# Rows of a tile; a tile's scores of 8 heads take 8 MB.
QUERY_BLOCK = 256
KEY_BLOCK = 1024


class _Block(NamedTuple):
    """Rows of a block of segments by segment and key head, float32 at least.

    Queries of the heads that share a key head lie end to end.
    """

    q: Tensor  # [segments * key heads, heads a key head * queries, width], by sqrt(width)
    k: Tensor  # [segments * key heads, keys, width]
    v: Tensor  # [segments * key heads, keys, value width]
    bias: Tensor | None  # [segments * key heads, 1, keys]
    hidden: Tensor | None  # [segments, 1, queries or 1, keys]: keys that a query does not see


def _by_key_head(rows: Tensor, key_heads: int) -> Tensor:
    """Rows [segments, rows, heads, width] to [segments * key heads, ..., width].

    The rows of the heads that share a key head lie end to end.
    """
    segments, count, heads, width = rows.shape
    if segments == 1 and heads == key_heads:
        return rows[0].transpose(0, 1)
    grouped = rows.view(segments, count, key_heads, heads // key_heads, width)
    return grouped.permute(0, 2, 3, 1, 4).reshape(segments * key_heads, -1, width)


def _by_row(grouped: Tensor, padding: Padding) -> Tensor:
    """Packed rows [rows, heads, width]: inverse of `_by_key_head` after `Padding.fill`."""
    segments, length = padding[:2]
    by_head = grouped.view(segments, len(grouped) // segments, -1, length, grouped.shape[2])
    block = by_head.permute(0, 3, 1, 2, 4).reshape(segments, length, -1, grouped.shape[2])
    return padding.take(block)


def _block(
    pair: Pair, queries: Tensor, keys: Tensor, values: Tensor, key_bias: Tensor | None
) -> _Block:
    key_heads = keys.shape[1]
    scaled = at_least_float32(pair.queries.fill(queries)) * queries.shape[2] ** -0.5
    bias = None
    if key_bias is not None:
        bias = at_least_float32(pair.keys.fill(key_bias)).mT.flatten(0, 1)[:, None]
    return _Block(
        q=_by_key_head(scaled, key_heads),
        k=_by_key_head(at_least_float32(pair.keys.fill(keys)), key_heads),
        v=_by_key_head(at_least_float32(pair.keys.fill(values)), key_heads),
        bias=bias,
        hidden=None if pair.hidden is None else pair.hidden[:, None],
    )


def _tiles(rows: int, size: int) -> Iterator[slice]:
    for first in range(0, rows, size):
        yield slice(first, min(first + size, rows))


def _part(rows: Tensor, tile: slice) -> Tensor:
    # A slice of everything would cost its call.
    return rows if tile.stop - tile.start == rows.shape[1] else rows[:, tile]


def blocks_of(query_offsets: Tensor, key_offsets: Tensor, per_key_head: int) -> list[Pair]:
    """Blocks of the segments: all as one, or those of like length together.

    Args:
        query_offsets: [segments + 1].
        key_offsets: [segments + 1].
        per_key_head: Heads that share a key head.
    """
    whole = as_one(query_offsets, key_offsets)
    if whole is not None:
        # In a tile of several a query might see nothing, which has no maximum.
        rows = whole.queries.length * per_key_head
        if rows <= QUERY_BLOCK and whole.keys.length <= KEY_BLOCK:
            return [whole]
    return list(padded_pairs(query_offsets, key_offsets))


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
        rows[pair.queries.rows] = _by_row(o, pair.queries)
        lse[pair.queries.rows] = _by_row(log, pair.queries)[..., 0]
    return rows, lse


def _attend(block: _Block) -> tuple[Tensor, Tensor]:
    """Rows [..., queries, value width] and log-sum-exps [..., queries, 1]."""
    parts = [_attend_tile(block, tile) for tile in _tiles(block.q.shape[1], QUERY_BLOCK)]
    if len(parts) == 1:
        return parts[0]
    rows, logs = zip(*parts, strict=True)
    return torch.cat(rows, 1), torch.cat(logs, 1)


def _attend_tile(block: _Block, queries: slice) -> tuple[Tensor, Tensor]:
    q = _part(block.q, queries)
    first, *others = _tiles(block.k.shape[1], KEY_BLOCK)
    s = _scores(block, q, first)
    m = s.amax(-1, keepdim=True)
    p = exp_(s.sub_(m))
    l = p.sum(-1, keepdim=True)  # noqa: E741
    acc = torch.bmm(p, _part(block.v, first))
    for keys in others:
        s = _scores(block, q, keys)
        m_next = torch.maximum(m, s.amax(-1, keepdim=True))
        p = exp_(s.sub_(m_next))
        factor = (m - m_next).exp_()
        l = l.mul_(factor).add_(p.sum(-1, keepdim=True))  # noqa: E741
        acc = acc.mul_(factor).baddbmm_(p, block.v[:, keys])
        m = m_next
    return acc.div_(l), l.log_().add_(m)


def _scores(block: _Block, q: Tensor, keys: slice) -> Tensor:
    k = _part(block.k, keys).mT
    s = torch.bmm(q, k) if block.bias is None else torch.baddbmm(block.bias[:, :, keys], q, k)
    if block.hidden is not None:
        segments, _, rows, _ = block.hidden.shape
        of_segments = s.view(segments, -1, rows, s.shape[2])
        of_segments.masked_fill_(block.hidden[..., keys], -torch.inf)
    return s


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
        block = _block(pair, queries, keys, values, key_bias)
        do = _by_key_head(pair.queries.fill(d_rows), key_heads)
        log = pair.queries.fill(lse)
        if pair.queries.slots is not None:
            # What fills a segment up has no part in the gradients: its p is next to 0.
            log.masked_fill_(pair.queries.slots.ended[..., None], torch.inf)
        of_block = _block_backward(
            block,
            do,
            _by_key_head(log[..., None], key_heads),
            _by_key_head(pair.queries.fill(delta)[..., None], key_heads),
        )
        d_queries[pair.queries.rows] = _by_row(of_block.queries, pair.queries) * scale
        d_keys[pair.keys.rows] = _by_row(of_block.keys, pair.keys)
        d_values[pair.keys.rows] = _by_row(of_block.values, pair.keys)
        if d_bias is not None and of_block.key_bias is not None:
            of_bias = _by_row(of_block.key_bias[..., None], pair.keys)
            d_bias[pair.keys.rows] = of_bias[..., 0]
    return Gradients(d_queries, d_keys, d_values, d_bias)


def _block_backward(block: _Block, do: Tensor, lse: Tensor, delta: Tensor) -> Gradients:
    """Gradients of a block's scaled queries, keys, values and biases."""
    query_tiles = list(_tiles(block.q.shape[1], QUERY_BLOCK))
    key_tiles = list(_tiles(block.k.shape[1], KEY_BLOCK))
    if len(query_tiles) == len(key_tiles) == 1:
        return _tile_backward(block, do, lse, delta)
    dq = torch.zeros_like(block.q)
    dk = torch.zeros_like(block.k)
    dv = torch.zeros_like(block.v)
    d_bias = None if block.bias is None else block.k.new_zeros(block.k.shape[:2])
    for queries in query_tiles:
        of_queries = (_part(rows, queries) for rows in (block.q, do, lse, delta))
        q, of_do, of_lse, of_delta = of_queries
        for keys in key_tiles:
            of_tile = _tile_backward(_keys_of(block, q, keys), of_do, of_lse, of_delta)
            dq[:, queries] += of_tile.queries
            dk[:, keys] += of_tile.keys
            dv[:, keys] += of_tile.values
            if d_bias is not None and of_tile.key_bias is not None:
                d_bias[:, keys] += of_tile.key_bias
    return Gradients(dq, dk, dv, d_bias)


def _keys_of(block: _Block, q: Tensor, keys: slice) -> _Block:
    """Some queries of a block, and a tile of its keys."""
    return _Block(
        q=q,
        k=_part(block.k, keys),
        v=_part(block.v, keys),
        bias=None if block.bias is None else block.bias[:, :, keys],
        hidden=None if block.hidden is None else block.hidden[..., keys],
    )


def _tile_backward(block: _Block, do: Tensor, lse: Tensor, delta: Tensor) -> Gradients:
    """Gradients of a block that is one tile."""
    p = exp_(_scores(block, block.q, slice(0, block.k.shape[1])).sub_(lse))
    dv = torch.bmm(p.mT, do)
    dp = torch.bmm(do, block.v.mT)
    ds = dp.sub_(delta).mul_(p)
    # Products of their own, and not added to sums that are sliced: those are a call for each head.
    dq = torch.bmm(ds, block.k)
    dk = torch.bmm(ds.mT, block.q)
    return Gradients(dq, dk, dv, None if block.bias is None else ds.sum(1))
