"""Parts of a tissue mask that have no texture: rims of ink, and bands along the border."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from mil.tile.density import BoolMask
from mil.tile.morphology import keep_large, largest_near, widen
from mil.tile.relief import Relief

# Relative texture below which a part is smooth; lines are smooth below the second.
SMOOTH = 0.02
LINE_SMOOTH = 0.06
# Smaller smooth parts are part of the tissue around them, square millimetres.
SMOOTH_MM2 = 0.01
# Share of a smooth part's surroundings that must be tissue for it to belong to them, as
# mucus and colloid do.
ENCLOSED_SHARE = 0.5
# A smooth part is the rim of ink if this share of it lies so near to ink, micrometres. A
# section out of focus is as smooth, but reaches further.
INK_REACH_UM = 110.0
INK_SHARE = 0.9
# Smaller spots that look like ink may be nuclei out of focus, square millimetres.
STROKE_MM2 = 0.1
# It is a band along an edge if it is longer than this, has at most this mean width, and
# meets the border of the overview over that length; micrometres.
BAND_LONG_UM = 2000.0
BAND_WIDTH_UM = 500.0
# What surrounds a smooth part lies so far from it, micrometres: texture is judged over a
# window, which sees the part's edge.
RIM_UM = 110.0
# Pixels so near to the overview's border lie at it.
BORDER_PX = 3


def without_smooth_parts(
    tissue: BoolMask, ink: BoolMask, relief: Relief, um_per_px: float
) -> BoolMask:
    """The mask without the smooth rims of ink and smooth bands along an edge.

    What tissue encloses is kept, and so is what is smooth for another reason, as a
    section out of focus is.

    Args:
        tissue: pixels with the colour of tissue.
        ink: marker ink, whose rim is no tissue either.
        relief: texture of the overview.
        um_per_px: micrometres per pixel of the masks.
    """
    factor = relief.factor
    um = um_per_px * factor
    coarse = reduce_mask(tissue, factor)
    ink = keep_large(reduce_mask(ink, factor), STROKE_MM2 * (1000 / um) ** 2)
    smooth = keep_large(coarse & (relief.relative < SMOOTH), SMOOTH_MM2 * (1000 / um) ** 2)
    artefact = _artefacts(smooth, coarse, ink, um)
    return tissue & ~enlarge(artefact, factor, tissue.shape) if artefact.any() else tissue


def smooth_lines(lines: BoolMask, relief: Relief, long_px: float) -> BoolMask:
    """Lines of little texture that meet the border twice.

    Such is the edge of a coverslip; a thin biopsy ends before the border.

    Args:
        lines: regions that are long and thin.
        relief: texture of the overview.
        long_px: smallest diagonal of a line's bounding box, pixels.
    """
    labels, count = ndimage.label(lines)
    relative = relief.relative.repeat(relief.factor, 0).repeat(relief.factor, 1)
    relative = relative[: lines.shape[0], : lines.shape[1]]
    texture = ndimage.median(relative, labels, np.arange(count + 1))
    smooth = (texture < LINE_SMOOTH) & (_along_border(labels, count) > long_px / 2)
    smooth[0] = False
    return smooth[labels]


def _artefacts(smooth: BoolMask, tissue: BoolMask, ink: BoolMask, um: float) -> BoolMask:
    """Smooth parts that are rims of ink or bands along an edge, not enclosed by tissue."""
    labels, count = ndimage.label(smooth)
    if count == 0:
        return smooth
    area = np.bincount(labels.ravel(), minlength=count + 1)
    near_ink = np.bincount(labels[widen(ink, INK_REACH_UM / um)], minlength=count + 1)
    dropped = near_ink >= INK_SHARE * area
    long_px = BAND_LONG_UM / um
    length = _along_border(labels, count)
    dropped |= (length > long_px) & (area < BAND_WIDTH_UM / um * length)
    dropped[0] = False
    return _open_parts(dropped[labels], tissue, max(1, round(RIM_UM / um)))


def _along_border(labels: np.ndarray, count: int) -> Float[np.ndarray, " parts"]:
    """Diagonal of the box around the pixels of each part that lie at the border."""
    border = labels.copy()
    margin = BORDER_PX
    border[margin:-margin, margin:-margin] = 0
    length = np.zeros(count + 1)
    for number, box in enumerate(ndimage.find_objects(border, count), start=1):
        if box is not None:
            rows, columns = box
            length[number] = np.hypot(rows.stop - rows.start, columns.stop - columns.start)
    return length


def _open_parts(parts: BoolMask, tissue: BoolMask, rim_px: int) -> BoolMask:
    """Parts with less than `ENCLOSED_SHARE` of tissue around them."""
    labels, count = ndimage.label(parts)
    if count == 0:
        return parts
    around = largest_near(labels, rim_px + 1)
    around[widen(parts, float(rim_px))] = 0
    border = np.bincount(around.ravel(), minlength=count + 1)
    enclosed = np.bincount(around[tissue], minlength=count + 1)
    is_open = enclosed < ENCLOSED_SHARE * np.maximum(border, 1)
    is_open[0] = False
    return is_open[labels]


def reduce_mask(mask: BoolMask, factor: int) -> Bool[np.ndarray, "rows columns"]:
    """Blocks of `factor` x `factor` pixels of which at least half are set."""
    if factor == 1:
        return mask
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % factor), (0, -width % factor)), mode="edge")
    count = np.zeros(padded[::factor, ::factor].shape, np.uint16)
    for row in range(factor):
        for column in range(factor):
            count += padded[row::factor, column::factor]
    return count >= (factor**2 + 1) // 2


def enlarge(
    mask: BoolMask, factor: int, shape: tuple[int, ...]
) -> Bool[np.ndarray, "rows columns"]:
    """The mask with each pixel repeated `factor` times in both axes, cut to a shape."""
    if factor == 1:
        return mask
    height, width = mask.shape
    large = np.empty((height, factor, width * factor), bool)
    # Several times as fast as copying pixel by pixel: whole rows at a time.
    for column in range(factor):
        large[:, 0, column::factor] = mask
    large[:, 1:] = large[:, :1]
    return large.reshape(height * factor, width * factor)[: shape[0], : shape[1]]
