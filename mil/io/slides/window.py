"""Rectangles of a level: put together from blocks, brought to a size."""

import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from mil.io.slides.blocks import Blocks, RgbPixels
from mil.io.slides.levels import Level

# An edge this near to a whole pixel lies on it, pixels.
ON_PIXEL = 1e-6


class Box(NamedTuple):
    """A rectangle, whole pixels of a level."""

    left: int
    top: int
    right: int
    bottom: int


class Window(NamedTuple):
    """Pixels of a level, and where in the level they begin."""

    pixels: RgbPixels
    left: float
    top: float


# Brings a rectangle (left, top, width, height: pixels of the level) of a window to a
# size (width, height).
Resample = Callable[[Window, float, float, float, float, tuple[int, int]], RgbPixels]


def bounding_box(left: float, top: float, right: float, bottom: float) -> Box:
    """The smallest rectangle of whole pixels around another one."""
    return Box(
        math.floor(left + ON_PIXEL),
        math.floor(top + ON_PIXEL),
        math.ceil(right - ON_PIXEL),
        math.ceil(bottom - ON_PIXEL),
    )


def count_uses(
    level: Level, blocks: Blocks, coords: Int[np.ndarray, "tiles 2"], side_level0_px: float
) -> dict[tuple[int, int], int]:
    """Number of tiles that touch each block, by the block's column and row.

    Args:
        level: the level that the tiles are read from.
        blocks: grid of the level's blocks.
        coords: top left corners of the tiles, level-0 pixels.
        side_level0_px: side of a tile, level-0 pixels.
    """

    def span(
        starts: np.ndarray, downsample: float, level_px: int, block_px: int
    ) -> tuple[Int[np.ndarray, " tiles"], Int[np.ndarray, " tiles"]]:
        """First and last block that each tile touches along one axis."""
        begin = starts / downsample
        end = starts / downsample + side_level0_px / downsample
        first = np.floor(begin + ON_PIXEL).clip(0) // block_px
        last = (np.ceil(end - ON_PIXEL).clip(max=level_px) - 1) // block_px
        return first.astype(np.int64), last.astype(np.int64)

    left, right = span(coords[:, 0], level.downsample_x, level.width_px, blocks.width_px)
    top, bottom = span(coords[:, 1], level.downsample_y, level.height_px, blocks.height_px)
    touched: Counter[tuple[int, int]] = Counter()
    # A tile touches few blocks: count all tiles' first, second ... block at once.
    for down in range(int((bottom - top).max(initial=-1)) + 1):
        for across in range(int((right - left).max(initial=-1)) + 1):
            touching = (left + across <= right) & (top + down <= bottom)
            positions = np.stack([left[touching] + across, top[touching] + down], axis=1)
            unique, counts = np.unique(positions, axis=0, return_counts=True)
            for (column, row), count in zip(unique.tolist(), counts.tolist(), strict=True):
                touched[column, row] += count
    return touched


def assemble(
    level: Level, blocks: Blocks, block: Callable[[int, int], RgbPixels], box: Box
) -> Window:
    """The pixels of a rectangle, white outside the level.

    Args:
        level: the level to read.
        blocks: grid of the level's blocks.
        block: function that gives a block by column and row.
        box: the rectangle, pixels of the level. One inside a single block is a view of
            that block.
    """
    width = blocks.width_px
    height = blocks.height_px
    inside = Box(
        max(box.left, 0),
        max(box.top, 0),
        min(box.right, level.width_px),
        min(box.bottom, level.height_px),
    )
    columns = range(inside.left // width, -(-inside.right // width))
    rows = range(inside.top // height, -(-inside.bottom // height))
    # The usual case for small tiles: no copy is needed.
    if inside == box and len(columns) == len(rows) == 1:
        x = columns[0] * width
        y = rows[0] * height
        whole = block(columns[0], rows[0])
        view = whole[box.top - y : box.bottom - y, box.left - x : box.right - x]
        return Window(view, box.left, box.top)
    shape = box.bottom - box.top, box.right - box.left, 3
    # White only where something stays uncovered.
    pixels = np.empty(shape, np.uint8) if inside == box else np.full(shape, 255, np.uint8)
    for row in rows:
        for column in columns:
            corner = column * width, row * height
            _paste(pixels, box, block(column, row), corner, inside)
    return Window(pixels, box.left, box.top)


def _paste(
    pixels: RgbPixels, box: Box, block: RgbPixels, corner: tuple[int, int], inside: Box
) -> None:
    """Copy the part of a block that lies inside a rectangle of its level.

    Args:
        pixels: pixels of `box`, written to.
        box: the rectangle, pixels of the level.
        block: pixels of the block.
        corner: left and top of the block, pixels of the level.
        inside: the part of `box` that lies inside the level.
    """
    left, top = corner
    x0 = max(left, inside.left)
    y0 = max(top, inside.top)
    # Blocks may be larger than the level, or smaller at its edge.
    x1 = max(x0, min(left + block.shape[1], inside.right))
    y1 = max(y0, min(top + block.shape[0], inside.bottom))
    part = block[y0 - top : y1 - top, x0 - left : x1 - left]
    pixels[y0 - box.top : y1 - box.top, x0 - box.left : x1 - box.left] = part


def resample(
    window: Window, left: float, top: float, width: float, height: float, size_px: tuple[int, int]
) -> UInt8[np.ndarray, "height width 3"]:
    """Bring a rectangle of a level to a size, bicubic and anti-aliased.

    Pixels are returned as they are where nothing changes.

    Args:
        window: pixels of the level around the rectangle.
        left: left edge of the rectangle, pixels of the level.
        top: top edge of the rectangle, pixels of the level.
        width: width of the rectangle, pixels of the level.
        height: height of the rectangle, pixels of the level.
        size_px: width and height of the result, pixels.
    """
    pixels = window.pixels
    left = left - window.left
    top = top - window.top
    rows, columns = pixels.shape[:2]
    box = (max(left, 0.0), max(top, 0.0), min(left + width, columns), min(top + height, rows))
    # Nothing to resample if the rectangle is the whole window at its own size.
    margins = box[0], box[1], columns - box[2], rows - box[3]
    if (columns, rows) == size_px and max(margins) < ON_PIXEL:
        return pixels
    image = Image.fromarray(pixels)
    return np.asarray(image.resize(size_px, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))
