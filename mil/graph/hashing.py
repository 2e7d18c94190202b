"""Codes of tiles: on which side of random planes they lie."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.graph.directions import Directions

PER_BUCKET = 16
MOST_BITS = 24  # that float32 holds exactly


def default_bits(tiles: int, per_bucket: int = PER_BUCKET) -> int:
    """Planes for buckets of about so many tiles, if tiles lay evenly."""
    return min(max(math.ceil(math.log2(tiles / per_bucket)), 1), MOST_BITS)


def code_lengths(bits: int, levels: int) -> list[int]:
    """Bits that each level looks at, from the coarsest to the finest: around `bits`, two apart as far as they go."""
    return sorted(
        {min(max(bits + 2 * level - (levels - 1), 1), MOST_BITS) for level in range(levels)}
    )


def hashes(
    directions: Directions, tables: int, bits: int, generator: torch.Generator | None = None
) -> tuple[Int[Tensor, "tables tiles"], Float[Tensor, "tables tiles"]]:
    """Codes of all tiles in every table, and their places along one more random direction.

    Neighbours in space have codes that begin alike; the first bit weighs most.
    """
    device = directions.features.device
    shape = (directions.features.shape[1], tables * (bits + 1))
    planes = torch.randn(
        shape, generator=generator, device=generator.device if generator else None
    ).to(device)
    weights = 2.0 ** torch.arange(bits - 1, -1, -1, device=device)
    codes = torch.empty(tables, len(directions), dtype=torch.int32, device=device)
    along = torch.empty(tables, len(directions), device=device)
    first = 0
    for block in directions.blocks():
        sides = (block @ planes).unflatten(1, (tables, bits + 1))
        here = slice(first, first + len(block))
        codes[:, here] = ((sides[:, :, :bits] > 0).float() @ weights).int().T
        along[:, here] = sides[:, :, bits].T
        first += len(block)
    return codes, along


def by_code(codes: Int[Tensor, " tiles"], along: Float[Tensor, " tiles"]) -> Int[Tensor, " tiles"]:
    """Tiles in the order of their codes and, among equals, of the places along a direction."""
    order = along.argsort(stable=True)
    return order[codes[order].argsort(stable=True)]
