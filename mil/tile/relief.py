"""Fine texture of an overview: what tells tissue from ink, glue, glass and shadow.

Tissue is made of cells and fibres, so that its density changes from pixel to pixel. The
blurred rim of a pen's stroke, the edge of a coverslip and tinted glass change slowly.
Both are measured on an image of about 16 µm/px by differences that vanish where the
density follows a slope or a bow.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from mil.tile.density import BoolMask, Density, Plane, mean3
from mil.tile.morphology import keep_large, widen

# The image is reduced to this or a little less, micrometres per pixel.
RELIEF_UM = 16.0
# Sides of the neighbourhoods that texture is averaged over, pixels of the reduced image.
WIDE_PX = 7
NARROW_PX = 3
# Texture is seen so far beyond where it ends, pixels.
SEEN_BEYOND_PX = 1.0
# Noise is measured where less light is lost than this, as this share of all such pixels
# lies below it; a slide without glass has no more noise than this.
CLEAR_DENSITY = 0.03
NOISE_PERCENT = 30
MOST_NOISE = 0.003
# Most that a pixel adds to the texture, as a share of the density around it.
MOST_OF_A_PIXEL = np.float32(0.3)
# Least density that texture is divided by.
LEAST_DENSITY = np.float32(0.02)

# Texture of pale tissue in colour: this much, so many times the noise, and this share of
# the texture in brightness, which is all that dust and scratches have.
COLOUR_TEXTURE = 0.004
COLOUR_NOISES = 3.0
COLOUR_SHARE = 0.3
# Eosin and haematoxylin take most light in green: by so much more than the glass.
MOST_GREEN = 0.002
# Pale tissue is a field of at least half such pixels, over this distance, micrometres.
FIELD_UM = 200.0
# It loses so much light on the mean over that distance, and is no smaller, square
# millimetres.
PALE_DENSITY = 0.006
PALE_MM2 = 0.1
# It is less dense than this, and so many pixels away from what is denser.
PALE_MOST_DENSITY = 0.15
DENSE_EDGE_PX = 3.0


@dataclass(frozen=True)
class Relief:
    """Texture of an overview, on a reduced image.

    Attributes:
        factor: pixels of the overview per pixel of these planes.
        relative: texture in brightness, less the noise, over the mean density: tissue
            has 0.03 and more, ink and tints below 0.02.
        density: mean optical density around each pixel.
        colour_texture: pixels with texture in colour.
        pale: pixels in a field of pale tissue, such as fat.
    """

    factor: int
    relative: Float32[np.ndarray, "rows columns"]
    density: Float32[np.ndarray, "rows columns"]
    colour_texture: Bool[np.ndarray, "rows columns"]
    pale: Bool[np.ndarray, "rows columns"]


def relief(density: Density, um_per_px: float) -> Relief:
    """Texture of an overview.

    Args:
        density: optical density of the overview; see `mil.tile.density`.
        um_per_px: micrometres per pixel of the overview.
    """
    factor = max(1, round(RELIEF_UM / um_per_px))
    red, green, blue = (block_mean(plane, factor) for plane in density)
    brightness = (red + green + blue) / 3
    excess = (green - red, green - blue)
    clear = brightness < CLEAR_DENSITY
    around = np.maximum(_mean(brightness, WIDE_PX), LEAST_DENSITY)
    colour_texture = _colour_texture(excess, brightness, clear)
    pink = colour_texture & _most_green(excess, clear)
    return Relief(
        factor=factor,
        relative=_relative_texture(brightness, around, clear),
        density=around,
        colour_texture=colour_texture,
        pale=_pale_fields(pink, brightness, um_per_px * factor),
    )


def _relative_texture(brightness: Plane, around: Plane, clear: BoolMask) -> Plane:
    """Texture in brightness, less the noise, over the mean density around each pixel."""
    # A few specks on smooth glass do not make it rough.
    fine = _mean(np.minimum(_second(brightness), MOST_OF_A_PIXEL * around), WIDE_PX)
    fine -= min(_noise(fine, clear), MOST_NOISE)
    return np.maximum(fine, 0) / around


def _colour_texture(excess: tuple[Plane, Plane], brightness: Plane, clear: BoolMask) -> BoolMask:
    """Pixels with texture in colour, beyond the noise and beyond that of dust and scratches."""
    over_red, over_blue = excess
    in_colour = _mean(abs(_first(over_red)) + abs(_first(over_blue)), NARROW_PX)
    noise = _noise(in_colour, clear)
    in_colour -= noise
    in_brightness = _mean(abs(_first(brightness)), NARROW_PX)
    textured = in_colour > max(COLOUR_TEXTURE, COLOUR_NOISES * noise)
    textured &= in_colour > COLOUR_SHARE * in_brightness
    return textured


def _most_green(excess: tuple[Plane, Plane], clear: BoolMask) -> BoolMask:
    """Pixels that lose most light in green, as eosin and haematoxylin do, beyond the glass."""
    most_green = _mean(np.minimum(*excess), NARROW_PX)
    on_glass = float(np.median(most_green[clear])) if clear.any() else 0.0
    return most_green > on_glass + MOST_GREEN


def _pale_fields(pink: BoolMask, brightness: Plane, um_per_px: float) -> BoolMask:
    """Pixels in a field of pale tissue.

    Args:
        pink: pixels with texture in colour that lose most light in green.
        brightness: optical density, mean over the channels.
        um_per_px: micrometres per pixel of these planes.
    """
    field_px = max(3, round(FIELD_UM / um_per_px))
    field = _mean(pink.astype(np.float32), field_px) > 0.5
    field &= _mean(brightness, field_px) > PALE_DENSITY
    # Beside dense tissue its own texture is seen, not that of anything pale.
    field &= ~widen(_mean(brightness, NARROW_PX) > PALE_MOST_DENSITY, DENSE_EDGE_PX)
    pale = ~widen(~field, SEEN_BEYOND_PX)
    return keep_large(pale, PALE_MM2 * (1000 / um_per_px) ** 2)


def block_mean(plane: Plane, factor: int) -> Float32[np.ndarray, "rows columns"]:
    """Mean of blocks of `factor` x `factor` pixels, edges repeated where they overhang."""
    if factor == 1:
        return plane
    height, width = plane.shape
    if height % factor or width % factor:
        plane = np.pad(plane, ((0, -height % factor), (0, -width % factor)), mode="edge")
    total = np.zeros_like(plane[::factor, ::factor])
    for row in range(factor):
        for column in range(factor):
            total += plane[row::factor, column::factor]
    total /= factor**2
    return total


def _first(plane: Plane) -> Plane:
    """Difference of each pixel from the mean of 3 x 3: 0 on a slope."""
    return plane - mean3(plane)


def _second(plane: Plane) -> Plane:
    """Size of the difference taken twice: 0 on a slope or a bow."""
    return abs(_first(_first(plane)))


def _mean(plane: Plane, side: int) -> Plane:
    return mean3(plane) if side == 3 else ndimage.uniform_filter(plane, side)


def _noise(texture: Plane, clear: BoolMask) -> float:
    return float(np.percentile(texture[clear], NOISE_PERCENT)) if clear.any() else 0.0
