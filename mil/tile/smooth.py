"""Parts of a tissue mask that have no texture: ink and its rim, glue, tinted glass."""

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from mil.tile.density import BoolMask
from mil.tile.morphology import keep_large, largest_near, widen, without_lines
from mil.tile.relief import Relief

# Relative texture below which nothing is tissue; it is judged over this many pixels.
SMOOTH = 0.02
LINE_SMOOTH = 0.06
# A smooth part that is nowhere denser than this, nor near ink, may be faint tissue.
DENSE = 0.15
# One that is compact, unlike a stroke and its rim, may be a section out of focus: sides of
# its bounding box within this factor, and at least this share of the box filled.
LONG = 4
COMPACT_SHARE = 0.72
# Smaller smooth parts are part of the tissue around them, square millimetres.
SMOOTH_MM2 = 0.01
# Share of a smooth part's surroundings that must be tissue for it to belong to them, as
# mucus and colloid do.
ENCLOSED_SHARE = 0.5
# The rim of a smooth part or of ink: texture is judged over a window, which sees the
# part's edge. It is this wide, and what is no rim is wider than twice the core radius.
RIM_UM = 110.0
CORE_UM = 60.0


def without_smooth_parts(
    tissue: BoolMask, ink: BoolMask, relief: Relief, um_per_px: float
) -> BoolMask:
    """The mask without smooth parts that no tissue encloses, and without their rims.

    Args:
        tissue: pixels with the colour of tissue.
        ink: marker ink, whose rim is no tissue either.
        relief: texture of the overview.
        um_per_px: micrometres per pixel of the masks.
    """
    factor = relief.factor
    um = um_per_px * factor
    coarse = reduce_mask(tissue, factor)
    smooth = keep_large(coarse & (relief.relative < SMOOTH), SMOOTH_MM2 * (1000 / um) ** 2)
    rim_px = max(1, round(RIM_UM / um))
    core_px = float(max(1, round(CORE_UM / um)))
    ink = reduce_mask(ink, factor)
    dense = (relief.density > DENSE) | widen(ink, float(rim_px))
    artefact = _not_enclosed(smooth, dense, coarse, rim_px)
    source = artefact | ink
    if not source.any():
        return tissue
    rest = coarse & ~artefact
    core = ~widen(~rest, core_px)
    near = widen(artefact, float(rim_px)) | widen(ink, core_px)
    rim = rest & near & ~widen(core, core_px)
    return tissue & ~enlarge(artefact | rim, factor, tissue.shape)


def without_smooth_lines(
    tissue: BoolMask, relief: Relief, thin_px: float, long_px: float
) -> BoolMask:
    """The mask without lines of little texture, such as the edge of a coverslip.

    Args:
        tissue: pixels to keep, where they form no line.
        relief: texture of the overview.
        thin_px: largest mean width of a line, pixels.
        long_px: smallest diagonal of a line's bounding box, pixels.
    """
    straight = tissue & ~without_lines(tissue, thin_px, long_px)
    if not straight.any():
        return tissue
    labels, count = ndimage.label(straight)
    relative = relief.relative.repeat(relief.factor, 0).repeat(relief.factor, 1)
    relative = relative[: tissue.shape[0], : tissue.shape[1]]
    texture = ndimage.median(relative, labels, np.arange(count + 1))
    smooth = texture < LINE_SMOOTH
    smooth[0] = False
    return tissue & ~smooth[labels]


def _not_enclosed(smooth: BoolMask, dense: BoolMask, tissue: BoolMask, rim_px: int) -> BoolMask:
    """Smooth parts, dense somewhere, with less than `ENCLOSED_SHARE` of tissue around them."""
    labels, count = ndimage.label(smooth)
    if count == 0:
        return smooth
    around = largest_near(labels, rim_px + 1)
    around[widen(smooth, float(rim_px))] = 0
    border = np.bincount(around.ravel(), minlength=count + 1)
    enclosed = np.bincount(around[tissue & ~smooth], minlength=count + 1)
    dropped = enclosed < ENCLOSED_SHARE * np.maximum(border, 1)
    dropped &= np.bincount(labels[dense], minlength=count + 1) > 0
    area = np.bincount(labels.ravel(), minlength=count + 1)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        height = rows.stop - rows.start
        width = columns.stop - columns.start
        compact = max(height, width) < LONG * min(height, width)
        compact &= bool(area[number] > COMPACT_SHARE * height * width)
        dropped[number] &= not compact
    dropped[0] = False
    return dropped[labels]


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
    large = np.empty((height, factor, width, factor), bool)
    large[:] = mask[:, None, :, None]
    return large.reshape(height * factor, width * factor)[: shape[0], : shape[1]]
