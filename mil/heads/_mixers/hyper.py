"""HyperAttention, Han et al. 2023, https://arxiv.org/abs/2310.05869.

Queries and keys are sorted by a hash; a block of queries attends to the same block of keys,
and to random keys that stand for the rest. Published code counts random keys of the own
block twice in float32, and pads with keys of zero that take attention; both are put right.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.bags import MASKED
from mil.heads._mixers.base import MixOptions, Places, Rows, Shape
from mil.heads._mixers.sorting import centred_projections, ordered_by
from mil.kernels.bag_attn import bag_attn


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
        per_key_head = rows.queries.shape[1] // rows.keys.shape[1]
        sizes = places.sizes()
        keys = rows.keys.repeat_interleave(per_key_head, 1).split(sizes)
        values = rows.values.repeat_interleave(per_key_head, 1).split(sizes)
        of_bags = zip(rows.queries.split(sizes), keys, values, strict=True)
        return torch.cat([self._mixed(Rows(*of_bag)) for of_bag in of_bags])

    def _mixed(self, rows: Rows) -> Tensor:
        """Mixed rows of one bag."""
        count = len(rows.queries)
        whole = torch.tensor([0, count], device=rows.queries.device)
        if count <= self.options.exact_below:
            return bag_attn(*rows[:3], whole, whole)[0]
        samples = min(self.options.samples, count)
        size = (samples, rows.queries.shape[1])
        # The same samples at every prediction; in training from torch's own random state.
        rng = None if self.training else torch.Generator(rows.queries.device).manual_seed(0)
        sampled = torch.randint(count, size, generator=rng, device=rows.queries.device)
        place = Places(whole, None)
        query_order = hash_order(rows.queries, self.directions, place)
        key_order = hash_order(rows.keys, self.directions, place)
        return sorted_attention(rows, query_order, key_order, sampled, self.options.block)


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
    queries = _taken(rows.queries, query_order)
    device = queries.device
    firsts = range(0, count, block)
    segments = []
    biases = []
    heads = query_order.shape[1]
    stands_for = math.log(count / max(len(sampled), 1))
    for first in firsts:
        last = min(first + block, count)
        own = torch.arange(first, last, device=device)[:, None].expand(-1, heads)
        segments.append(torch.cat([own, sampled]))
        inside = (sampled >= first) & (sampled < last)
        of_samples = queries.new_full(sampled.shape, stands_for)
        of_samples = of_samples.masked_fill(inside, MASKED)
        biases.append(torch.cat([queries.new_zeros(own.shape), of_samples]))
    places = torch.cat(segments)
    chosen = key_order.gather(0, places)
    ends = torch.tensor([0, *(len(segment) for segment in segments)], device=device).cumsum(0)
    query_ends = torch.tensor([*firsts, count], device=device)
    mixed, _ = bag_attn(
        queries,
        _taken(rows.keys, chosen),
        _taken(rows.values, chosen),
        query_ends,
        ends,
        torch.cat(biases),
    )
    back = query_order[..., None].expand_as(mixed)
    return torch.zeros_like(mixed).scatter(0, back, mixed)


def _taken(
    rows: Float[Tensor, "tiles heads width"], tiles: Int[Tensor, "taken heads"]
) -> Float[Tensor, "taken heads width"]:
    return rows.gather(0, tiles[..., None].expand(-1, -1, rows.shape[2]))
