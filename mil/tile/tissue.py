"""A classical tissue mask: pixels that absorb light as stained tissue does, not as pen or dust.

What is measured is colour: how much more light one channel loses than another. Grey
things (dust, shadows, coverslip edges, stitching, vignetting) have hardly any for the
light that they lose, and the palest tissue has some. What has colour but no fine
texture, beside ink or along the border, is a rim of ink or glue (`mil.tile.smooth`);
what has texture and hardly any colour is fat (`mil.tile.relief`). Thresholds are optical
densities and square millimetres, never a share of the slide, so that a faint node or a
small biopsy on a large slide survives.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage
from shapely import Polygon, make_valid
from shapely.geometry.base import BaseGeometry
from skimage.measure import find_contours

from mil.tile.density import (
    BoolMask,
    Density,
    Plane,
    RgbImage,
    channel_extreme,
    gaussian,
    optical_density,
    texture,
)
from mil.tile.glass import colour_of, subtract_glass
from mil.tile.ink import ink_mask
from mil.tile.morphology import (
    Regions,
    close_gaps,
    largest_near,
    mostly_outside,
    small_holes,
    widen,
)
from mil.tile.relief import RELIEF_UM, Relief, relief
from mil.tile.smooth import enlarge, smooth_lines, without_smooth_parts

# Finer overviews are reduced to this or a little less, micrometres per pixel.
WORK_UM = 8.0
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
# A region smaller than this, square millimetres, is tissue only if this share of it has
# at least this colour, or is pale tissue.
FAINT_MM2 = 0.15
SURE_SHARE = 0.05
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
# Distances, micrometres: of the colours that an edge is compared with, of gaps that are
# closed, and of ink's surroundings that count as ink.
NEAR_UM = 40.0
CLOSE_UM = 48.0
INK_GAP_UM = 12.0
# Smallest standard deviation of a smoothing, pixels.
LEAST_SMOOTHING_PX = 0.7
# Least weight of the known pixels around that a mean is divided by.
LEAST_WEIGHT = np.float32(0.05)
# Smaller holes are filled, square millimetres.
HOLE_MM2 = 0.02
# Less tissue than this asks for a second, more sensitive attempt, square millimetres.
LITTLE_MM2 = 0.15
# What lies so near to a pale field belongs to it, micrometres.
PALE_GAP_UM = 100.0
# A thin region longer than this is the edge of a coverslip, a hair or a scratch.
LINE_UM = 2000.0
# One that has little texture may be this wide.
LINE_WIDTH_UM = 180.0


@dataclass(frozen=True)
class Sensitivity:
    """Thresholds of one attempt to find tissue.

    Attributes:
        smooth_um: standard deviation of the smoothing, micrometres.
        faintest: bounds of the faintest colour that is tissue, optical density. Between
            them it follows the spread of colour on the slide's glass.
        thin_um: mean width up to which a long region is a line, micrometres.
        needs_texture: whether colour below `SMOOTH_COLOUR` must have texture, and small
            faint regions something sure.
    """

    smooth_um: float
    faintest: tuple[float, float]
    thin_um: float
    needs_texture: bool


# All slides are searched with the first; where hardly anything is found, the second
# looks for larger and fainter things, such as a pale node.
USUAL = Sensitivity(smooth_um=12.0, faintest=(0.024, 0.04), thin_um=70.0, needs_texture=True)
SENSITIVE = Sensitivity(smooth_um=30.0, faintest=(0.015, 0.03), thin_um=180.0, needs_texture=False)


@dataclass(frozen=True)
class TissueMask:
    """Tissue and marker ink on an overview.

    Attributes:
        tissue: pixels that are tissue.
        ink: pixels that are marker ink.
        second_try: whether tissue was found only by the more sensitive thresholds.
    """

    tissue: BoolMask
    ink: BoolMask
    second_try: bool


@dataclass(frozen=True)
class _Colours:
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


def find_tissue(overview: RgbImage, um_per_px: float, min_area_mm2: float) -> TissueMask:
    """Find tissue and marker ink on an overview.

    Args:
        overview: RGB overview.
        um_per_px: micrometres per pixel of the overview; made for 2 to 30.
        min_area_mm2: smallest area of a tissue region to keep, square millimetres.
    """
    factor = max(1, int(WORK_UM / um_per_px))
    image = _reduce(overview, factor)
    work_um = um_per_px * factor
    density = optical_density(image)
    ink, colours = _prepare(image, density, work_um)
    tissue = _regions(*_coloured(colours, USUAL), colours, min_area_mm2, USUAL)
    second_try = False
    # A pale field is no reason to leave out the second attempt: it may be part of a faint
    # section.
    pale = enlarge(colours.relief.pale, colours.relief.factor, tissue.shape)
    dense = tissue & ~widen(pale, PALE_GAP_UM / work_um)
    if dense.sum() * (work_um / 1000) ** 2 < LITTLE_MM2:
        coloured = _coloured(colours, SENSITIVE)
        sensitive = _regions(*coloured, colours, min_area_mm2, SENSITIVE)
        # Where both attempts agree, the first is sharper.
        new = mostly_outside(dense, sensitive)
        tissue = tissue | new
        second_try = bool(new.any())
    shape = overview.shape
    return TissueMask(enlarge(tissue, factor, shape), enlarge(ink, factor, shape), second_try)


def _prepare(image: RgbImage, density: Density, um_per_px: float) -> tuple[BoolMask, _Colours]:
    """Marker ink, and the colours of the rest."""
    brightest = channel_extreme(np.maximum, image)
    roughness = texture(density)
    ink = ink_mask(density, roughness, brightest < FRAME, um_per_px)
    ignored = widen(ink, INK_GAP_UM / um_per_px) | (brightest < BLACK)
    red, green, blue = density
    clear = (green < GLASS_GREEN) & ~ignored
    excess = (green - red, green - blue)
    colours = _Colours(
        excess,
        clear,
        ignored,
        ink,
        green,
        relief(density, um_per_px),
        um_per_px,
    )
    return ink, colours


def _coloured(colours: _Colours, sensitivity: Sensitivity) -> tuple[BoolMask, BoolMask]:
    """Pixels with the colour of tissue, and those that are surely tissue."""
    um = colours.um_per_px
    sigma_px = max(sensitivity.smooth_um / um, LEAST_SMOOTHING_PX)
    over_red, over_blue = _smoothed(colours, sigma_px)
    # Grey things lose as much light in each channel: lines, dust, shadows, borders.
    densest = gaussian(colours.green, sigma_px)
    densest -= np.minimum(np.minimum(over_red, over_blue), 0)
    reach_px = round(NEAR_UM / um)
    spread = subtract_glass(over_red, over_blue, colours.clear, reach_px)
    colour = colour_of(over_red, over_blue)
    faintest = np.clip(SPREADS * spread, *sensitivity.faintest)
    edge = largest_near(colour, reach_px)
    edge *= EDGE_SHARE
    np.clip(edge, faintest, EDGE_COLOUR, out=edge)
    coloured = colour > edge
    densest *= GREY_SHARE
    coloured &= colour > densest
    pale = enlarge(colours.relief.pale, colours.relief.factor, colour.shape)
    relative = colours.relief.relative
    # Large pixels smooth what they see.
    least_texture = TINT_TEXTURE * min(1.0, RELIEF_UM / (um * colours.relief.factor))
    lively = colours.relief.lively & (relative > least_texture)
    lively = enlarge(lively, colours.relief.factor, colour.shape)
    most_green = np.minimum(over_red, over_blue) > HUE_SHARE * colour
    if sensitivity.needs_texture:
        rough = enlarge(relative > FAINT_TEXTURE, colours.relief.factor, colour.shape)
        most_green &= rough | (colour > SMOOTH_COLOUR)
    coloured &= most_green | lively | (colour > TINT_COLOUR)
    sure = coloured & (colour > SURE_COLOUR) | pale
    return (coloured | pale) & ~colours.ignored, sure


def _regions(
    coloured: BoolMask,
    sure: BoolMask,
    colours: _Colours,
    min_area_mm2: float,
    sensitivity: Sensitivity,
) -> BoolMask:
    """Coloured pixels joined to regions; specks and lines are dropped, small holes filled."""
    um = colours.um_per_px
    px_per_mm2 = (1000 / um) ** 2
    tissue = close_gaps(coloured, max(1, round(CLOSE_UM / um))) & ~colours.ignored
    tissue = without_smooth_parts(tissue, colours.ink, colours.relief, um)
    regions = Regions(tissue)
    # On a tiny overview the smallest region would not fit: a quarter of it is enough.
    keep = regions.area >= min(min_area_mm2 * px_per_mm2, tissue.size / 4)
    keep[0] = False
    if sensitivity.needs_texture:
        is_small = regions.area < FAINT_MM2 * px_per_mm2
        keep &= ~is_small | (regions.pixels_in(sure) >= SURE_SHARE * regions.area)
    keep &= ~regions.are_lines(keep, sensitivity.thin_um / um, LINE_UM / um)
    tissue = regions.mask(keep)
    broader_lines = regions.are_lines(keep, LINE_WIDTH_UM / um, LINE_UM / um)
    if broader_lines.any():
        lines = regions.mask(broader_lines)
        tissue &= ~smooth_lines(lines, colours.relief, LINE_UM / um)
    return tissue | small_holes(tissue, HOLE_MM2 * px_per_mm2)


def _smoothed(colours: _Colours, sigma_px: float) -> tuple[Plane, Plane]:
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


def _reduce(image: RgbImage, factor: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """Mean of whole blocks of `factor` x `factor` pixels, edges repeated where they overhang."""
    if factor == 1:
        return image
    height, width = image.shape[:2]
    image = np.pad(image, ((0, -height % factor), (0, -width % factor), (0, 0)), mode="edge")
    offsets = [(row, column) for row in range(factor) for column in range(factor)]
    # A sum of strided views is much faster than a mean over two axes of a reshaped view.
    total = np.zeros(image[::factor, ::factor].shape, np.uint32)
    for row, column in offsets:
        total += image[row::factor, column::factor]
    return ((total + len(offsets) // 2) // len(offsets)).astype(np.uint8)


def outlines(mask: BoolMask, scale: float, origin_px: tuple[int, int]) -> list[BaseGeometry]:
    """Outlines of the mask's regions with their holes, level-0 pixels.

    Args:
        mask: tissue on the overview.
        scale: level-0 pixels per pixel of the mask.
        origin_px: corner of the overview on the slide, level-0 pixels.
    """
    labels, count = ndimage.label(mask)
    regions = []
    for number, window in enumerate(ndimage.find_objects(labels, count), start=1):
        # A margin of one pixel closes rings at the border, and contours run through
        # centres: less one, plus a half.
        corner = window[1].start - 0.5, window[0].start - 0.5
        padded = np.pad(labels[window] == number, 1).astype(float)
        rings = [
            Polygon((contour[:, ::-1] + corner) * scale + origin_px)
            for contour in find_contours(padded, 0.5)
            if len(contour) >= 4
        ]
        rings.sort(key=lambda ring: -ring.area)
        if rings:
            holes = [ring.exterior for ring in rings[1:]]
            region = Polygon(rings[0].exterior, holes)
            regions.append(make_valid(region.simplify(scale / 4)))
    return regions
