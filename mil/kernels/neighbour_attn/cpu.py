"""Attention over neighbours on a CPU, a chunk of tiles at a time.

What edges hold is computed again for the gradient, never kept.
"""

from bisect import bisect_right
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from mil.kernels.neighbour_attn.reference import edge_softmax

# Values that the edges of a chunk hold: 2 MB of float32, so that the few such tensors
# of a chunk stay in the cache.
CHUNK_VALUES = 2**19


def edge_chunks(targets: Tensor, tiles: int, max_edges: int) -> Iterator[tuple[slice, slice]]:
    """Tiles, and the edges into them: at most `max_edges` at a time, but at least one tile.

    Args:
        targets: [edges], sorted.
        tiles: number of tiles.
        max_edges: number of edges.
    """
    tile_numbers = torch.arange(tiles + 1, device=targets.device)
    bounds = torch.searchsorted(targets, tile_numbers).tolist()
    first = 0
    while first < tiles:
        last = bisect_right(bounds, bounds[first] + max_edges) - 1
        last = min(max(first + 1, last), tiles)
        yield slice(first, last), slice(bounds[first], bounds[last])
        first = last


def _edge_chunks(targets: Tensor, queries: Tensor) -> Iterator[tuple[slice, slice]]:
    max_edges = max(1, CHUNK_VALUES // queries[0].numel())
    return edge_chunks(targets, len(queries), max_edges)


def neighbour_attn_forward(
    queries: Tensor, keys: Tensor, vector: Tensor, sources: Tensor, targets: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """Messages [tiles, heads, width], and attention [edges, heads]."""
    messages = torch.zeros_like(queries)
    chunk_attention = []
    for tiles, edges in _edge_chunks(targets, queries):
        neighbours = keys.index_select(0, sources[edges])  # [edges, heads, width]
        sums = queries.index_select(0, targets[edges]).add_(neighbours)
        activations = functional.leaky_relu_(sums, slope)
        scores = activations.mul_(vector).sum(-1)
        local = targets[edges] - tiles.start
        p = edge_softmax(scores, local, tiles.stop - tiles.start)
        messages[tiles].index_add_(0, local, neighbours.mul_(p[..., None]))
        chunk_attention.append(p)
    return messages, torch.cat(chunk_attention)


def neighbour_attn_backward(
    queries: Tensor,
    keys: Tensor,
    vector: Tensor,
    sources: Tensor,
    targets: Tensor,
    attention: Tensor,
    slope: float,
    d_messages: Tensor,
    d_mean: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and vector.

    Args:
        queries: [tiles, heads, width].
        keys: [tiles, heads, width].
        vector: [heads, width].
        sources: [edges].
        targets: [edges], sorted.
        attention: [edges, heads], from the forward pass.
        slope: slope of the LeakyReLU below 0.
        d_messages: [tiles, heads, width].
        d_mean: [edges], gradient of the attention's mean over the heads.
    """
    d_queries = torch.zeros_like(queries)
    d_keys = torch.zeros_like(keys)
    d_vector = torch.zeros_like(vector)
    heads = attention.shape[1]
    for tiles, edges in _edge_chunks(targets, queries):
        neighbours = keys.index_select(0, sources[edges])
        local = targets[edges] - tiles.start
        sums = queries.index_select(0, targets[edges]).add_(neighbours)
        do = d_messages.index_select(0, targets[edges])
        p = attention[edges]
        dp = neighbours.mul_(do).sum(-1)
        dp = dp + d_mean[edges, None] / heads
        ds = _softmax_backward(p, dp, local, tiles.stop - tiles.start)
        ds = ds.to(queries.dtype)
        activations = functional.leaky_relu(sums, slope)
        d_vector += torch.einsum("eh,ehw->hw", ds, activations)
        # Derivative of the LeakyReLU: 1 above 0, else `slope`.
        slopes = (sums > 0).to(sums.dtype).mul_(1 - slope).add_(slope)
        d_sums = slopes.mul_(vector).mul_(ds[..., None])
        d_queries[tiles].index_add_(0, local, d_sums)
        d_values = do.mul_(p[..., None])
        d_keys.index_add_(0, sources[edges], d_sums.add_(d_values))
    return d_queries, d_keys, d_vector


def _softmax_backward(p: Tensor, dp: Tensor, local: Tensor, tiles: int) -> Tensor:
    """``ds = p dp - p delta``, where ``delta = sum p dp`` over the edges into a tile."""
    p_dp = p * dp
    delta = p.new_zeros(tiles, p.shape[1]).index_add(0, local, p_dp)
    return p_dp - p * delta.index_select(0, local)
