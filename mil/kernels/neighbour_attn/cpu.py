"""Attention over neighbours, some tiles after others: what edges hold is computed anew for the gradient, never kept."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mil.kernels.neighbour_attn.reference import edge_softmax

# Numbers that the edges of a chunk hold: 2 MB of float32, so that the few such tensors
# of a chunk stay in the cache.
CHUNK_NUMBERS = 2**19


def chunks(targets: Tensor, tiles: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Tiles and the edges into them, at most `limit` edges at a time, but at least one tile.

    Args:
        targets: sorted.
        tiles: how many there are.
        limit: edges.
    """
    bounds = torch.searchsorted(targets, torch.arange(tiles + 1, device=targets.device)).tolist()
    first = 0
    while first < tiles:
        last = max(first + 1, bisect_right(bounds, bounds[first] + limit) - 1)
        yield slice(first, min(last, tiles)), slice(bounds[first], bounds[min(last, tiles)])
        first = last


def _chunks(targets: Tensor, like: Tensor) -> Iterator[tuple[slice, slice]]:
    return chunks(targets, len(like), max(1, CHUNK_NUMBERS // like[0].numel()))


class ChunkedNeighbourAttn(torch.autograd.Function):
    """Attention over neighbours with its gradient; see `mil.kernels.neighbour_attn.neighbour_attn`."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        vector: Tensor,
        sources: Tensor,
        targets: Tensor,
        slope: float,
    ) -> tuple[Tensor, Tensor]:
        """Messages and mean attention; keeps one number an edge and head."""
        messages = torch.zeros_like(queries)
        parts = []
        for tiles, edges in _chunks(targets, queries):
            neighbours = keys.index_select(0, sources[edges])  # [edges, heads, width]
            sums = queries.index_select(0, targets[edges]).add_(neighbours)
            scores = functional.leaky_relu_(sums, slope).mul_(vector).sum(-1)
            local = targets[edges] - tiles.start
            parts.append(edge_softmax(scores, local, tiles.stop - tiles.start))
            messages[tiles].index_add_(0, local, neighbours.mul_(parts[-1][..., None]))
        attention = torch.cat(parts)
        ctx.slope = slope
        ctx.save_for_backward(queries, keys, vector, sources, targets, attention)
        return messages, attention.mean(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and the vector."""
        queries, keys, vector, sources, targets, attention = ctx.saved_tensors
        d_messages, d_mean = grads
        d_queries, d_keys, d_vector = (torch.zeros_like(t) for t in (queries, keys, vector))
        for tiles, edges in _chunks(targets, queries):
            neighbours = keys.index_select(0, sources[edges])
            local = targets[edges] - tiles.start
            sums = queries.index_select(0, targets[edges]).add_(neighbours)
            d_received = d_messages.index_select(0, targets[edges])
            a = attention[edges]
            d_scores = _softmax_grad(
                a,
                neighbours.mul_(d_received).sum(-1) + d_mean[edges, None] / a.shape[1],
                local,
                tiles,
            ).to(queries.dtype)
            d_vector += torch.einsum("eh,ehw->hw", d_scores, functional.leaky_relu(sums, ctx.slope))
            slopes = (sums > 0).to(sums.dtype).mul_(1 - ctx.slope).add_(ctx.slope)
            d_sums = slopes.mul_(vector).mul_(d_scores[..., None])
            d_queries[tiles].index_add_(0, local, d_sums)
            d_keys.index_add_(0, sources[edges], d_sums.add_(d_received.mul_(a[..., None])))
        return d_queries, d_keys, d_vector, None, None, None


def _softmax_grad(a: Tensor, d_a: Tensor, local: Tensor, tiles: slice) -> Tensor:
    """Gradient of the scores [edges, heads] from that of their softmax over the edges into each tile."""
    both = a * d_a
    return both - a * a.new_zeros(tiles.stop - tiles.start, a.shape[1]).index_add(
        0, local, both
    ).index_select(0, local)
