"""Codes of tiles: the sides of random planes that they lie on."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.graph.directions import Directions

PER_BUCKET = 16
MAX_BITS = 24  # largest code that float32 holds exactly


def default_bits(tiles: int, per_bucket: int = PER_BUCKET) -> int:
    """Number of planes for buckets of about `per_bucket` tiles, if tiles are spread evenly."""
    bits = math.ceil(math.log2(tiles / per_bucket))
    return min(max(bits, 1), MAX_BITS)


def code_lengths(bits: int, levels: int) -> list[int]:
    """Number of bits of each level, ascending.

    They lie around `bits`, two apart within the limits of a code; levels that coincide
    at a limit are one.
    """
    coarsest = bits - (levels - 1)
    lengths = set()
    for level in range(levels):
        length = coarsest + 2 * level
        lengths.add(min(max(length, 1), MAX_BITS))
    return sorted(lengths)


def hashes(
    directions: Directions,
    tables: int,
    bits: int,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "tables tiles"], Float[Tensor, "tables tiles"]]:
    """Codes of all tiles in every table, and their projections on one more random direction.

    Similar tiles have codes that begin alike; the first bit weighs most.
    """
    device = directions.features.device
    tiles = len(directions)
    dim = directions.features.shape[1]
    shape = (dim, tables * (bits + 1))
    # UserMasks on the generator's device: a CPU's numbers give the same graph on a GPU.
    drawn_on = None if generator is None else generator.device
    planes = torch.randn(shape, generator=generator, device=drawn_on).to(device)
    powers = torch.arange(bits - 1, -1, -1, device=device)
    weights = 2.0**powers
    codes = torch.empty(tables, tiles, dtype=torch.int32, device=device)
    projections = torch.empty(tables, tiles, device=device)
    first = 0
    for block in directions.blocks():
        products = block @ planes
        products = products.unflatten(1, (tables, bits + 1))
        sides = (products[:, :, :bits] > 0).float()
        rows = slice(first, first + len(block))
        block_codes = sides @ weights
        codes[:, rows] = block_codes.int().T
        last = products[:, :, bits]
        projections[:, rows] = last.T
        first += len(block)
    return codes, projections


def by_code(
    codes: Int[Tensor, " tiles"],
    projections: Float[Tensor, " tiles"],
) -> Int[Tensor, " tiles"]:
    """Tiles ordered by code and, among equal codes, by projection."""
    order = projections.argsort(stable=True)
    within = codes[order].argsort(stable=True)
    return order[within]
