"""Rows of a bag for `mil bench mix`: tissue of several kinds in patches, each drawn to its like."""

from functools import partial

import torch
from torch import Tensor

from mil.heads._mixers.base import Places, Rows, Shape

# The width of ABMIL's rows of most encoders, and the mixers' default heads.
SHAPE = Shape(query_heads=8, key_heads=8, width=64)
KINDS = 24
# Side of a patch of one kind, in tiles; no multiple of a mixer's cells.
PATCH = 11
# Spread of the tiles of a kind, of that between the kinds.
SPREAD = 0.7
# Factor of the queries: a tile then attends to about a tenth of its bag.
SHARPNESS = 5.0
STEP_PX = 512
SEED = 0


def made_bag(tiles: int, device: torch.device) -> tuple[Rows, Places]:
    """Projected rows of one bag on a square grid, float32; always the same.

    Tiles of 24 kinds of uneven frequency, in patches, about a large common mean, as features of
    encoders have. Keys and queries are one projection: a tile attends to its like.
    """
    rng = torch.Generator().manual_seed(SEED)
    draw = partial(torch.randn, generator=rng)
    across = max(1, round(tiles**0.5))
    number = torch.arange(tiles)
    grid = torch.stack([number % across, number // across], 1)
    kind = _kinds(grid, rng)
    width = SHAPE.query_heads * SHAPE.width
    mean = 2 * draw(width)
    centres = draw(KINDS, width)
    normal = mean + centres[kind] + SPREAD * draw(tiles, width)
    normal = torch.nn.functional.layer_norm(normal, (width,))
    likeness = draw(width, width) / width**0.5
    content = draw(width, width) / width**0.5
    # What all tiles share is no reason to attend, and would hide how far mixed rows are apart.
    differs = normal - normal.mean(0)
    keys = (differs @ likeness).unflatten(1, (SHAPE.key_heads, SHAPE.width))
    values = (differs @ content).unflatten(1, (SHAPE.key_heads, SHAPE.width))
    rows = Rows(*(row.to(device) for row in (SHARPNESS * keys, keys, values)))
    offsets = torch.tensor([0, tiles], device=device)
    return rows, Places(offsets, STEP_PX * grid.to(device))


def _kinds(grid: Tensor, rng: torch.Generator) -> Tensor:
    """Kind of each tile: patches of a grid draw theirs, the k-th as often as 1 / k."""
    patch = grid // PATCH
    across = int(patch[:, 0].max()) + 1
    frequency = 1 / torch.arange(1.0, KINDS + 1)
    patches = across * (int(patch[:, 1].max()) + 1)
    drawn = torch.multinomial(frequency, patches, replacement=True, generator=rng)
    return drawn[patch[:, 1] * across + patch[:, 0]]
