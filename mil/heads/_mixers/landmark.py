"""Attention to the tiles of one's own cell, and to the means of the other cells.

After landmark attention, Mohtashami and Jaggi 2023, https://arxiv.org/abs/2305.16300, where
a block of other tokens is weighted by one key. There the key is learned by passing through
the layers and all tokens are read; here another cell is one key and one value, its means,
which is the first-order value of its log-sum-exp. With one cell, or cells of one tile, it is
full attention.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.errors import DatasetError
from mil.heads._mixers.base import MixOptions, Places, Rows, Shape, segment_means
from mil.heads._mixers.cells import cells_of
from mil.heads._mixers.sorting import centred_projections, ordered_by
from mil.kernels.bag_attn import bag_attn
from mil.kernels.dispatch import at_least_float32


class Options(MixOptions):
    """Options of `attention: landmark`."""

    attention: Literal["landmark"]
    cells: Literal["auto", "places", "alike"] = Field(
        "auto",
        description="Cells: places, squares of the slide (needs coordinates); alike, runs of tiles "
        "with like keys; auto: places where coordinates are known.",
    )
    cell: int = Field(
        8, gt=0, le=1024, description="Side of a cell in tiles; alike: its square is a run."
    )


class Blocks(NamedTuple):
    """Tiles sorted by bag and cell."""

    order: Int[Tensor, " tiles"]
    # Tiles of a cell, and cells of a bag.
    tile_offsets: Int[Tensor, " blocks_plus_1"]
    bag_offsets: Int[Tensor, " bags_plus_1"]

    def block_of(self) -> Int[Tensor, " tiles"]:
        """Number of the block of each sorted tile."""
        sizes = self.tile_offsets.diff()
        return torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)


class Mixer(nn.Module):
    """One softmax over the tiles of the own cell and the means of the others."""

    ordered = False
    directions: Tensor

    def __init__(self, options: Options, shape: Shape) -> None:
        super().__init__()
        self.cells = options.cells
        self.cell = options.cell
        # Saved with the head, which would sort other tiles together without them.
        self.register_buffer("directions", torch.randn(shape.key_heads * shape.width, 1))

    def forward(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows [tiles, query heads, value width]."""
        blocks = self._blocks(rows, places)
        in_order = Rows(*(row[blocks.order] for row in rows[:3]))
        mixed = mixed_by_blocks(in_order, blocks, places.offsets)
        return mixed[blocks.order.argsort()]

    def _blocks(self, rows: Rows, places: Places) -> Blocks:
        if self.cells == "alike" or (self.cells == "auto" and places.coords is None):
            return alike_blocks(rows.keys, self.directions, places, self.cell**2)
        if places.coords is None:
            raise DatasetError(
                "mix: cells: places needs the coordinates of the tiles, which these bags do not "
                "have; set cells: alike"
            )
        return place_blocks(places.coords, places, self.cell)


def place_blocks(coords: Int[Tensor, "tiles 2"], places: Places, cell: int) -> Blocks:
    """Blocks of the tiles in the same square of `cell` by `cell` grid steps."""
    square = cells_of(coords, places) // cell
    across = int(square[:, 0].max()) + 1
    down = int(square[:, 1].max()) + 1
    bag = places.bag_of()
    key = (bag * down + square[:, 1]) * across + square[:, 0]
    filled, counts = key.unique(return_counts=True)
    bags = torch.arange(len(places.offsets), device=key.device)
    return Blocks(
        order=key.argsort(stable=True),
        tile_offsets=_ends(counts),
        bag_offsets=torch.searchsorted(filled, bags * (across * down)),
    )


def alike_blocks(
    keys: Float[Tensor, "tiles heads width"], directions: Tensor, places: Places, run: int
) -> Blocks:
    """Blocks of runs of `run` tiles, by the projection of their keys."""
    projections = centred_projections(keys.flatten(1), directions, places)[:, 0]
    sizes = places.sizes()
    lengths = [length for size in sizes for length in _runs(size, run)]
    per_bag = [len(_runs(size, run)) for size in sizes]
    return Blocks(
        order=ordered_by(projections, places),
        tile_offsets=_ends(torch.tensor(lengths, device=keys.device)),
        bag_offsets=_ends(torch.tensor(per_bag, device=keys.device)),
    )


def mixed_by_blocks(
    rows: Rows, blocks: Blocks, bag_offsets: Int[Tensor, " bags_plus_1"]
) -> Float[Tensor, "tiles query_heads value_width"]:
    """Mixed rows of tiles that are sorted by block."""
    block_of = blocks.block_of()
    sizes = blocks.tile_offsets.diff()
    key_means = segment_means(rows.keys, block_of, sizes)
    value_means = segment_means(rows.values, block_of, sizes)
    log_size = at_least_float32(sizes.to(rows.keys.dtype)).log()
    bias = log_size[:, None].expand(-1, rows.keys.shape[1])
    near, near_lse = bag_attn(*rows[:3], blocks.tile_offsets, blocks.tile_offsets)
    far, far_lse = bag_attn(
        rows.queries, key_means, value_means, bag_offsets, blocks.bag_offsets, bias
    )
    # The own cell's means, which are among those of the bag.
    each = torch.arange(len(sizes) + 1, device=sizes.device)
    own, own_lse = bag_attn(rows.queries, key_means, value_means, blocks.tile_offsets, each, bias)
    # The own cell counts by its tiles, not by its means. Its log-sum-exp is at least that
    # of its means (Jensen), so that nothing cancels.
    m = torch.maximum(near_lse, far_lse).detach()
    of_near, of_far, of_own = ((lse - m).exp() for lse in (near_lse, far_lse, own_lse))
    total = (of_near + of_far - of_own)[..., None]
    # Each part by its share: a sum that is divided after would be kept for the gradient.
    mixed = of_near[..., None] / total * near
    mixed = mixed + of_far[..., None] / total * far
    mixed = mixed - of_own[..., None] / total * own
    return mixed.to(rows.values.dtype)


def _runs(size: int, run: int) -> list[int]:
    """Lengths of the runs of a bag; the last may be shorter."""
    whole, rest = divmod(size, run)
    return [run] * whole + ([rest] if rest else [])


def _ends(sizes: Tensor) -> Tensor:
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
