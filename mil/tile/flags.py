"""Quality of single tiles, as numbers that flag and never delete; each is 0 (good) to 1, from where it flags is `FLAG`.

`pen`, `fold`, `blood` and `black` are shares of the tile's area, seen on the overview;
`blur` is read from a finer picture.
"""

import numpy as np
from jaxtyping import Float, Float32, UInt8
from scipy import ndimage

from mil.tile.grid import share_inside
from mil.tile.ink import Density, Mask, Picture, Plane, extreme, optical_density, widen
from mil.tile.tissue import BLACK, Found

FLAG = {"pen": 0.05, "fold": 0.3, "blood": 0.5, "black": 0.05, "blur": 0.4}

Corners = Float[np.ndarray, "tiles 2"]
PerTile = Float[np.ndarray, " tiles"]

AROUND_PX = 51  # side of the neighbourhood a fold is compared with, pixels of the overview
FOLDED = (
    1.4,
    1.4,
)  # a fold is that many times denser in each channel, and in none that much more than in another

# Blur compares how much the picture changes over these two distances.
FINE_UM = 4.0
COARSE_UM = 16.0
WIDTH_UM = (2.0, 8.0)  # standard deviation of the blur that counts as 0 and as 1
NOISE = 1.0  # of a camera, grey levels
ENOUGH = 0.1  # of a tile must be inside tissue to judge it
BLANK = 4.0  # standard deviation of grey levels below which there is nothing to be sharp


def colour_shares(
    picture: Picture, found: Found, corners: Corners, side: float
) -> dict[str, PerTile]:
    """Share of each tile that is marker ink, folded tissue, blood, and nearly black.

    Args:
        picture: the overview that `found` was made of.
        found: tissue and ink on it.
        corners: top left corners of the tiles in pixels of the picture, (x, y).
        side: side of a tile in pixels of the picture.
    """
    density = optical_density(picture)
    plain = found.tissue & ~found.ink
    marks = {
        "pen": widen(found.ink, 2.0),
        "fold": _folds(density, plain),
        "blood": _blood(density) & plain,
        "black": extreme(np.maximum, picture) < BLACK,
    }
    return {name: share_inside(mask, corners, side) for name, mask in marks.items()}


def _folds(density: Density, tissue: Mask) -> Mask:
    """Tissue that lies twice: much denser than around it and than usual on the slide, in all channels alike.

    Dark nuclei lose more red than their neighbours do, but not so much more blue: what
    is dense, but of another hue than the tissue around, is no fold.
    """
    total = ndimage.uniform_filter(density[0] + density[1] + density[2], 3)
    if not tissue.any():
        return tissue
    solid = tissue & (
        total > 0.5 * np.median(total[tissue])
    )  # no lumen, no fat: beside these all is dense
    folded = solid & (total > 1.5 * np.median(total[solid]))
    weight = np.maximum(
        ndimage.uniform_filter(solid.astype(np.float32), AROUND_PX), np.float32(0.05)
    )
    least = np.full_like(total, np.inf)
    most = np.zeros_like(total)
    for plane in density:
        around = ndimage.uniform_filter(np.where(solid, plane, 0), AROUND_PX) / weight
        over = ndimage.uniform_filter(plane, 3) / np.maximum(around, np.float32(0.02))
        np.minimum(least, over, out=least)
        np.maximum(most, over, out=most)
    return folded & (least > FOLDED[0]) & (most < FOLDED[1] * least)


def _blood(density: Density) -> Mask:
    """Dense in green and blue, clear in red, and more orange than eosin."""
    red, green, blue = density
    return (green > 0.7) & (red < 0.3 * green) & (blue > 0.75 * green)


