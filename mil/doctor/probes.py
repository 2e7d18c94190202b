"""Tiles that cannot be read: a few are tried, and those beyond a cut are counted."""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int, Num

from mil.errors import UnreadableSlideError, some
from mil.io.slides import SlideReader
from mil.io.slides.tiff import TiffBlocks

Coords = Int[np.ndarray, "tiles 2"]
# Rounding of coordinates must not add a block to the footprint of a tile, in blocks.
TOLERANCE = 1e-6


def four_corners(reader: SlideReader, side_level0_px: float) -> Coords:
    """Tiles in the corners of the scanned part; a scanner writes them first and last."""
    left, top = reader.origin_px
    width, height = reader.extent_px
    right = max(0, math.floor(width - side_level0_px))
    bottom = max(0, math.floor(height - side_level0_px))
    corners = [(left + x, top + y) for y in (0, bottom) for x in (0, right)]
    return np.array(corners, np.int32)


def last_row(coords: Coords) -> Int[np.ndarray, "tried 2"]:
    """First, middle and last tile of the lowest row; a truncated file loses it first."""
    row = coords[coords[:, 1] == coords[:, 1].max(initial=0)]
    return row[[0, len(row) // 2, len(row) - 1]] if len(row) else row


def unreadable(
    reader: SlideReader, coords: Num[np.ndarray, "tiles 2"], side_level0_px: float, tile_px: int
) -> Bool[np.ndarray, " tiles"]:
    """True for each tile that cannot be decoded.

    Args:
        reader: Open slide.
        coords: Top left corners, level-0 pixels.
        side_level0_px: Side of a tile, level-0 pixels.
        tile_px: Side of a tile as read, pixels.
    """
    corners = coords.astype(float).tolist()
    failed = [not _reads(reader, x, y, side_level0_px, tile_px) for x, y in corners]
    return np.array(failed, bool)


def _reads(reader: SlideReader, x: float, y: float, side_level0_px: float, tile_px: int) -> bool:
    try:
        reader.read(x, y, side_level0_px, tile_px)
    except UnreadableSlideError:
        return False
    return True


def cut_off(
    reader: SlideReader, level: int, coords: Coords, side_level0_px: float
) -> Bool[np.ndarray, " tiles"]:
    """True for each tile that touches a block behind the end of the file.

    Positions of blocks are known for plain TIFF only; for other slides no tile does.

    Args:
        reader: Open slide.
        level: Level that tiles are read from.
        coords: Top left corners, level-0 pixels.
        side_level0_px: Side of a tile, level-0 pixels.
    """
    blocks = reader.blocks(level)
    shape = reader.levels[level]
    if not isinstance(blocks, TiffBlocks) or blocks.cut_off() == 0:
        return np.zeros(len(coords), bool)
    # From the file's index alone: to read every block would take as long as `features`.
    total = _summed_area(blocks.beyond_end().reshape(blocks.rows, blocks.columns))
    block_width = shape.downsample_x * blocks.width_px
    block_height = shape.downsample_y * blocks.height_px
    left, right = _block_range(coords[:, 0], side_level0_px, block_width).clip(0, blocks.columns)
    top, bottom = _block_range(coords[:, 1], side_level0_px, block_height).clip(0, blocks.rows)
    lost = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return lost > 0


def _summed_area(mask: Bool[np.ndarray, "rows columns"]) -> Int[np.ndarray, "edges_y edges_x"]:
    """Summed-area table: the number of true cells of any rectangle in four look-ups."""
    rows, columns = mask.shape
    total = np.zeros((rows + 1, columns + 1), int)
    total[1:, 1:] = mask.cumsum(0).cumsum(1)
    return total


def _block_range(
    start: Int[np.ndarray, " tiles"], side: float, block: float
) -> Int[np.ndarray, "2 tiles"]:
    """First block that an interval touches, and the first after it."""
    first = np.floor(start / block + TOLERANCE)
    after = np.ceil((start + side) / block - TOLERANCE)
    return np.stack([first, after]).astype(int)


def positions(coords: Iterable[Iterable[int]]) -> str:
    """The first corners of a list of tiles, and the number of the others."""
    return some([f"({x}, {y})" for x, y in coords])
