"""Quality of single tiles, as numbers that flag and never delete.

Each is 0 (good) to 1. `pen`, `fold`, `blood` and `black` are shares of the tile's area,
measured on the overview; `blur` is measured on a finer image.
"""

import numpy as np
from jaxtyping import Float, Float32, UInt8
from scipy import ndimage

from mil.tile.colour import BLACK
from mil.tile.density import (
    BoolMask,
    ColourBounds,
    Density,
    Plane,
    RgbImage,
    channel_extreme,
    mean3,
    optical_density,
)
from mil.tile.grid import share_inside, sums_above_left
from mil.tile.morphology import widen
from mil.tile.relief import block_mean
from mil.tile.tissue import TissueMask

Corners = Float[np.ndarray, "tiles 2"]
PerTile = Float[np.ndarray, " tiles"]

# How far ink is widened, pixels of the overview.
PEN_MARGIN_PX = 2.0
# Blood: dense in green and blue, clear in red, and more orange than eosin.
BLOOD = ColourBounds(green_above=0.7, red_under_green=0.3, blue_over_green=0.75)

# A fold is so many times denser in each channel than its surroundings, and in none that
# much more than in another.
FOLD_DENSER = 1.4
FOLD_MOST_HUE = 1.4
# It is also so many times denser than the median of solid tissue, which is what has at
# least this share of the median of all tissue: no lumen, no fat, beside which
# everything is dense.
FOLD_OVER_MEDIAN = 1.5
SOLID_SHARE = 0.5
# Side of the neighbourhood that a fold is compared with, pixels of the overview; a
# multiple of 3.
AROUND_PX = 51
# Least share of solid tissue, and least density, that a ratio is divided by.
LEAST_SOLID = np.float32(0.05)
LEAST_AROUND = np.float32(0.02)

# Blur compares how much brightness changes over these two distances.
FINE_UM = 4.0
COARSE_UM = 16.0
# Standard deviation of the blur that counts as 0 and as 1.
WIDTH_UM = (2.0, 8.0)
# Range and number of widths that the measured ratio is looked up in.
TABLE_UM = (0.5, 60)
TABLE_LENGTH = 400
# Noise of a camera, grey levels.
NOISE = 1.0
# Share of a tile that must be inside tissue to judge it.
ENOUGH = 0.1
# Standard deviation of grey levels below which a tile holds nothing to be sharp.
BLANK = 4.0


def colour_shares(
    overview: RgbImage, detected: TissueMask, corners: Corners, side: float
) -> dict[str, PerTile]:
    """Share of each tile that is marker ink, folded tissue, blood, and nearly black.

    Args:
        overview: RGB overview of the slide.
        detected: tissue and ink on that overview.
        corners: top left corners of the tiles in pixels of the overview, (x, y).
        side: side of a tile in pixels of the overview.
    """
    density = optical_density(overview)
    inkless = detected.tissue & ~detected.ink
    masks = {
        "pen": widen(detected.ink, PEN_MARGIN_PX),
        "fold": _folds(density, inkless),
        "blood": BLOOD.mask(density) & inkless,
        "black": channel_extreme(np.maximum, overview) < BLACK,
    }
    return {name: share_inside(mask, corners, side) for name, mask in masks.items()}


def _folds(density: Density, tissue: BoolMask) -> BoolMask:
    """Tissue that lies twice: much denser than its surroundings, in all channels alike.

    Dark nuclei lose more red than their neighbours do, but not so much more blue: what
    is dense, but of another hue than the tissue around, is no fold.
    """
    if not tissue.any():
        return tissue
    means = [mean3(plane) for plane in density]
    total = means[0] + means[1] + means[2]
    solid = tissue & (total > SOLID_SHARE * np.median(total[tissue]))
    dense = solid & (total > FOLD_OVER_MEDIAN * np.median(total[solid]))
    solid_share = _around(solid.astype(np.float32))
    weight = np.maximum(solid_share, LEAST_SOLID)
    least_ratio = np.full_like(total, np.inf)
    most_ratio = np.zeros_like(total)
    for plane, mean in zip(density, means, strict=True):
        around = _around(np.where(solid, plane, np.float32(0))) / weight
        around = np.maximum(around, LEAST_AROUND).repeat(3, 0).repeat(3, 1)
        ratio = mean / around[: mean.shape[0], : mean.shape[1]]
        np.minimum(least_ratio, ratio, out=least_ratio)
        np.maximum(most_ratio, ratio, out=most_ratio)
    same_hue = most_ratio < FOLD_MOST_HUE * least_ratio
    return dense & (least_ratio > FOLD_DENSER) & same_hue


