"""Light lost against the slide's own glass (optical density), and which of it is marker ink."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy import ndimage

WHITE = (245.0, 245.0, 245.0)  # glass, where the slide shows none
PADDING = 253  # darkest channel of white
INK_MM2 = 0.003  # smaller specks are no stroke
REACH_UM = 200.0  # how far the pale rim of a stroke goes
NUCLEI_UM = 12.0  # coarser pixels do not show nuclei

Mask = Bool[np.ndarray, "height width"]
Plane = Float32[np.ndarray, "height width"]
Bytes = UInt8[np.ndarray, "height width"]
Picture = UInt8[np.ndarray, "height width 3"]
Density = tuple[Plane, Plane, Plane]  # red, green, blue


def optical_density(picture: Picture) -> Density:
    """Light lost in red, green and blue, natural logarithm; 0 on the slide's glass and on white (padding)."""
    levels = np.log(np.arange(1, 257))
    white = extreme(np.minimum, picture) >= PADDING
    tables = [(np.log(level + 1) - levels).astype(np.float32) for level in glass_colour(picture)]
    red, green, blue = (
        np.take(table, picture[..., channel]) for channel, table in enumerate(tables)
    )
    for plane in (red, green, blue):
        plane[white] = 0
    return red, green, blue


def glass_colour(picture: Picture) -> Float[np.ndarray, "3"]:
    """The most frequent bright colour that glass may have, 0..255; `WHITE` where none stands out."""
    codes = picture[..., 0].astype(np.int32) >> 2
    for channel in (1, 2):
        codes <<= 6
        codes |= picture[..., channel] >> 2
    counts = np.bincount(codes.ravel(), minlength=64**3).reshape(64, 64, 64)
    level = np.arange(64) * 4 + 1.5
    red, green, blue = np.meshgrid(level, level, level, indexing="ij", sparse=True)
    low = np.minimum(np.minimum(red, green), blue)
    high = np.maximum(np.maximum(red, green), blue)
    # Glass is tinted yellow, blue or lavender; what has lost most in green is pale
    # tissue.
    may_be = (low > 160) & (high - low < 36) & (np.minimum(red, blue) - green < 12)
    weight = np.where(may_be, np.exp((low - 255) / 15), 0)
    unpadded = counts.copy()  # pure white is padding if the rest has glass of its own
    unpadded[-1, -1, -1] -= int((extreme(np.minimum, picture) == 255).sum())
    for histogram, least in ((unpadded, 0.2), (counts, 0.003)):
        around = ndimage.uniform_filter(histogram.astype(float), 3, mode="constant") * 27
        summit = around >= ndimage.maximum_filter(around, 5)  # not the tail of pale tissue
        peak = np.unravel_index((around * weight * summit).argmax(), around.shape)
        if may_be[peak] and around[peak] > least * histogram[high > 45].sum():
            return _mean_level(histogram, level, tuple(int(index) for index in peak))
    return np.array(WHITE)


def _mean_level(
    histogram: np.ndarray, level: Float[np.ndarray, " levels"], peak: tuple[int, ...]
) -> Float[np.ndarray, "3"]:
    window = [slice(max(index - 1, 0), index + 2) for index in peak]
    part = histogram[tuple(window)]
    others = [tuple(other for other in range(3) if other != axis) for axis in range(3)]
    return np.array(
        [np.average(level[window[axis]], weights=part.sum(axis=others[axis])) for axis in range(3)]
    )


def texture(density: Density) -> tuple[Bytes, Mask]:
    """How rough the picture is, and where that is more than a smooth tint or clean glass has.

    Returns:
        Mean deviation from the mean of 3 x 3 pixels, thousandths of the density (ink
        about 20, tissue 50 to 255); and where it is more than 0.003 in itself.
    """
    values = density[0] + density[1]
    values += density[2]
    values /= 3
    around = ndimage.uniform_filter(values, 3)
    fine = np.abs(np.subtract(values, around, out=values), out=values)
    fine = ndimage.uniform_filter(fine, 5, output=fine)
    textured = fine > 0.003
    np.divide(fine, np.maximum(around, np.float32(0.05), out=around), out=fine)
    fine *= 1000
    return np.minimum(fine, 255, out=fine).astype(np.uint8), textured


