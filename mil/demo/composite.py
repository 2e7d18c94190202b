"""Pixels of composite slides: tiles in a slide's stain, side by side on glass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from mil.demo.composite_plan import CELL_PX, CompositeSlide, Layout, Stain

# Grey level of the glass around the tissue.
GLASS = 243
# Quality of the JPEG that slides are stored in.
JPEG_QUALITY = 90


def stained(
    image: UInt8[np.ndarray, "height width 3"], stain: Stain
) -> UInt8[np.ndarray, "height width 3"]:
    """An image in another stain, so that colour does not tell a tile's source."""
    density = -np.log((image.astype(np.float32) + 1) / 256)
    shifted = density * stain.gain + stain.bias
    return np.clip(256 * np.exp(-shifted) - 1, 0, 255).astype(np.uint8)


def oriented(
    image: UInt8[np.ndarray, "side side 3"], turns: int, *, flip: bool
) -> UInt8[np.ndarray, "side side 3"]:
    """A tile after quarter turns and then, if asked, a flip."""
    turned = np.rot90(image, turns)
    return turned[:, ::-1] if flip else turned


def render(
    slide: CompositeSlide, tile_of: Callable[[int], UInt8[np.ndarray, "side side 3"]]
) -> UInt8[np.ndarray, "height width 3"]:
    """Pixels of a composite slide, with a margin of glass as wide as a tile.

    Args:
        slide: the slide.
        tile_of: pixels of a tile by its number, `CELL_PX` a side.
    """
    layout = slide.layout
    shape = (layout.rows + 2) * CELL_PX, (layout.columns + 2) * CELL_PX, 3
    canvas = np.full(shape, GLASS, np.uint8)
    placed = zip(cell_corners(layout), slide.tiles, slide.turns, slide.flips, strict=True)
    for (x, y), tile, turns, flip in placed:
        image = stained(tile_of(int(tile)), slide.stain)
        canvas[y : y + CELL_PX, x : x + CELL_PX] = oriented(image, turns, flip=flip)
    return canvas


def cell_corners(layout: Layout) -> list[tuple[int, int]]:
    """Top-left corner (x, y) of each place, level-0 pixels."""
    return [(int(column + 1) * CELL_PX, int(row + 1) * CELL_PX) for row, column in layout.places]
