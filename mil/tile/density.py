"""Light lost against the slide's own glass (optical density), its colour and its texture.

A pixel's optical density in a channel is ``ln(glass / pixel)``: 0 on glass, about 0.1 on
the palest tissue, above 1 on dense ink.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy import ndimage

BoolMask = Bool[np.ndarray, "height width"]
Plane = Float32[np.ndarray, "height width"]
ByteImage = UInt8[np.ndarray, "height width"]
RgbImage = UInt8[np.ndarray, "height width 3"]
Density = tuple[Plane, Plane, Plane]  # red, green, blue

# Glass where the slide shows none, 0..255.
DEFAULT_GLASS = (245.0, 245.0, 245.0)
# Darkest channel from which a pixel is white padding, 0..255.
PADDING = 253

# A pixel may be glass if its darkest channel is above this, its channels differ by less
# than this, and green is not darker than both others by this: glass is tinted yellow,
# blue or lavender, while what has lost most in green is pale tissue. All 0..255.
GLASS_DARKEST = 160
GLASS_MOST_TINT = 36
GLASS_MOST_GREEN_LOSS = 12
# Brighter colours are preferred by a factor of e for so many grey levels.
GLASS_PREFERENCE = 15
# The histogram of colours has bins of 4 grey levels: 64 in each channel.
COLOUR_BINS = 64
BIN_WIDTH = 4
# A peak is glass if it holds this share of all pixels brighter than a black frame. The
# share is large where padding is left out, and small at the second attempt with it.
SHARE_WITHOUT_PADDING = 0.2
SHARE_WITH_PADDING = 0.003
FRAME_BRIGHTNESS = 45

# Rows that are smoothed at a time.
STRIP_ROWS = 32

# Least density that a deviation is divided by, so that noise on glass is no texture.
LEAST_DENSITY = np.float32(0.05)


@dataclass(frozen=True, kw_only=True)
class ColourBounds:
    """A range of colours in optical density; a pixel lies in it if every bound holds.

    Attributes:
        red_above: density in red that is exceeded.
        green_above: density in green that is exceeded.
        blue_above: density in blue that is exceeded.
        red_over_green: red is more than so many times green.
        red_beyond_green: red exceeds green by more than this density.
        blue_over_green: blue is more than so many times green.
        blue_over_red: blue is more than so many times red.
        red_under_green: red is less than so many times green.
        red_under_blue: red is less than so many times blue.
        blue_under_green: blue is less than so many times green.
        smoother_than: roughness that is not reached; see `texture`.
    """

    red_above: float | None = None
    green_above: float | None = None
    blue_above: float | None = None
    red_over_green: float | None = None
    red_beyond_green: float | None = None
    blue_over_green: float | None = None
    blue_over_red: float | None = None
    red_under_green: float | None = None
    red_under_blue: float | None = None
    blue_under_green: float | None = None
    smoother_than: int | None = None

    def mask(self, density: Density, roughness: ByteImage | None = None) -> BoolMask:
        """Pixels whose density, and roughness where it is bounded, lie in the range."""
        inside = np.ones(density[0].shape, bool)
        # In strips, which stay in the processor's cache.
        for top in range(0, len(inside), STRIP_ROWS):
            rows = slice(top, top + STRIP_ROWS)
            red, green, blue = (plane[rows] for plane in density)
            self._narrow(
                inside[rows], (red, green, blue), None if roughness is None else roughness[rows]
            )
        return inside

    def _narrow(self, inside: BoolMask, density: Density, roughness: ByteImage | None) -> None:
        """Clear the pixels of a mask that lie outside the range."""
        red, green, blue = density
        if self.red_above is not None:
            inside &= red > self.red_above
        if self.green_above is not None:
            inside &= green > self.green_above
        if self.blue_above is not None:
            inside &= blue > self.blue_above
        if self.red_over_green is not None:
            inside &= red > self.red_over_green * green
        if self.red_beyond_green is not None:
            inside &= red - green > self.red_beyond_green
        if self.blue_over_green is not None:
            inside &= blue > self.blue_over_green * green
        if self.blue_over_red is not None:
            inside &= blue > self.blue_over_red * red
        if self.red_under_green is not None:
            inside &= red < self.red_under_green * green
        if self.red_under_blue is not None:
            inside &= red < self.red_under_blue * blue
        if self.blue_under_green is not None:
            inside &= blue < self.blue_under_green * green
        if self.smoother_than is not None:
            assert roughness is not None
            inside &= roughness < self.smoother_than


def optical_density(image: RgbImage) -> Density:
    """Light lost in red, green and blue, natural logarithm.

    It is 0 on the slide's glass and on white padding.
    """
    padding = channel_extreme(np.minimum, image) >= PADDING
    # One more, so that black has a logarithm. A table of 256 values is much faster than
    # a logarithm for each pixel.
    log_levels = np.log(np.arange(1, 257))
    planes = []
    for channel, glass in enumerate(glass_colour(image)):
        table = (np.log(glass + 1) - log_levels).astype(np.float32)
        plane = np.take(table, image[..., channel])
        plane[padding] = 0
        planes.append(plane)
    red, green, blue = planes
    return red, green, blue


def glass_colour(image: RgbImage) -> Float[np.ndarray, "3"]:
    """The most frequent bright colour that glass may have, 0..255.

    It is `DEFAULT_GLASS` where no such colour stands out.
    """
    counts = _colour_histogram(image)
    level = np.arange(COLOUR_BINS) * BIN_WIDTH + 1.5
    red, green, blue = np.meshgrid(level, level, level, indexing="ij", sparse=True)
    darkest = np.minimum(np.minimum(red, green), blue)
    brightest = np.maximum(np.maximum(red, green), blue)
    even = brightest - darkest < GLASS_MOST_TINT
    not_tissue = np.minimum(red, blue) - green < GLASS_MOST_GREEN_LOSS
    may_be_glass = (darkest > GLASS_DARKEST) & even & not_tissue
    preference = np.where(may_be_glass, np.exp((darkest - 255) / GLASS_PREFERENCE), 0)
    # Pure white is padding if the rest has glass of its own.
    unpadded = counts.copy()
    unpadded[-1, -1, -1] -= int((channel_extreme(np.minimum, image) == 255).sum())
    for histogram, least_share in (
        (unpadded, SHARE_WITHOUT_PADDING),
        (counts, SHARE_WITH_PADDING),
    ):
        around = ndimage.uniform_filter(histogram.astype(float), 3, mode="constant") * 27
        # Only summits count, not the tail of pale tissue.
        summit = around >= ndimage.maximum_filter(around, 5)
        peak = np.unravel_index((around * preference * summit).argmax(), around.shape)
        unframed = histogram[brightest > FRAME_BRIGHTNESS].sum()
        if may_be_glass[peak] and around[peak] > least_share * unframed:
            return _mean_level(histogram, level, tuple(int(index) for index in peak))
    return np.array(DEFAULT_GLASS)


def _colour_histogram(image: RgbImage) -> np.ndarray:
    """Number of pixels by colour, [red, green, blue] in bins of `BIN_WIDTH`."""
    codes = image[..., 0].astype(np.int32) >> 2
    for channel in (1, 2):
        codes <<= 6
        codes |= image[..., channel] >> 2
    counts = np.bincount(codes.ravel(), minlength=COLOUR_BINS**3)
    return counts.reshape(COLOUR_BINS, COLOUR_BINS, COLOUR_BINS)


def _mean_level(
    histogram: np.ndarray, level: Float[np.ndarray, " levels"], peak: tuple[int, ...]
) -> Float[np.ndarray, "3"]:
    """Mean colour of a peak and its neighbouring bins."""
    window = [slice(max(index - 1, 0), index + 2) for index in peak]
    part = histogram[tuple(window)]
    means = []
    for axis in range(3):
        other_axes = tuple(other for other in range(3) if other != axis)
        means.append(np.average(level[window[axis]], weights=part.sum(axis=other_axes)))
    return np.array(means)


def texture(density: Density) -> ByteImage:
    """Roughness: mean deviation from the mean of 3 x 3 pixels, in thousandths of the density.

    Ink has about 20, tissue 50 to 255.
    """
    # In place throughout: on a large slide each plane takes 64 MB.
    values = density[0] + density[1]
    values += density[2]
    values /= 3
    around = mean3(values)
    deviation = np.abs(np.subtract(values, around, out=values), out=values)
    deviation = ndimage.uniform_filter(deviation, 5, output=deviation)
    np.divide(deviation, np.maximum(around, LEAST_DENSITY, out=around), out=deviation)
    deviation *= 1000
    return np.minimum(deviation, 255, out=deviation).astype(np.uint8)


def mean3(plane: Plane) -> Plane:
    """Mean of 3 x 3 pixels, edges repeated; several times as fast as SciPy's filter."""
    rows = plane.copy()
    rows[1:] += plane[:-1]
    rows[:-1] += plane[1:]
    rows[0] += plane[0]
    rows[-1] += plane[-1]
    total = rows.copy()
    total[:, 1:] += rows[:, :-1]
    total[:, :-1] += rows[:, 1:]
    total[:, 0] += rows[:, 0]
    total[:, -1] += rows[:, -1]
    total *= np.float32(1 / 9)
    return total


