"""Which tiles of a slide cannot be read: a few are tried, and those that a cut file has lost are counted."""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int, Num

from mil.errors import UnreadableSlideError
from mil.io.slides import SlideReader
from mil.io.slides.tiff import TiffBlocks

Coords = Int[np.ndarray, "tiles 2"]


def four_corners(reader: SlideReader, side_level0_px: float) -> Coords:
    """Tiles in the corners of the scanned part: what a scanner writes first and last."""
    (left, top), (width, height) = reader.origin_px, reader.extent_px
    right, bottom = (max(0, math.floor(length - side_level0_px)) for length in (width, height))
    return np.array([(left + x, top + y) for y in (0, bottom) for x in (0, right)], np.int32)


def last_row(coords: Coords) -> Int[np.ndarray, "tried 2"]:
    """First, middle and last tile of the lowest row; a file that was cut short lacks these first."""
    row = coords[coords[:, 1] == coords[:, 1].max(initial=0)]
    return row[[0, len(row) // 2, len(row) - 1]] if len(row) else row


def unreadable(
    reader: SlideReader, coords: Num[np.ndarray, "tiles 2"], side_level0_px: float, tile_px: int
) -> Bool[np.ndarray, " tiles"]:
    """Which tiles cannot be read."""
    return np.array(
        [
            not _reads(reader, x, y, side_level0_px, tile_px)
            for x, y in coords.astype(float).tolist()
        ],
        bool,
    )


def _reads(reader: SlideReader, x: float, y: float, side_level0_px: float, tile_px: int) -> bool:
    try:
        reader.read(x, y, side_level0_px, tile_px)
    except UnreadableSlideError:
        return False
    return True


def cut_off(
    reader: SlideReader, level: int, coords: Coords, side_level0_px: float
) -> Bool[np.ndarray, " tiles"]:
    """Which tiles touch a block that lies behind the end of the file; none where the blocks' places are not known."""
    blocks = reader.blocks(level)
    shape = reader.levels[level]
    if not isinstance(blocks, TiffBlocks) or blocks.cut_off() == 0:
        return np.zeros(len(coords), bool)
    gone = (blocks.offsets + blocks.counts) > reader.path.stat().st_size
    total = np.zeros((blocks.rows + 1, blocks.columns + 1), int)
    total[1:, 1:] = (
        gone[: blocks.rows * blocks.columns]
        .reshape(blocks.rows, blocks.columns)
        .cumsum(0)
        .cumsum(1)
    )
    steps = (shape.downsample_x * blocks.width_px, shape.downsample_y * blocks.height_px)
    left, right = _blocks_of(coords[:, 0], side_level0_px, steps[0]).clip(0, blocks.columns)
    top, bottom = _blocks_of(coords[:, 1], side_level0_px, steps[1]).clip(0, blocks.rows)
    return (total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]) > 0


def _blocks_of(
    start: Int[np.ndarray, " tiles"], side: float, step: float
) -> Int[np.ndarray, "2 tiles"]:
    """First block that an interval touches, and the first after it."""
    return np.stack([np.floor(start / step + 1e-6), np.ceil((start + side) / step - 1e-6)]).astype(
        int
    )


def places(coords: Iterable[Iterable[int]], most: int = 3) -> str:
    """Tiles by their corners, for a message."""
    shown = [f"({x}, {y})" for x, y in coords]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
