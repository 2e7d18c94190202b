"""Rectangles of a level: put together from blocks, brought to a size."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
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


def assemble(level: Level, blocks: Blocks, block: Callable[[int, int], Pixels], box: Box) -> Window:
    """The pixels of a rectangle; white outside the level.

    Args:
        level: which.
        blocks: its grid.
        block: gives a block by column and row.
        box: the rectangle; one inside a single block is a view of it.
    """
    width, height = blocks.width_px, blocks.height_px
    inside = Box(max(box.left, 0), max(box.top, 0), min(box.right, level.width_px), min(box.bottom, level.height_px))
    columns = range(inside.left // width, -(-inside.right // width))
    rows = range(inside.top // height, -(-inside.bottom // height))
    if inside == box and len(columns) == len(rows) == 1:
        x, y = columns[0] * width, rows[0] * height
        pixels = block(columns[0], rows[0])[box.top - y : box.bottom - y, box.left - x : box.right - x]
        return Window(pixels, box.left, box.top)
    shape = box.bottom - box.top, box.right - box.left, 3
    pixels = np.empty(shape, np.uint8) if inside == box else np.full(shape, 255, np.uint8)
    for row in rows:
        for column in columns:
            _paste(pixels, box, block(column, row), (column * width, row * height), inside)
    return Window(pixels, box.left, box.top)


def _paste(pixels: Pixels, box: Box, block: Pixels, place: tuple[int, int], inside: Box) -> None:
    """Copy the part of a block that lies inside a rectangle of its level."""
    x0, y0 = max(place[0], inside.left), max(place[1], inside.top)
    x1 = max(x0, min(place[0] + block.shape[1], inside.right))
    y1 = max(y0, min(place[1] + block.shape[0], inside.bottom))
    part = block[y0 - place[1] : y1 - place[1], x0 - place[0] : x1 - place[0]]
    pixels[y0 - box.top : y1 - box.top, x0 - box.left : x1 - box.left] = part


def resample(
    window: Window, left: float, top: float, width: float, height: float, size_px: tuple[int, int]
) -> UInt8[np.ndarray, "height width 3"]:
    """Bring a rectangle of a level, given in pixels of the level, to a size; as it is where nothing changes."""
    pixels = window.pixels
    left, top = left - window.left, top - window.top
    rows, columns = pixels.shape[:2]
    box = (max(left, 0.0), max(top, 0.0), min(left + width, columns), min(top + height, rows))
    if (columns, rows) == size_px and max(box[0], box[1], columns - box[2], rows - box[3]) < 1e-6:
        return pixels
    image = Image.fromarray(pixels)
    return np.asarray(image.resize(size_px, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))
