"""Agent attention, Han et al. 2023, https://arxiv.org/abs/2312.08874.

A few agents gather from all tiles, and each tile asks the agents. The biases and the
convolution of the published layer belong to a fixed window and are left out.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.errors import DatasetError
from mil.heads._mixers.base import MixOptions, Places, Rows, Shape
from mil.kernels.bag_attn import bag_attn


class Options(MixOptions):
    """Options of `attention: agent`."""

    attention: Literal["agent"]
    agents: Literal["learned", "cells"] = Field(
        "learned",
        description="Agents: learned vectors, or the mean queries of the cells of a grid over the "
        "tissue (needs coordinates).",
    )
    count: int = Field(49, gt=0, le=4096, description="Number of learned agents.")
    grid: int = Field(7, gt=0, le=64, description="Number of cells along each side of the grid.")


class Mixer(nn.Module):
    """softmax(q aᵀ) · softmax(a kᵀ) · v, linear in the tiles."""

    ordered = False

    def __init__(self, options: Options, shape: Shape) -> None:
        super().__init__()
        self.in_shards = options.agents == "learned"
        self.grid = options.grid
        self.learned: Tensor | None = None
        if options.agents == "learned":
            size = (options.count, shape.query_heads, shape.width)
            self.learned = nn.Parameter(torch.randn(size) * shape.width**-0.5)

    def forward(self, rows: Rows, places: Places) -> Tensor:
        """Mixed rows [tiles, query heads, value width]."""
        agents, ends = self._agents(rows.queries, places)
        gathered, lse = bag_attn(agents, rows.keys, rows.values, ends, places.offsets)
        if places.shards is not None:
            gathered, _ = places.shards.merged(gathered, lse)
        mixed, _ = bag_attn(rows.queries, agents, gathered, places.offsets, ends)
        return mixed

    def _agents(self, queries: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Agents of all bags [agents, query heads, width], and their offsets."""
        if self.learned is not None:
            bags = len(places.offsets) - 1
            ends = torch.arange(bags + 1, device=queries.device) * len(self.learned)
            return self.learned.to(queries.dtype).repeat(bags, 1, 1), ends
        if places.coords is None:
            raise DatasetError(
                "mix: agents: cells needs the coordinates of the tiles, which these bags do not "
                "have; set agents: learned"
            )
        return cell_means(queries, grid_cells(places.coords, places, self.grid), places)


def grid_cells(coords: Int[Tensor, "tiles 2"], places: Places, grid: int) -> Int[Tensor, " tiles"]:
    """Number of each tile's cell, 0 to grid² - 1, in a grid over the corners of its bag."""
    cells = []
    for corners in coords.split(places.sizes()):
        first = corners.amin(0)
        extent = (corners.amax(0) - first + 1).double()
        cell = ((corners - first) * grid / extent).long()
        cells.append(cell[:, 0] + cell[:, 1] * grid)
    return torch.cat(cells)


def cell_means(
    rows: Float[Tensor, "tiles heads width"], cells: Int[Tensor, " tiles"], places: Places
) -> tuple[Float[Tensor, "filled heads width"], Int[Tensor, " bags_plus_1"]]:
    """Mean row of each cell that holds tiles, and the offsets of the bags' cells."""
    most = int(cells.max()) + 1
    key = places.bag_of() * most + cells
    filled, cell_of, counts = key.unique(return_inverse=True, return_counts=True)
    sums = rows.new_zeros(len(filled), *rows.shape[1:]).index_add(0, cell_of, rows)
    bags = torch.arange(len(places.offsets), device=cells.device)
    return sums / counts[:, None, None], torch.searchsorted(filled, bags * most)
