"""Arithmetic of the tile grid. Coordinates are level-0 pixels, (x, y), top left."""

import numpy as np
from jaxtyping import Bool, Float, Int

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
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    total[1:, 1:] = mask.cumsum(0).cumsum(1)

    def area_above_left(
        x: Float[np.ndarray, " tiles"], y: Float[np.ndarray, " tiles"]
    ) -> Float[np.ndarray, " tiles"]:
        x = x.clip(0, mask.shape[1])
        y = y.clip(0, mask.shape[0])
        x0 = np.minimum(x.astype(int), mask.shape[1] - 1)
        y0 = np.minimum(y.astype(int), mask.shape[0] - 1)
        dx = x - x0
        dy = y - y0
        upper = total[y0, x0] * (1 - dx) + total[y0, x0 + 1] * dx
        lower = total[y0 + 1, x0] * (1 - dx) + total[y0 + 1, x0 + 1] * dx
        return upper * (1 - dy) + lower * dy

    left = corners[:, 0]
    top = corners[:, 1]
    right = left + side
    bottom = top + side
    covered = (
        area_above_left(right, bottom)
        - area_above_left(left, bottom)
        - area_above_left(right, top)
        + area_above_left(left, top)
    )
    return (covered / side**2).clip(0, 1)