def gaussian(plane: Plane, sigma_px: float) -> Plane:
    """Gaussian mean to three standard deviations, edges mirrored.

    Rows go through the processor's cache in strips, both axes at once, which is several
    times as fast as SciPy's filter.
    """
    radius = int(3 * sigma_px + 0.5)
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma_px) ** 2)
    weights = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
    padded = np.pad(plane, radius, mode="symmetric")
    height, width = plane.shape
    smooth = np.empty_like(plane)
    for top in range(0, height, STRIP_ROWS):
        rows = min(STRIP_ROWS, height - top)
        strip = padded[top : top + rows + 2 * radius]
        down = strip[radius : radius + rows] * weights[0]
        for step in range(1, radius + 1):
            pair = strip[radius - step :][:rows] + strip[radius + step :][:rows]
            pair *= weights[step]
            down += pair
        across = smooth[top : top + rows]
        np.multiply(down[:, radius : radius + width], weights[0], out=across)
        for step in range(1, radius + 1):
            pair = down[:, radius - step :][:, :width] + down[:, radius + step :][:, :width]
            pair *= weights[step]
            across += pair
    return smooth


def channel_extreme(which: np.ufunc, image: RgbImage) -> ByteImage:
    """`np.maximum` or `np.minimum` over the channels; much faster than along the last axis."""
    extreme: ByteImage = which(which(image[..., 0], image[..., 1]), image[..., 2])
    return extreme
