"""Pixels with the colour of stained tissue.

What is measured is how much more light one channel loses than another. Grey things
(dust, shadows, coverslip edges, stitching, vignetting) have hardly any colour for the
light that they lose, and the palest tissue has some.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from mil.tile.density import (
    BoolMask,
    Plane,
    RgbImage,
    channel_extreme,
    gaussian,
    optical_density,
    texture,
)
from mil.tile.glass import colour_of, subtract_glass
from mil.tile.ink import ink_mask
from mil.tile.morphology import largest_near, widen
from mil.tile.relief import RELIEF_UM, Relief, relief
from mil.tile.sensitivity import Sensitivity
from mil.tile.smooth import enlarge

# Brightest channel of a masked background, and of pixels too dark for tissue, 0..255.
FRAME = 20
BLACK = 45

# Glass loses less light in green than this.
GLASS_GREEN = 0.3
# Tissue has so many times the spread of colour that is left on the glass.
SPREADS = 6.0

# The least colour of tissue, as a share of the light lost in its densest channel.
GREY_SHARE = 0.1
# Fainter colour is tissue only with this relative texture: a tint of the glass has less.
SMOOTH_COLOUR = 0.04
FAINT_TEXTURE = 0.06
# Colour from which a pixel is surely tissue.
SURE_COLOUR = 0.06
# The edge of tissue lies at this share of the strongest colour near by, but at this
# colour at most.
EDGE_SHARE = 0.4
EDGE_COLOUR = 0.2
# Eosin and haematoxylin lose most light in green, beyond the other channels by this share
# of the colour. What does not, as a tint of the glass, is tissue from this colour on, or
# with this relative texture and texture in colour, as in a pale blue counterstain.
HUE_SHARE = 0.2
TINT_COLOUR = 0.08
TINT_TEXTURE = 0.12
# Distances, micrometres: of the colours that an edge is compared with, and of ink's
# surroundings that count as ink.
NEAR_UM = 40.0
INK_GAP_UM = 12.0
# Smallest standard deviation of a smoothing, pixels.
LEAST_SMOOTHING_PX = 0.7
# Least weight of the known pixels around that a mean is divided by.
LEAST_WEIGHT = np.float32(0.05)


@dataclass(frozen=True)
class OverviewColours:
    """Colours of an overview, which both attempts to find tissue work on.

    Attributes:
        excess: light lost in green beyond that lost in red, and in blue.
        clear: pixels that may be glass.
        ignored: pixels that are ink or black, which say nothing about tissue.
        ink: marker ink.
        green: light lost in green.
        relief: texture of the overview.
        um_per_px: micrometres per pixel.
    """

    excess: tuple[Plane, Plane]
    clear: BoolMask
    ignored: BoolMask
    ink: BoolMask
    green: Plane
    relief: Relief
    um_per_px: float

    @property
    def pale(self) -> BoolMask:
        """Pixels in a field of pale tissue, such as fat."""
        return self.of_relief(self.relief.pale)

    def of_relief(self, mask: Bool[np.ndarray, "rows columns"]) -> BoolMask:
        """A mask on the reduced image of the texture, as one on the overview."""
        return enlarge(mask, self.relief.factor, self.green.shape)


class ColouredPixels(NamedTuple):
    """Pixels with the colour of tissue, and those that are surely tissue."""

    coloured: BoolMask
    sure: BoolMask


def colours_of(image: RgbImage, um_per_px: float) -> OverviewColours:
    """Colours of an overview, and its marker ink.

    Args:
        image: the overview.
        um_per_px: micrometres per pixel.
    """
    density = optical_density(image)
    brightest = channel_extreme(np.maximum, image)
    ink = ink_mask(density, texture(density), brightest < FRAME, um_per_px)
    ignored = widen(ink, INK_GAP_UM / um_per_px) | (brightest < BLACK)
    red, green, blue = density
    return OverviewColours(
        excess=(green - red, green - blue),
        clear=(green < GLASS_GREEN) & ~ignored,
        ignored=ignored,
        ink=ink,
        green=green,
        relief=relief(density, um_per_px),
        um_per_px=um_per_px,
    )


def coloured_pixels(colours: OverviewColours, sensitivity: Sensitivity) -> ColouredPixels:
    """Pixels with the colour of tissue.

    Args:
        colours: colours of the overview.
        sensitivity: thresholds of the attempt.
    """
    sigma_px = max(sensitivity.smooth_um / colours.um_per_px, LEAST_SMOOTHING_PX)
    reach_px = round(NEAR_UM / colours.um_per_px)
    over_red, over_blue = _smoothed(colours, sigma_px)
    # Grey things lose as much light in each channel: lines, dust, shadows, borders.
    least = gaussian(colours.green, sigma_px)
    least -= np.minimum(np.minimum(over_red, over_blue), 0)
    least *= GREY_SHARE
    # In place, and so after the line above.
    spread = subtract_glass(over_red, over_blue, colours.clear, reach_px)
    colour = colour_of(over_red, over_blue)
    faintest = np.clip(SPREADS * spread, *sensitivity.faintest)
    coloured = colour > _edge_colour(colour, faintest, reach_px)
    coloured &= colour > least
    coloured &= _stained(colours, colour, np.minimum(over_red, over_blue), sensitivity)
    pale = colours.pale
    sure = coloured & (colour > SURE_COLOUR) | pale
    return ColouredPixels((coloured | pale) & ~colours.ignored, sure)


def _smoothed(colours: OverviewColours, sigma_px: float) -> tuple[Plane, Plane]:
    """Gaussian means of both differences, the ignored pixels left out."""
    known = ~colours.ignored
    over_red, over_blue = (
        gaussian(np.where(known, plane, np.float32(0)), sigma_px) for plane in colours.excess
    )
    if colours.ignored.any():
        weight = gaussian(known.astype(np.float32), sigma_px)
        np.maximum(weight, LEAST_WEIGHT, out=weight)
        over_red /= weight
        over_blue /= weight
    return over_red, over_blue


def _edge_colour(colour: Plane, faintest: float, reach_px: int) -> Plane:
    """Colour at which the edge of tissue lies, by the strongest colour near each pixel."""
    edge = largest_near(colour, reach_px)
    edge *= EDGE_SHARE
    np.clip(edge, faintest, EDGE_COLOUR, out=edge)
    return edge


def _stained(
    colours: OverviewColours, colour: Plane, over_both: Plane, sensitivity: Sensitivity
) -> BoolMask:
    """Pixels with the hue of a stain, or with what no tint of the glass has.

    Args:
        colours: colours of the overview.
        colour: most light lost in a channel less the least lost in a channel.
        over_both: light lost in green beyond that lost in each other channel.
        sensitivity: thresholds of the attempt.
    """
    relief = colours.relief
    # Large pixels smooth what they see.
    least_texture = TINT_TEXTURE * min(1.0, RELIEF_UM / (colours.um_per_px * relief.factor))
    textured = relief.colour_texture & (relief.relative > least_texture)
    has_hue = over_both > HUE_SHARE * colour
    if sensitivity.needs_texture:
        rough = colours.of_relief(relief.relative > FAINT_TEXTURE)
        has_hue &= rough | (colour > SMOOTH_COLOUR)
    return has_hue | colours.of_relief(textured) | (colour > TINT_COLOUR)