def _around(plane: Plane) -> Float32[np.ndarray, "rows columns"]:
    """Mean over `AROUND_PX`, of and in blocks of 3 x 3 pixels."""
    return ndimage.uniform_filter(block_mean(plane, 3), AROUND_PX // 3)


def blur(
    image: RgbImage,
    um_per_px: float,
    corners: Corners,
    side: float,
    inside: BoolMask | None = None,
) -> PerTile:
    """Blur of each tile: 0 sharp to 1 blurred.

    It is 0 also where a tile holds nothing to be sharp, such as plain glass. The mean
    square change of brightness over 4 µm is compared with that over 16 µm, so that
    contrast and stain cancel. A texture without structure of its own, blurred by a
    Gaussian of standard deviation s, gives ``(1 - exp(-16 / 4 s²)) / (1 - exp(-256 / 4
    s²))``. Solved for s, 2 µm or less (tissue in focus) counts as 0, 8 µm or more as 1.

    Args:
        image: RGB image, about 2 µm per pixel (1 to 4).
        um_per_px: micrometres per pixel of the image.
        corners: top left corners of the tiles in pixels of the image, (x, y).
        side: side of a tile in pixels of the image.
        inside: pixels that count, at least `COARSE_UM` from where tissue ends, since
            its rim changes over any distance; None: all. A tile with less than a share
            `ENOUGH` of them is not judged: 0.
    """
    factor = max(1, int(FINE_UM / um_per_px + 0.05))
    grey = _grey(image, factor)
    um = um_per_px * factor
    counts = np.ones(grey.shape, np.float32)
    if inside is not None:
        height, width = grey.shape
        counts[:] = inside[::factor, ::factor][:height, :width]
    corners = corners / factor
    side = side / factor
    fine, _ = _mean_change(grey, FINE_UM / um, 1, counts, corners, side)
    coarse, share = _mean_change(grey, COARSE_UM / um, 2, counts, corners, side)
    width_um = _width_of_ratio(fine / np.maximum(coarse, 1e-9))
    sharp, blurred = WIDTH_UM
    score = ((width_um - sharp) / (blurred - sharp)).clip(0, 1)
    blank = (coarse < 2 * BLANK**2) & (_spread(grey, corners, side) < BLANK)
    return np.where(blank | (share < ENOUGH), 0.0, score)


def _width_of_ratio(ratio: PerTile) -> PerTile:
    """Standard deviation of the blur, µm, that gives a ratio of fine to coarse change."""
    widths = np.geomspace(*TABLE_UM, TABLE_LENGTH)
    fine = 1 - np.exp(-((FINE_UM / widths / 2) ** 2))
    coarse = 1 - np.exp(-((COARSE_UM / widths / 2) ** 2))
    # Ratios fall with the width, and the table's arguments must rise.
    return np.interp(-ratio, -(fine / coarse), widths)


def _mean_change(
    grey: Plane, lag_px: float, every: int, counts: Plane, corners: Corners, side: float
) -> tuple[PerTile, PerTile]:
    """Mean square change of brightness in each tile.

    Args:
        grey: grey levels.
        lag_px: distance over which brightness changes, pixels.
        every: distance of the pixels that are compared, pixels.
        counts: 1 for pixels that count, else 0.
        corners: top left corners of the tiles, pixels.
        side: side of a tile, pixels.

    Returns:
        The mean over the pixels of each tile that count, less the noise; and the share
        of the tile that counts.
    """
    counted = counts[::every, ::every]
    change = _change(grey, lag_px, every)
    change *= counted
    total = _mean(change, corners / every, side / every)
    share = _mean(counted, corners / every, side / every)
    return np.maximum(total / np.maximum(share, 1e-6) - 2 * NOISE**2, 0), share


def _grey(
    image: UInt8[np.ndarray, "h w channels"] | Float32[np.ndarray, "h w channels"], factor: int
) -> Float32[np.ndarray, "rows columns"]:
    """Mean of the channels in whole blocks of `factor` x `factor` pixels.

    An image smaller than a block is one block.
    """
    height, width = (max(side // factor, 1) for side in image.shape[:2])
    rows = range(min(factor, image.shape[0]))
    columns = range(min(factor, image.shape[1]))
    channels = range(image.shape[2])
    total = np.zeros((height, width), np.float32)
    for row in rows:
        for column in columns:
            for channel in channels:
                total += image[row::factor, column::factor, channel][:height, :width]
    total /= len(rows) * len(columns) * len(channels)
    return total


def _change(grey: Plane, lag_px: float, every: int) -> Float32[np.ndarray, "rows columns"]:
    """Mean square change over a distance to the right and down, at every so many pixels.

    It is zero where the distance would leave the image. Between whole pixels the
    squares of the distances are interpolated, which is exact for smooth images.
    """
    lower = int(lag_px + 1e-6)
    share = (lag_px**2 - lower**2) / (2 * lower + 1)
    change = np.zeros_like(grey[::every, ::every])
    for lag, weight in ((lower, 1 - share), (lower + 1, share)):
        if lag == 0 or weight <= 1e-3:
            continue
        down = grey[:-lag], grey[lag:]
        right = grey[:, :-lag], grey[:, lag:]
        for first, second in (down, right):
            square = second[::every, ::every] - first[::every, ::every]
            square *= square
            if weight < 1:
                square *= weight
            change[: square.shape[0], : square.shape[1]] += square
    change /= 2
    return change


def _spread(grey: Plane, corners: Corners, side: float, block: int = 4) -> PerTile:
    """Standard deviation of grey levels over each tile, of means of blocks of pixels."""
    means = _grey(grey[..., None], block)
    # Small numbers, so that the difference of squares is exact.
    means -= means.mean()
    mean = _mean(means, corners / block, side / block)
    mean_square = _mean(means**2, corners / block, side / block)
    return np.sqrt(np.maximum(mean_square - mean**2, 0))


def _mean(values: Float32[np.ndarray, "rows columns"], corners: Corners, side: float) -> PerTile:
    """Mean over each tile, to whole pixels and inside the image; 0 where that leaves nothing."""
    size = values.shape[::-1]
    left, top = np.rint(corners).astype(int).clip(0, size).T
    right, bottom = np.rint(corners + side).astype(int).clip(0, size).T
    rows, table = sums_above_left(values, np.concatenate([top, bottom]))
    top_row = np.searchsorted(rows, top)
    bottom_row = np.searchsorted(rows, bottom)
    total = (
        table[bottom_row, right]
        - table[bottom_row, left]
        - table[top_row, right]
        + table[top_row, left]
    )
    return total / np.maximum((right - left) * (bottom - top), 1)