def blur(
    picture: Picture, um_per_px: float, corners: Corners, side: float, inside: Mask | None = None
) -> PerTile:
    """How blurred each tile is: 0 sharp to 1 blurred; 0 also where it holds nothing to be sharp, such as plain glass.

    The mean square change of brightness over 4 µm is compared with that over 16 µm, so
    that contrast and stain cancel. A texture without structure of its own, blurred by a
    Gaussian of standard deviation s, gives ``(1 - exp(-16 / 4 s²)) / (1 - exp(-256 / 4
    s²))``. Solved for s, 2 µm or less (tissue in focus) counts as 0, 8 µm or more as 1.

    Args:
        picture: RGB picture, about 2 µm per pixel (1 to 4).
        um_per_px: micrometres per pixel of it.
        corners: top left corners of the tiles in pixels of the picture, (x, y).
        side: side of a tile in pixels of the picture.
        inside: pixels that count, at least `COARSE_UM` from where tissue ends, since
            its rim changes over any distance; None: all. A tile with fewer than
            `ENOUGH` of them is not judged: 0.
    """
    factor = max(1, int(FINE_UM / um_per_px + 0.05))
    grey = _grey(picture, factor)
    um = um_per_px * factor
    counts = np.ones(grey.shape, np.float32)
    if inside is not None:
        counts[:] = inside[::factor, ::factor][: grey.shape[0], : grey.shape[1]]
    fine, _ = _mean_change(grey, FINE_UM / um, 1, counts, corners / factor, side / factor)
    coarse, share = _mean_change(grey, COARSE_UM / um, 2, counts, corners / factor, side / factor)
    widths = np.geomspace(0.5, 60, 400)
    ratios = (1 - np.exp(-((FINE_UM / widths / 2) ** 2))) / (
        1 - np.exp(-((COARSE_UM / widths / 2) ** 2))
    )
    width = np.interp(-fine / np.maximum(coarse, 1e-9), -ratios, widths)
    score = ((width - WIDTH_UM[0]) / (WIDTH_UM[1] - WIDTH_UM[0])).clip(0, 1)
    blank = (coarse < 2 * BLANK**2) & (_spread(grey, corners / factor, side / factor) < BLANK)
    return np.where(blank | (share < ENOUGH), 0.0, score)


def _mean_change(
    grey: Plane, lag_px: float, every: int, counts: Plane, corners: Corners, side: float
) -> tuple[PerTile, PerTile]:
    """Mean of `_change` over the pixels of each tile that count, less the noise, and their share."""
    counted = counts[::every, ::every]
    change = _change(grey, lag_px, every)
    change *= counted
    total, share = (_mean(values, corners / every, side / every) for values in (change, counted))
    return np.maximum(total / np.maximum(share, 1e-6) - 2 * NOISE**2, 0), share


def _grey(
    picture: UInt8[np.ndarray, "h w channels"] | Float32[np.ndarray, "h w channels"], factor: int
) -> Float32[np.ndarray, "rows columns"]:
    """Mean of the channels in whole blocks of `factor` x `factor` pixels (of fewer in a picture smaller than that)."""
    height, width = (max(side // factor, 1) for side in picture.shape[:2])
    parts = [
        picture[row::factor, column::factor, channel][:height, :width]
        for row in range(min(factor, picture.shape[0]))
        for column in range(min(factor, picture.shape[1]))
        for channel in range(picture.shape[2])
    ]
    total = np.zeros((height, width), np.float32)
    for part in parts:
        total += part
    total /= len(parts)
    return total


def _change(grey: Plane, lag_px: float, every: int) -> Float32[np.ndarray, "rows columns"]:
    """Mean square change over a distance, to the right and down, at every so many pixels; zero where it would leave.

    Between whole pixels the squares of the distances are interpolated, which is exact
    for smooth pictures.
    """
    lower = int(lag_px + 1e-6)
    share = (lag_px**2 - lower**2) / (2 * lower + 1)
    change = np.zeros_like(grey[::every, ::every])
    for lag, weight in ((lower, 1 - share), (lower + 1, share)):
        if lag > 0 and weight > 1e-3:
            for first, second in ((grey[:-lag], grey[lag:]), (grey[:, :-lag], grey[:, lag:])):
                step = second[::every, ::every] - first[::every, ::every]
                step *= step
                if weight < 1:
                    step *= weight
                change[: step.shape[0], : step.shape[1]] += step
    change /= 2
    return change


def _spread(grey: Plane, corners: Corners, side: float, block: int = 4) -> PerTile:
    """Standard deviation of grey levels over each tile, of means of blocks of pixels."""
    means = _grey(grey[..., None], block)
    means -= means.mean()  # small numbers, so that the difference of squares is exact
    mean, square = (_mean(values, corners / block, side / block) for values in (means, means**2))
    return np.sqrt(np.maximum(square - mean**2, 0))


def _mean(values: Float32[np.ndarray, "rows columns"], corners: Corners, side: float) -> PerTile:
    """Mean over each tile, to whole pixels and inside the picture; 0 where that leaves nothing."""
    first = np.rint(corners).astype(int)
    last = np.rint(corners + side).astype(int)
    (left, top), (right, bottom) = (at.clip(0, values.shape[::-1]).T for at in (first, last))
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    np.cumsum(values, axis=0, out=total[1:, 1:], dtype=np.float64)
    np.cumsum(total[1:, 1:], axis=1, out=total[1:, 1:])
    held = total[bottom, right] - total[bottom, left] - total[top, right] + total[top, left]
    return held / np.maximum((right - left) * (bottom - top), 1)