def ink_mask(density: Density, rough: Bytes, frame: Mask, um_per_px: float) -> Mask:
    """Marker ink: sure ink, and what looks a little like it nearby (the pale rim of a stroke).

    Args:
        density: of `optical_density`.
        rough: of `texture`.
        frame: black surroundings, which are no ink.
        um_per_px: micrometres per pixel.
    """
    ink = np.zeros_like(frame)
    for sure, pale in _inks(density, rough, um_per_px):
        sure &= ~frame
        if sure.any():
            sure = keep_large(sure, INK_MM2 / (um_per_px / 1000) ** 2)
            ink |= sure | (pale & widen(sure, REACH_UM / um_per_px))
    return ink


def _inks(density: Density, rough: Bytes, um_per_px: float) -> Iterator[tuple[Mask, Mask]]:
    """Sure and pale ink of each kind: hues no stain has at once, hues of stains only if dense and without nuclei."""
    red, green, blue = density
    cool = (red > 0.15) & (red > 1.45 * green) & (red - green > 0.08)
    if cool.sum() > 0.6 * ((red > 0.15) | (green > 0.15)).sum() and (rough[cool] > 50).mean() > 0.5:
        cool[:] = False  # most of what absorbs, and textured: a blue or green stain
    cool |= (red > 1.0) & (red > 1.15 * green) & (blue < 0.55 * green)
    cool |= (
        (red > 1.3) & (red > 0.95 * green) & (blue < 0.6 * green) & (rough < 100)
    )  # blue ink over tissue
    yield (
        cool,
        ((red > 0.04) & (red > 1.3 * green))
        | ((red > 0.3) & (red > 1.12 * green) & (blue < 0.6 * green)),
    )
    yellow = (blue > 0.6) & (blue > 1.8 * green) & (red < 0.25 * blue)
    yield yellow, (blue > 0.2) & (blue > 1.6 * green) & (red < 0.3 * blue)
    pink = (green > 0.8) & (red < 0.4 * green) & (blue > 0.6 * green)
    yield (
        pink & (rough < 100) & (green > 1.5) & (red < 0.33 * green),
        pink,
    )  # blood is hardly ever so dense
    dark = (red > 0.6) & (green > 0.6) & (blue > 0.6)
    grey = dark & (blue > 0.66 * red) & (blue > 0.66 * green)
    dense = grey & (red > 0.8) & (green > 0.8) & (blue > 0.8)
    yield dense & (rough < 100), dense | (grey & (blue > 0.8 * red) & (blue > 0.8 * green))
    if um_per_px <= NUCLEI_UM:
        purple = (green > 0.9) & (red > 0.25) & (blue > 0.25)
        yield purple & (green > 1.3) & (rough < 25), purple & (rough < 60)


def extreme(which: np.ufunc, picture: Picture) -> Bytes:
    """`np.maximum` or `np.minimum` over the channels; much faster than along the last axis."""
    brightest: Bytes = which(which(picture[..., 0], picture[..., 1]), picture[..., 2])
    return brightest


def keep_large(mask: Mask, min_px: float) -> Mask:
    """The mask's pieces of at least that many pixels."""
    labels, _ = ndimage.label(mask)
    large = np.bincount(labels.ravel()) >= min_px
    large[0] = False
    return large[labels]


def widen(mask: Mask, radius: float) -> Mask:
    """The mask and all within `radius` pixels around it (a square), at least one."""
    if not mask.any():
        return mask
    return ndimage.maximum_filter(mask.view(np.uint8), 2 * max(1, round(radius)) + 1).view(bool)
