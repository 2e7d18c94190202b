"""Quality of each tile, read from the slide: columns that flag, and delete nothing."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from mil.errors import UnreadableSlideError
from mil.io.slides import SlideReader
from mil.tile.flags import COARSE_UM, blur, colour_shares
from mil.tile.plan import TilePlan

# Focus is judged on the coarsest level in this range, which costs least, else at the
# range's end: from 1 to 4 µm/px the measure gives the same figures.
FOCUS_UM_PER_PX = (1.0, 4.2)
# Side of the largest window read at once, pixels of the level.
WINDOW_PX = 4096
# A tile that cannot be read is not blurred; it will be marked invalid when its features
# are made.
UNREADABLE = 0.0


def assess(
    reader: SlideReader, plan: TilePlan, mpp: float
) -> dict[str, Float[np.ndarray, " tiles"]]:
    """Quality columns of a slide's tiles, each 0..1; `mil.tile.flags` defines them.

    Args:
        reader: the open slide.
        plan: tiles of the slide.
        mpp: micrometres per pixel of level 0.
    """
    corners = (plan.coords - np.array(reader.origin_px)) / plan.mask_scale
    side = plan.side_level0_px / plan.mask_scale
    columns = colour_shares(plan.overview, plan.detected, corners, side)
    return {**columns, "blur": _blur(reader, plan, mpp)}


def _blur(reader: SlideReader, plan: TilePlan, mpp: float) -> Float[np.ndarray, " tiles"]:
    scale = _focus_scale(reader, mpp)
    inner = _inner_tissue(plan, mpp)
    level = reader.levels[reader.level_for(scale)]
    values = np.full(len(plan.coords), UNREADABLE)
    for rows in _windows(plan.coords, WINDOW_PX * level.downsample, plan.side_level0_px):
        try:
            values[rows] = _blur_of_rows(reader, plan, inner, rows, scale, mpp)
        except UnreadableSlideError:
            # One damaged block must not cost the whole window: tile by tile.
            for row in rows:
                single = np.array([row])
                try:
                    values[row] = _blur_of_rows(reader, plan, inner, single, scale, mpp)[0]
                except UnreadableSlideError:
                    continue
    return values


def _inner_tissue(plan: TilePlan, mpp: float) -> Bool[np.ndarray, "height width"]:
    """Tissue farther from its rim than the distance over which focus is judged."""
    # A pixel more, since the mask is no finer.
    rim_px = int(np.ceil(COARSE_UM / (mpp * plan.mask_scale))) + 1
    mask = plan.mask.astype(np.uint8)
    return ndimage.minimum_filter(mask, 2 * rim_px + 1, mode="nearest").astype(bool)


def _focus_scale(reader: SlideReader, mpp: float) -> float:
    """Level-0 pixels per pixel of the image that focus is judged on."""
    finest, coarsest = (um / mpp for um in FOCUS_UM_PER_PX)
    downsamples = [level.downsample for level in reader.levels]
    suitable = [downsample for downsample in downsamples if finest <= downsample <= coarsest]
    return max(suitable, default=max(coarsest, 1.0))


def _windows(
    coords: Int[np.ndarray, "tiles 2"], window_px: float, side: float
) -> Iterator[Int[np.ndarray, " some"]]:
    """Rows of tiles that lie together in one window.

    Args:
        coords: top left corners of the tiles, level-0 pixels.
        window_px: side of a window, level-0 pixels.
        side: side of a tile, level-0 pixels.
    """
    if len(coords) == 0:
        return
    cell = np.floor((coords - coords.min(0)) / max(window_px - side, side)).astype(np.int64)
    order = np.lexsort((cell[:, 0], cell[:, 1]))
    bounds = np.flatnonzero((np.diff(cell[order], axis=0) != 0).any(1)) + 1
    yield from np.split(order, bounds)


def _blur_of_rows(
    reader: SlideReader,
    plan: TilePlan,
    inner: Bool[np.ndarray, "height width"],
    rows: Int[np.ndarray, " some"],
    scale: float,
    mpp: float,
) -> Float[np.ndarray, " some"]:
    """Blur of the tiles in some rows of the plan, read in one window."""
    coords = plan.coords[rows]
    corner = coords.min(0).astype(float)
    extent = coords.max(0) + plan.side_level0_px - corner
    width, height = (int(side) for side in np.ceil(extent / scale))
    image = reader.read_box(
        (corner[0], corner[1]), (width * scale, height * scale), (width, height)
    )

    def mask_pixels(count: int, axis: int) -> Int[np.ndarray, " pixels"]:
        """Column (axis 0) or row (1) of the mask under each pixel's centre."""
        level0_px = (np.arange(count) + 0.5) * scale + corner[axis]
        index = ((level0_px - reader.origin_px[axis]) / plan.mask_scale).astype(int)
        return index.clip(0, inner.shape[1 - axis] - 1)

    inside = inner[np.ix_(mask_pixels(height, 1), mask_pixels(width, 0))]
    return blur(image, mpp * scale, (coords - corner) / scale, plan.side_level0_px / scale, inside)
