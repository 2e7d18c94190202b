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
# Side of what is read in one piece, pixels of the level.
WINDOW_PX = 4096
# A tile that cannot be read is not blurred; it will be marked invalid when its features
# are made.
UNREADABLE = 0.0


def assess(
    reader: SlideReader, plan: TilePlan, mpp: float
) -> dict[str, Float[np.ndarray, " tiles"]]:
    """Quality columns of a slide's tiles, each 0..1; see `mil.tile.flags` for what they mean and from where they flag.

    Args:
        reader: the open slide.
        plan: its tiles.
        mpp: micrometres per pixel of level 0.
    """
    corners = (plan.coords - np.array(reader.origin_px)) / plan.mask_scale
    columns = colour_shares(
        plan.picture, plan.found, corners, plan.side_level0_px / plan.mask_scale
    )
    return {**columns, "blur": _blur(reader, plan, mpp)}


def _blur(reader: SlideReader, plan: TilePlan, mpp: float) -> Float[np.ndarray, " tiles"]:
    scale = _focus_scale(reader, mpp)
    deep = _deep(plan, mpp)
    level = reader.levels[reader.level_for(scale)]
    values = np.full(len(plan.coords), UNREADABLE)
    for rows in _windows(plan.coords, WINDOW_PX * level.downsample, plan.side_level0_px):
        try:
            values[rows] = _of_window(reader, plan, deep, rows, scale, mpp)
        except UnreadableSlideError:
            for row in rows:
                try:
                    values[row] = _of_window(reader, plan, deep, np.array([row]), scale, mpp)[0]
                except UnreadableSlideError:
                    continue
    return values


def _deep(plan: TilePlan, mpp: float) -> Bool[np.ndarray, "height width"]:
    """Tissue farther from its rim than focus is looked at over; a pixel more, since the mask is no finer."""
    rim = int(np.ceil(COARSE_UM / (mpp * plan.mask_scale))) + 1
    return ndimage.minimum_filter(plan.mask.astype(np.uint8), 2 * rim + 1, mode="nearest").astype(
        bool
    )


def _focus_scale(reader: SlideReader, mpp: float) -> float:
    """Level-0 pixels per pixel of the picture that focus is judged on."""
    finest, coarsest = (um / mpp for um in FOCUS_UM_PER_PX)
    fit = [level.downsample for level in reader.levels if finest <= level.downsample <= coarsest]
    return max(fit, default=max(coarsest, 1.0))


def _windows(
    coords: Int[np.ndarray, "tiles 2"], window_px: float, side: float
) -> Iterator[Int[np.ndarray, " some"]]:
    """Rows of tiles that lie together in one window, level-0 pixels wide and high."""
    if len(coords) == 0:
        return
    cell = np.floor((coords - coords.min(0)) / max(window_px - side, side)).astype(np.int64)
    order = np.lexsort((cell[:, 0], cell[:, 1]))
    bounds = np.flatnonzero((np.diff(cell[order], axis=0) != 0).any(1)) + 1
    yield from np.split(order, bounds)


def _of_window(
    reader: SlideReader,
    plan: TilePlan,
    deep: Bool[np.ndarray, "height width"],
    rows: Int[np.ndarray, " some"],
    scale: float,
    mpp: float,
) -> Float[np.ndarray, " some"]:
    corner = plan.coords[rows].min(0).astype(float)
    extent = plan.coords[rows].max(0) + plan.side_level0_px - corner
    width, height = (int(side) for side in np.ceil(extent / scale))
    picture = reader.read_box(
        (corner[0], corner[1]), (width * scale, height * scale), (width, height)
    )
    columns, lines = (
        (
            ((np.arange(count) + 0.5) * scale + corner[axis] - reader.origin_px[axis])
            / plan.mask_scale
        ).astype(int)
        for axis, count in enumerate((width, height))
    )
    inside = deep[np.ix_(lines.clip(0, deep.shape[0] - 1), columns.clip(0, deep.shape[1] - 1))]
    corners = (plan.coords[rows] - corner) / scale
    return blur(picture, mpp * scale, corners, plan.side_level0_px / scale, inside)
