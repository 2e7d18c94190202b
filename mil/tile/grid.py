"""Arithmetic of the tile grid. Coordinates are level-0 pixels, (x, y), top left."""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from mil.errors import ConfigError

# Positions of tiles on one slide. The largest sections, 75 mm wide, have 2 million at
# 224 px and 0.25 µm/px; more are a slip in the size of a tile.
MOST_POSITIONS = 4_000_000


def footprint_px(size_px: int, target_mpp: float, slide_mpp: float) -> float:
    """Side of a tile on the slide, level-0 pixels; never rounded.

    Args:
        size_px: side of the tile as the encoder sees it, pixels.
        target_mpp: resolution the encoder sees, micrometres per pixel.
        slide_mpp: resolution of level 0, micrometres per pixel.

    Returns:
        ``size_px * target_mpp / slide_mpp``.

    Raises:
        ValueError: an argument is not positive.

    Example:
        >>> footprint_px(224, target_mpp=0.5, slide_mpp=0.25)
        448.0
    """
    if min(size_px, target_mpp, slide_mpp) <= 0:
        raise ValueError(
            f"sizes must be positive: {size_px} px, {target_mpp} and {slide_mpp} µm/px"
        )
    return size_px * target_mpp / slide_mpp


def grid(
    extent_px: tuple[int, int], side_px: float, origin_px: tuple[int, int] = (0, 0)
) -> Int[np.ndarray, "tiles 2"]:
    """Top left corners of all tiles that lie wholly inside, row by row.

    Corner (i, j) is at ``origin + (i, j) * side`` rounded to whole pixels, so that
    errors do not add up along a row.

    Args:
        extent_px: width and height of the scanned part, level-0 pixels.
        side_px: side of a tile, level-0 pixels; need not be whole.
        origin_px: corner of the scanned part, level-0 pixels.

    Raises:
        ConfigError: there are more than `MOST_POSITIONS`.
    """
    columns, rows = (int((extent + 1e-6) // side_px) for extent in extent_px)
    if columns * rows > MOST_POSITIONS:
        raise ConfigError(
            f"tiles of {side_px:.3g} px on a slide of {extent_px[0]} x {extent_px[1]} px are "
            f"{columns * rows / 1e6:.3g} million, and at most {MOST_POSITIONS / 1e6:g} million "
            "are cut; set larger tiles (tile.size_px or tile.mpp)"
        )
    x = np.rint(origin_px[0] + np.arange(columns) * side_px).astype(np.int32)
    y = np.rint(origin_px[1] + np.arange(rows) * side_px).astype(np.int32)
    return np.stack([np.tile(x, rows), np.repeat(y, columns)], axis=1)


def share_inside(
    mask: Bool[np.ndarray, "height width"], corners: Float[np.ndarray, "tiles 2"], side: float
) -> Float[np.ndarray, " tiles"]:
    """Share of each tile's area that the mask covers, 0..1; tiles may begin and end between pixels.

    Args:
        mask: pixels that count.
        corners: top left corners in pixels of the mask, (x, y).
        side: side of a tile in pixels of the mask.
    """
    height, width = mask.shape

    def place(at: Float[np.ndarray, " tiles"], last: int) -> tuple[np.ndarray, np.ndarray]:
        """Whole pixel below a place in the mask, and the fraction above it."""
        at = at.clip(0, last)
        whole = np.minimum(at.astype(int), last - 1)
        return whole, at - whole

    tops = place(corners[:, 1], height)
    bottoms = place(corners[:, 1] + side, height)
    lefts = place(corners[:, 0], width)
    rights = place(corners[:, 0] + side, width)
    edges = np.concatenate([tops[0], tops[0] + 1, bottoms[0], bottoms[0] + 1])
    rows, total = sums_above_left(mask, edges)

    def area_above_left(
        x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray]
    ) -> Float[np.ndarray, " tiles"]:
        x0, dx = x
        y0 = np.searchsorted(rows, y[0])
        y1 = np.searchsorted(rows, y[0] + 1)
        upper = total[y0, x0] * (1 - dx) + total[y0, x0 + 1] * dx
        lower = total[y1, x0] * (1 - dx) + total[y1, x0 + 1] * dx
        return upper * (1 - y[1]) + lower * y[1]

    covered = (
        area_above_left(rights, bottoms)
        - area_above_left(lefts, bottoms)
        - area_above_left(rights, tops)
        + area_above_left(lefts, tops)
    )
    return (covered / side**2).clip(0, 1)


def sums_above_left(
    values: Shaped[np.ndarray, "height width"], edges: Int[np.ndarray, " edges"]
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, "rows columns"]]:
    """Sums of all values above and left of a corner, for the rows that corners lie in.

    Args:
        values: values to add up.
        edges: rows that corners lie in, 0 to the height; any order, any number of times.

    Returns:
        The rows, rising, from 0; and the sums, [row, column from 0 to the width].
    """
    rows = np.union1d(edges, [0]).astype(np.int64)
    sums = np.zeros((len(rows), values.shape[1] + 1))
    if len(rows) > 1:
        # Whole numbers add up several times as fast.
        kind = np.int32 if values.dtype == bool else np.float64
        values = values.view(np.uint8) if values.dtype == bool else values
        between = np.add.reduceat(values[: rows[-1]], rows[:-1], axis=0, dtype=kind)
        np.cumsum(between.cumsum(0), axis=1, out=sums[1:, 1:])
    return rows, sums
