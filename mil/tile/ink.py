"""Marker ink on an overview: which pixels are pen, whatever its colour.

Each ink is told by hues of its optical density that no stain has, or that a stain has
only where it is dense and full of nuclei, hence rough.
"""

from dataclasses import dataclass

import numpy as np

from mil.tile.density import BoolMask, ByteImage, ColourBounds, Density
from mil.tile.morphology import keep_large, widen

# Smaller specks are no stroke, square millimetres.
INK_MM2 = 0.003
# How far the pale rim of a stroke reaches, micrometres.
REACH_UM = 200.0
# Coarser pixels do not show nuclei, and so no texture of tissue, micrometres.
NUCLEI_UM = 12.0
# A blue or green stain is no ink. It is recognised if cool colours make up this share of
# all that absorbs at least this much, and if more than half of them are rougher than
# this.
STAIN_SHARE = 0.6
STAIN_DENSITY = 0.15
STAIN_ROUGHNESS = 50
STAIN_ROUGH_SHARE = 0.5


@dataclass(frozen=True)
class Ink:
    """Colours of one kind of ink; a pixel is ink if any of the colour ranges holds it.

    Attributes:
        sure: colours that are ink wherever they cover a stroke.
        pale: colours that are ink only near sure ink: the rim of a stroke.
        needs_nuclei: whether tissue is told apart by its nuclei, which only fine
            overviews show.
    """

    sure: tuple[ColourBounds, ...]
    pale: tuple[ColourBounds, ...]
    needs_nuclei: bool = False


# Blue and green pens: red is lost most, which haematoxylin does only on a blue stain.
COOL_HUE = ColourBounds(red_above=STAIN_DENSITY, red_over_green=1.45, red_beyond_green=0.08)

INKS = (
    Ink(
        sure=(
            COOL_HUE,
            # Dark blue: dense in red, with little left to lose in blue.
            ColourBounds(red_above=1.0, red_over_green=1.15, blue_under_green=0.55),
            # Blue over tissue: the tissue adds green, and its nuclei drown in the ink.
            ColourBounds(
                red_above=1.3, red_over_green=0.95, blue_under_green=0.6, smoother_than=100
            ),
        ),
        pale=(
            ColourBounds(red_above=0.04, red_over_green=1.3),
            ColourBounds(red_above=0.3, red_over_green=1.12, blue_under_green=0.6),
        ),
    ),
    # Yellow and orange pens: blue is lost and hardly anything else.
    Ink(
        sure=(ColourBounds(blue_above=0.6, blue_over_green=1.8, red_under_blue=0.25),),
        pale=(ColourBounds(blue_above=0.2, blue_over_green=1.6, red_under_blue=0.3),),
    ),
    # Red and pink pens: the hue of eosin and blood, but blood is hardly ever so dense.
    Ink(
        sure=(
            ColourBounds(
                green_above=1.5, red_under_green=0.33, blue_over_green=0.6, smoother_than=100
            ),
        ),
        pale=(ColourBounds(green_above=0.8, red_under_green=0.4, blue_over_green=0.6),),
    ),
    # Black pens: dense in all channels alike.
    Ink(
        sure=(
            ColourBounds(
                red_above=0.8,
                green_above=0.8,
                blue_above=0.8,
                blue_over_red=0.66,
                blue_over_green=0.66,
                smoother_than=100,
            ),
        ),
        pale=(
            ColourBounds(
                red_above=0.8,
                green_above=0.8,
                blue_above=0.8,
                blue_over_red=0.66,
                blue_over_green=0.66,
            ),
            # Less dense, but more nearly grey.
            ColourBounds(
                red_above=0.6,
                green_above=0.6,
                blue_above=0.6,
                blue_over_red=0.8,
                blue_over_green=0.8,
            ),
        ),
    ),
    # Purple pens: the hue of haematoxylin and eosin, dense and without nuclei.
    Ink(
        sure=(ColourBounds(green_above=1.3, red_above=0.25, blue_above=0.25, smoother_than=25),),
        pale=(ColourBounds(green_above=0.9, red_above=0.25, blue_above=0.25, smoother_than=60),),
        needs_nuclei=True,
    ),
)


def ink_mask(density: Density, roughness: ByteImage, frame: BoolMask, um_per_px: float) -> BoolMask:
    """Marker ink: sure ink, and paler ink of the same hue nearby (the rim of a stroke).

    Args:
        density: optical density of the overview; see `optical_density`.
        roughness: roughness of the overview; see `texture`.
        frame: black surroundings of the scan, which are no ink.
        um_per_px: micrometres per pixel of the overview.
    """
    ink_px = np.zeros_like(frame)
    min_px = INK_MM2 / (um_per_px / 1000) ** 2
    for ink in INKS:
        if ink.needs_nuclei and um_per_px > NUCLEI_UM:
            continue
        sure = _sure_pixels(ink, density, roughness) & ~frame
        if not sure.any():
            continue
        sure = keep_large(sure, min_px)
        pale = _any_of(ink.pale, density, roughness)
        ink_px |= sure | (pale & widen(sure, REACH_UM / um_per_px))
    return ink_px


def _sure_pixels(ink: Ink, density: Density, roughness: ByteImage) -> BoolMask:
    colours = ink.sure
    if COOL_HUE in colours and _is_cool_stain(density, roughness):
        colours = tuple(colour for colour in colours if colour is not COOL_HUE)
    return _any_of(colours, density, roughness)


def _is_cool_stain(density: Density, roughness: ByteImage) -> bool:
    """Whether cool colours are a stain: most of what absorbs light, and textured."""
    red, green, _ = density
    cool = COOL_HUE.mask(density)
    absorbing = (red > STAIN_DENSITY) | (green > STAIN_DENSITY)
    if cool.sum() <= STAIN_SHARE * absorbing.sum():
        return False
    rough_share = (roughness[cool] > STAIN_ROUGHNESS).mean()
    return bool(rough_share > STAIN_ROUGH_SHARE)


def _any_of(colours: tuple[ColourBounds, ...], density: Density, roughness: ByteImage) -> BoolMask:
    """Pixels that lie in any of the colour ranges."""
    inside = np.zeros(roughness.shape, bool)
    for colour in colours:
        inside |= colour.mask(density, roughness)
    return inside
