"""Neighbourhood attention, Hassani et al. 2025, https://arxiv.org/abs/2504.16922.

Each tile attends to the tiles in a window of the slide around it. Published for whole grids,
where windows shift inwards at the border; tissue is ragged, so here a window keeps its place
and tiles that are not there are left out. In the interior of a grid the two are the same.
"""

from typing import Literal

import torch
from jaxtyping import Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from mil.errors import DatasetError
from mil.graph.spatial import first_in_cell
from mil.heads._mixers.base import MixOptions, Places, Rows, Shape
from mil.heads._mixers.cells import cells_of
from mil.kernels.window_attn import window_attn

# Places of the windows of all tiles that are looked up at once.
PLACES_AT_ONCE = 1 << 16


class Options(MixOptions):
    """Options of `attention: neighbourhood`."""

    attention: Literal["neighbourhood"]
    window: int = Field(7, gt=0, le=63, description="Side of the window in tiles, odd.")
    stride: int = Field(
        1,
        gt=0,
        description="Side of the squares of tiles that share a window, odd, at most window.",
    )
    dilation: int = Field(1, gt=0, le=64, description="Distance between tiles of a window.")

    @model_validator(mode="after")
    def _has_a_middle(self) -> "Options":
        if self.window % 2 == 0:
            raise ValueError(f"window: must be odd, not {self.window}")
        if self.stride % 2 == 0 or self.stride > self.window:
            raise ValueError(f"stride: must be odd and at most window, not {self.stride}")
        return self


class Mixer(nn.Module):
    """Attention within a window, with a bias for each place in it."""

    ordered = False

    def __init__(self, options: Options, shape: Shape) -> None:
        super().__init__()
        self.options = options
        # Without it the mixer could not tell left from right.
        self.bias = nn.Parameter(torch.zeros(options.window**2, shape.query_heads))

    def forward(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows [tiles, query heads, value width]."""
        if places.coords is None:
            raise DatasetError(
                "mix: attention: neighbourhood needs the coordinates of the tiles, which these "
                "bags do not have; choose landmark or agent"
            )
        window = window_of(places.coords, places, self.options)
        return window_attn(*rows[:3], window, self.bias, places.offsets)


def window_of(
    coords: Int[Tensor, "tiles 2"], places: Places, options: Options
) -> Int[Tensor, "window tiles"]:
    """Tile at each place of each tile's window, row by row; -1 where there is none.

    Of tiles at one position the first is seen by others; every tile sees itself.

    Args:
        coords: Top left corners of the tiles, level-0 pixels.
        places: The bags; a window has tiles of its own bag alone.
        options: Window, stride and dilation.
    """
    cells = cells_of(coords, places)
    dilation = options.dilation
    # Squares of `stride` tiles are counted among the tiles of one residue.
    residue = cells % dilation
    number = cells // dilation
    leader = number // options.stride * options.stride + options.stride // 2
    reach = options.window // 2
    # Room for windows that begin left of the first tile and end right of the last.
    margin = dilation * (options.window + options.stride)
    across, down = (cells.amax(0) + 2 * margin + 1).tolist()
    bag_row = places.bag_of() * down

    def key_of(cell: Tensor) -> Tensor:
        return (bag_row + cell[..., 1] + margin) * across + cell[..., 0] + margin

    keys, tile_of = first_in_cell(key_of(cells))
    steps = torch.arange(-reach, reach + 1, device=coords.device)
    self_place = torch.arange(len(coords), device=coords.device)
    rows = []
    # Some rows of the window at a time: a loop over its places would take longer than the
    # attention, and of a large bag all places at once would be several times its rows.
    rows_at_once = max(1, PLACES_AT_ONCE // (len(steps) * len(coords)))
    for downs in steps.split(rows_at_once):
        shifts = torch.cartesian_prod(downs, steps).flip(1)
        cell = (leader + shifts[:, None]) * dilation + residue
        key = key_of(cell)
        index = torch.searchsorted(keys, key).clamp(max=len(keys) - 1)
        there = tile_of[index].masked_fill(keys[index] != key, -1)
        # At its own place a tile is itself, not the first of its position.
        own = (cell == cells).all(-1)
        rows.append(torch.where(own, self_place, there))
    return torch.cat(rows)
