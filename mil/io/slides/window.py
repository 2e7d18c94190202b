"""Rectangles of a level: put together from blocks, brought to a size."""

import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from mil.io.slides.blocks import Blocks, Pixels
from mil.io.slides.levels import Level


class Box(NamedTuple):
    """A rectangle, whole pixels of a level."""

    left: int
    top: int
    right: int
    bottom: int


class Window(NamedTuple):
    """Pixels of a level, and where in the level they begin."""

    pixels: Pixels
    left: float
    top: float


# Brings a rectangle (left, top, width, height: pixels of the level) of a window to a
# size (width, height).
Resample = Callable[[Window, float, float, float, float, tuple[int, int]], Pixels]


WHOLE = 1e-6  # an edge this near to a whole pixel lies on it


def around(left: float, top: float, right: float, bottom: float) -> Box:
    """The smallest rectangle of whole pixels around another one."""
    return Box(
        math.floor(left + WHOLE),
        math.floor(top + WHOLE),
        math.ceil(right - WHOLE),
        math.ceil(bottom - WHOLE),
    )


def count_uses(
    level: Level, blocks: Blocks, coords: Int[np.ndarray, "tiles 2"], side_level0_px: float
) -> dict[tuple[int, int], int]:
    """How many of these tiles touch each block, by its column and row.

    Args:
        level: which.
        blocks: its grid.
        coords: top left corners of tiles, level-0 pixels.
        side_level0_px: their side, level-0 pixels.
    """
    spans = []
    for axis, (down, whole, block) in enumerate(
        (
            (level.downsample_x, level.width_px, blocks.width_px),
            (level.downsample_y, level.height_px, blocks.height_px),
        )
    ):
        start = coords[:, axis] / down
        stop = coords[:, axis] / down + side_level0_px / down
        first = np.floor(start + WHOLE).clip(0) // block
        last = (np.ceil(stop - WHOLE).clip(max=whole) - 1) // block
        spans.append((first.astype(np.int64), last.astype(np.int64)))
    (left, right), (top, bottom) = spans
    touched: Counter[tuple[int, int]] = Counter()
    for down in range(int((bottom - top).max(initial=-1)) + 1):
        for across in range(int((right - left).max(initial=-1)) + 1):
            fits = (left + across <= right) & (top + down <= bottom)
            pairs, counts = np.unique(
                np.stack([left[fits] + across, top[fits] + down], axis=1),
                axis=0,
                return_counts=True,
            )
            touched.update(
                {(int(c), int(r)): int(n) for (c, r), n in zip(pairs, counts, strict=True)}
            )
    return touched


def assemble(level: Level, blocks: Blocks, block: Callable[[int, int], Pixels], box: Box) -> Window:
    """The pixels of a rectangle; white outside the level.

    Args:
        level: which.
        blocks: its grid.
        block: gives a block by column and row.
        box: the rectangle; one inside a single block is a view of it.
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
    if inside == box and len(columns) == len(rows) == 1:
        x = columns[0] * width
        y = rows[0] * height
        pixels = block(columns[0], rows[0])[
            box.top - y : box.bottom - y, box.left - x : box.right - x
        ]
        return Window(pixels, box.left, box.top)
    shape = box.bottom - box.top, box.right - box.left, 3
    pixels = np.empty(shape, np.uint8) if inside == box else np.full(shape, 255, np.uint8)
    for row in rows:
        for column in columns:
            _paste(pixels, box, block(column, row), (column * width, row * height), inside)
    return Window(pixels, box.left, box.top)


def _paste(pixels: Pixels, box: Box, block: Pixels, place: tuple[int, int], inside: Box) -> None:
    """Copy the part of a block that lies inside a rectangle of its level."""
    x0 = max(place[0], inside.left)
    y0 = max(place[1], inside.top)
    x1 = max(x0, min(place[0] + block.shape[1], inside.right))
    y1 = max(y0, min(place[1] + block.shape[0], inside.bottom))
    part = block[y0 - place[1] : y1 - place[1], x0 - place[0] : x1 - place[0]]
    pixels[y0 - box.top : y1 - box.top, x0 - box.left : x1 - box.left] = part


def resample(
    window: Window, left: float, top: float, width: float, height: float, size_px: tuple[int, int]
) -> UInt8[np.ndarray, "height width 3"]:
    """Bring a rectangle of a level, given in pixels of the level, to a size; as it is where nothing changes."""
    pixels = window.pixels
    left = left - window.left
    top = top - window.top
    rows, columns = pixels.shape[:2]
    box = (max(left, 0.0), max(top, 0.0), min(left + width, columns), min(top + height, rows))
    if (columns, rows) == size_px and max(box[0], box[1], columns - box[2], rows - box[3]) < 1e-6:
        return pixels
    image = Image.fromarray(pixels)
    return np.asarray(image.resize(size_px, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))
