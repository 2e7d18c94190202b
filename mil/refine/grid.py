"""Overlapping tiles around those that a head attends to, and means where they overlap."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from mil.trained.top_tiles import ranked_tiles


class FineTiles(NamedTuple):
    """Tiles on a grid whose cells are a fraction of a tile.

    Attributes:
        corners: Top left corners, level-0 pixels.
        cells: Column and row of the upper left cell that each tile covers.
        origin: Where the grid's first cell begins, level-0 pixels.
        step: Side of a cell, level-0 pixels.
        per_side: Cells that a tile covers along each side.
    """

    corners: Int[np.ndarray, "fine 2"]
    cells: Int[np.ndarray, "fine 2"]
    origin: Float[np.ndarray, " 2"]
    step: float
    per_side: int


class CellMeans(NamedTuple):
    """Mean over the tiles that cover each cell.

    Attributes:
        cells: Column and row of each cell that a tile covers.
        means: Mean of each quantity.
    """

    cells: Int[np.ndarray, "cells 2"]
    means: Float[np.ndarray, "cells quantities"]


def attended_tiles(
    attention: Float[np.ndarray, " tiles"], percentile: float
) -> Int[np.ndarray, " attended"]:
    """Numbers of the tiles from a percentile of attention up, most attention first."""
    least = np.percentile(attention, percentile)
    ranked = ranked_tiles(attention)
    return ranked[attention[ranked] >= least]


def fine_tiles(
    corners: Num[np.ndarray, "tiles 2"],
    side: float,
    attended: Int[np.ndarray, " attended"],
    *,
    per_side: int,
    most: int,
) -> FineTiles:
    """All tiles of the fine grid that overlap an attended one, and stand on the bag's tissue.

    Args:
        corners: Top left corners of the bag's tiles, level-0 pixels.
        side: Side of a tile, level-0 pixels.
        attended: Tiles whose surroundings are read again, most attention first.
        per_side: Cells of the fine grid along a tile's side.
        most: Largest number of tiles; beyond it the attended tiles of least attention are
            left out.
    """
    while True:
        found = _around(corners, side, attended, per_side)
        if len(found.corners) <= most or len(attended) == 1:
            return found
        fewer = int(len(attended) * most / len(found.corners))
        attended = attended[: min(max(fewer, 1), len(attended) - 1)]


def _around(
    corners: Num[np.ndarray, "tiles 2"],
    side: float,
    attended: Int[np.ndarray, " attended"],
    per_side: int,
) -> FineTiles:
    # Half a second of import, which other commands need not wait for.
    from scipy.spatial import KDTree

    step = side / per_side
    origin = corners.min(0).astype(float)
    shifts = np.arange(1 - per_side, per_side)
    across, down = np.meshgrid(shifts, shifts)
    around = np.stack([across.ravel(), down.ravel()], axis=1)
    upper_left = np.rint((corners[attended] - origin) / step).astype(np.int64)
    cells = np.unique((upper_left[:, None] + around).reshape(-1, 2), axis=0)
    fine = np.rint(origin + cells * step).astype(np.int64)
    # Corners of the bag are rounded too: its own tiles are read where they were.
    off, nearest = KDTree(corners).query(fine, p=np.inf)
    fine[off <= 1] = corners[nearest[off <= 1]]
    # Glass has no tiles: the middle of a new one must lie in one of the bag's.
    middles = KDTree(corners + side / 2)
    distance, _ = middles.query(fine + side / 2, p=np.inf)
    # Corners are rounded: a middle between two tiles may lie a pixel off both.
    on_tissue = (distance <= side / 2 + 1) & (fine >= 0).all(1)
    return FineTiles(fine[on_tissue], cells[on_tissue], origin, step, per_side)


def cell_means(
    cells: Int[np.ndarray, "fine 2"], per_side: int, values: Float[np.ndarray, "fine quantities"]
) -> CellMeans:
    """Mean of each quantity over the tiles that cover a cell.

    Args:
        cells: Column and row of the upper left cell of each tile.
        per_side: Cells that a tile covers along each side.
        values: Quantities of each tile.
    """
    inside = np.arange(per_side)
    across, down = np.meshgrid(inside, inside)
    covered = np.stack([across.ravel(), down.ravel()], axis=1)
    each = (cells[:, None] + covered).reshape(-1, 2)
    unique, numbers = np.unique(each, axis=0, return_inverse=True)
    numbers = numbers.ravel()
    repeated = values.repeat(len(covered), axis=0)
    counts = np.bincount(numbers, minlength=len(unique))
    sums = [np.bincount(numbers, column, minlength=len(unique)) for column in repeated.T]
    return CellMeans(unique, np.stack(sums, axis=1) / counts[:, None])
