"""Score layers: values of a slide's tiles, painted as image tiles with alpha."""

import io
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num, UInt8
from PIL import Image

from mil.view.pyramid import TILE_PX, Frame

# Entry 0 of a palette is no colour at all, where no tile lies.
NOTHING = 0
COLOURS = 255
# Side of a tile on the screen from which a line of one pixel cannot be a missing tile.
FINE_SIDE_PX = 4.0


class Places(NamedTuple):
    """Top left corners and side of a bag's valid tiles, in units of the frame."""

    corners: Num[np.ndarray, "tiles 2"]
    side: float

    def at(self, x: float, y: float) -> Int[np.ndarray, " hits"]:
        """Numbers of the tiles that hold a point."""
        beyond = np.array((x, y)) - self.corners
        return np.flatnonzero(((beyond >= 0) & (beyond < self.side)).all(1))


def coverage(
    values: Float[np.ndarray, " tiles"],
    places: Places,
    frame: Frame,
    scale: float,
    window: tuple[int, int, int, int],
) -> tuple[Float[np.ndarray, "height width"], Int[np.ndarray, "height width"]]:
    """Mean value of the tiles on each pixel of a window, and their number.

    Edges of tiles are rounded to whole pixels of the whole image, as in heatmaps, so that
    neighbours meet and image tiles fit. A tile below a pixel still has one.

    Args:
        values: Value of each tile.
        places: Positions of the tiles.
        frame: Frame of the image.
        scale: Units per pixel.
        window: Left, top, width and height, pixels of the whole image.
    """
    left, top, width, height = window
    first = np.rint((places.corners - np.array([frame.left, frame.top])) / scale)
    last = np.rint((places.corners + places.side - np.array([frame.left, frame.top])) / scale)
    last = np.maximum(last, first + 1)
    origin = np.array([left, top])
    first = np.clip(first - origin, 0, [width, height]).astype(np.int64)
    last = np.clip(last - origin, 0, [width, height]).astype(np.int64)
    touches = (last > first).all(1)
    first = first[touches]
    last = last[touches]
    counts = _summed(np.ones(len(first)), first, last, width, height)
    sums = _summed(values[touches], first, last, width, height)
    number = np.rint(counts).astype(np.int64)
    return sums / np.maximum(number, 1), number


def _summed(
    values: Float[np.ndarray, " tiles"],
    first: Int[np.ndarray, "tiles 2"],
    last: Int[np.ndarray, "tiles 2"],
    width: int,
    height: int,
) -> Float[np.ndarray, "height width"]:
    """Sum of the values of the rectangles over each pixel.

    By the differences at their corners, so that the cost of a rectangle does not depend on
    its size: at low zoom there are a hundred thousand, at high zoom they are large.
    """
    row = width + 1
    corners = np.concatenate(
        [
            first[:, 1] * row + first[:, 0],
            last[:, 1] * row + last[:, 0],
            first[:, 1] * row + last[:, 0],
            last[:, 1] * row + first[:, 0],
        ]
    )
    signed = np.concatenate([values, values, -values, -values])
    differences = np.bincount(corners, signed, minlength=row * (height + 1))
    sums = differences.reshape(height + 1, row).cumsum(0).cumsum(1)
    return sums[:height, :width]


def _without_cracks(
    means: Float[np.ndarray, "height width"],
    number: Int[np.ndarray, "height width"],
    *,
    across: bool = False,
) -> tuple[Float[np.ndarray, "height width"], Int[np.ndarray, "height width"]]:
    """Fill lines of one pixel between two tiles with the value of the first.

    Corners are whole level-0 pixels and sides are not, so that tiles that meet may be
    apart by less than a pixel.
    """
    if across:
        filled, counts = _without_cracks(means.T, number.T)
        return filled.T, counts.T
    means = means.copy()
    number = number.copy()
    cracks = (number[:, 1:-1] == 0) & (number[:, :-2] > 0) & (number[:, 2:] > 0)
    means[:, 1:-1][cracks] = means[:, :-2][cracks]
    number[:, 1:-1][cracks] = 1
    return means, number


def layer_png(
    shares: Float[np.ndarray, " tiles"],
    colours: UInt8[np.ndarray, "255 3"],
    places: Places,
    frame: Frame,
    address: tuple[int, int, int],
) -> bytes:
    """Image tile of a score layer, a PNG of `TILE_PX` pixels.

    Args:
        shares: Value of each tile, 0 (bottom of the colours) to 1 (top).
        colours: Colours from bottom to top.
        places: Positions of the tiles.
        frame: Frame of the slide.
        address: Zoom, column and row; see `mil.view.pyramid`.
    """
    zoom, column, row = address
    window = column * TILE_PX, row * TILE_PX, TILE_PX, TILE_PX
    return painted_png(shares, colours, places, frame, frame.scale(zoom), window)


def painted_png(
    shares: Float[np.ndarray, " tiles"],
    colours: UInt8[np.ndarray, "255 3"],
    places: Places,
    frame: Frame,
    scale: float,
    window: tuple[int, int, int, int],
) -> bytes:
    """Part of a score layer at any scale, a PNG; see `layer_png` and `coverage`."""
    left, top, width, height = window
    # A pixel more on each side, so that image tiles agree about what lies on their edges.
    means, number = coverage(
        shares, places, frame, scale, (left - 1, top - 1, width + 2, height + 2)
    )
    if places.side / scale >= FINE_SIDE_PX:
        means, number = _without_cracks(*_without_cracks(means, number), across=True)
    means = means[1:-1, 1:-1]
    number = number[1:-1, 1:-1]
    # A sum of differences may leave a value just below 0 or above 1.
    steps = np.clip(np.floor(means * COLOURS + 1e-9), 0, COLOURS - 1).astype(np.uint8) + 1
    indices = np.where(number > 0, steps, NOTHING).astype(np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette(np.vstack([np.zeros((1, 3), np.uint8), colours]).tobytes())
    out = io.BytesIO()
    image.save(out, "png", transparency=NOTHING, compress_level=1)
    return out.getvalue()
