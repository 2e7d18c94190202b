"""HyperAttention, Han et al. 2023, https://arxiv.org/abs/2310.05869.

Queries and keys are sorted by a hash; a block of queries attends to the same block of keys,
and to random keys that stand for the rest. Published code counts random keys of the own
block twice in float32, and pads with keys of zero that take attention; both are put right.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mil.bags import MASKED
from mil.heads._mixers.base import MixOptions, Places, Rows, Shape
from mil.heads._mixers.small_bags import mix_by_size
from mil.heads._mixers.sorting import centred_projections, ordered_by
from mil.kernels.bag_attn import bag_attn

# Tiles whose keys are taken together, about.
GROUP_TILES = 16384


class Options(MixOptions):
    """Options of `attention: hyper`."""

    attention: Literal["hyper"]
    block: int = Field(256, gt=0, description="Number of tiles of a block.")
    samples: int = Field(256, ge=0, description="Number of random tiles that stand for the rest.")
    directions: int = Field(7, gt=0, le=30, description="Number of bits of the hash.")
    exact_below: int = Field(
        4096, ge=0, description="Largest bag in which every tile attends to all."
    )


class Mixer(nn.Module):
    """Attention within blocks of like queries and keys, and to samples of the others."""

    ordered = False
    directions: Tensor

    def __init__(self, options: Options, shape: Shape) -> None:
        super().__init__()
        self.options = options
        # Saved with the head, which would hash otherwise without them.
        self.register_buffer("directions", torch.randn(shape.width, options.directions))

    def forward(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows [tiles, query heads, value width]."""
        return mix_by_size(rows, places, self.options.exact_below, self._sampled_each)

    def _sampled_each(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows of bags."""
        bags = pairwise(places.offsets.tolist())
        of_bags = (Rows(*(row[slice(*bag)] for row in rows[:3])) for bag in bags)
        return torch.cat([self._sampled(own) for own in of_bags])

    def _sampled(self, rows: Rows) -> Tensor:
        """Mixed rows of one bag."""
        count = len(rows.queries)
        per_key_head = rows.queries.shape[1] // rows.keys.shape[1]
        of_heads = Rows(
            rows.queries,
            rows.keys.repeat_interleave(per_key_head, 1),
            rows.values.repeat_interleave(per_key_head, 1),
        )
        samples = min(self.options.samples, count)
        size = (samples, rows.queries.shape[1])
        # The same samples at every prediction; in training from torch's own random state.
        rng = None if self.training else torch.Generator(rows.queries.device).manual_seed(0)
        sampled = torch.randint(count, size, generator=rng, device=rows.queries.device)
        place = Places(torch.tensor([0, count], device=rows.queries.device), None)
        query_order = hash_order(of_heads.queries, self.directions, place)
        key_order = hash_order(of_heads.keys, self.directions, place)
        return sorted_attention(of_heads, query_order, key_order, sampled, self.options.block)


def hash_order(
    rows: Float[Tensor, "tiles heads width"],
    directions: Float[Tensor, "width bits"],
    places: Places,
) -> Int[Tensor, "tiles heads"]:
    """Tiles of one bag sorted by bucket, for each head."""
    powers = 2 ** torch.arange(directions.shape[1], device=rows.device)
    orders = []
    for of_head in rows.unbind(1):
        bits = centred_projections(of_head, directions, places) > 0
        rank = gray_rank((bits * powers).sum(1))
        orders.append(ordered_by(rank, places))
    return torch.stack(orders, 1)


def gray_rank(buckets: Int[Tensor, " tiles"]) -> Int[Tensor, " tiles"]:
    """Place of a bucket in Gray order, in which neighbours differ in one bit.

    The published code has the code itself here, not its inverse.
    """
    rank = buckets
    for shift in (1, 2, 4, 8, 16):
        rank = rank ^ (rank >> shift)
    return rank


def sorted_attention(
    rows: Rows,
    query_order: Int[Tensor, "tiles heads"],
    key_order: Int[Tensor, "tiles heads"],
    sampled: Int[Tensor, "samples heads"],
    block: int,
) -> Float[Tensor, "tiles heads width"]:
    """Attention of each block of sorted queries to its block of keys and to the samples.

    Args:
        rows: Rows of one bag.
        query_order: Tiles of the sorted queries.
        key_order: Tiles of the sorted keys.
        sampled: Places of the random keys among the sorted ones.
        block: Number of tiles of a block; the last may be shorter.
    """
    count = len(query_order)
    # Groups of whole blocks: keys and samples of all of them together would be several times
    # the bag.
    group = max(GROUP_TILES // block, 1) * block
    mixed = []
    for first in range(0, count, group):
        blocks = range(first, min(first + group, count), block)
        given = (*rows[:3], query_order, key_order, sampled, blocks, block)
        if count <= group:
            mixed.append(_blocks_attention(*given))
        else:
            # What a group takes is taken again for the gradient, not kept.
            again = checkpoint(
                _blocks_attention, *given, use_reentrant=False, preserve_rng_state=False
            )
            mixed.append(again)
    in_order = torch.cat(mixed)
    back = query_order[..., None].expand_as(in_order)
    return torch.zeros_like(in_order).scatter(0, back, in_order)


def _blocks_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_order: Tensor,
    key_order: Tensor,
    sampled: Tensor,
    blocks: range,
    block: int,
) -> Tensor:
    """Mixed rows of the sorted queries of blocks that begin at some tiles of the bag."""
    count, heads = query_order.shape
    device = queries.device
    end = min(blocks[-1] + block, count)
    segments = []
    biases = []
    stands_for = math.log(count / max(len(sampled), 1))
    for first in blocks:
        last = min(first + block, count)
        own = torch.arange(first, last, device=device)[:, None].expand(-1, heads)
        segments.append(torch.cat([own, sampled]))
        inside = (sampled >= first) & (sampled < last)
        of_samples = queries.new_full(sampled.shape, stands_for)
        of_samples = of_samples.masked_fill(inside, MASKED)
        biases.append(torch.cat([queries.new_zeros(own.shape), of_samples]))
    chosen = key_order.gather(0, torch.cat(segments))
    ends = torch.tensor([0, *(len(segment) for segment in segments)], device=device).cumsum(0)
    query_ends = torch.tensor([*blocks, end], device=device) - blocks[0]
    mixed, _ = bag_attn(
        _taken(queries, query_order[blocks[0] : end]),
        _taken(keys, chosen),
        _taken(values, chosen),
        query_ends,
        ends,
        torch.cat(biases),
    )
    return mixed


def _taken(
    rows: Float[Tensor, "tiles heads width"], tiles: Int[Tensor, "taken heads"]
) -> Float[Tensor, "taken heads width"]:
    return rows.gather(0, tiles[..., None].expand(-1, -1, rows.shape[2]))
