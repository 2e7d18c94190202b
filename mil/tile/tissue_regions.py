"""Regions of tissue of the pixels with its colour: gaps closed, specks and lines dropped."""

from mil.tile.colour import ColouredPixels, OverviewColours
from mil.tile.density import BoolMask
from mil.tile.morphology import Regions, close_gaps, small_holes
from mil.tile.sensitivity import Sensitivity
from mil.tile.smooth import smooth_lines, without_smooth_parts

# Gaps that are closed, micrometres.
CLOSE_UM = 48.0
# A region smaller than this, square millimetres, is tissue only if this share of it is
# surely tissue.
FAINT_MM2 = 0.15
SURE_SHARE = 0.05
# Smaller holes are filled, square millimetres.
HOLE_MM2 = 0.02
# A thin region longer than this is the edge of a coverslip, a hair or a scratch.
LINE_UM = 2000.0
# One that has little texture may be this wide.
LINE_WIDTH_UM = 180.0


def tissue_regions(
    pixels: ColouredPixels,
    colours: OverviewColours,
    min_area_mm2: float,
    sensitivity: Sensitivity,
) -> BoolMask:
    """Coloured pixels joined to regions; specks and lines are dropped, small holes filled.

    Args:
        pixels: pixels with the colour of tissue.
        colours: colours of the overview.
        min_area_mm2: smallest area of a region to keep, square millimetres.
        sensitivity: thresholds of the attempt.
    """
    um = colours.um_per_px
    px_per_mm2 = (1000 / um) ** 2
    tissue = close_gaps(pixels.coloured, max(1, round(CLOSE_UM / um))) & ~colours.ignored
    tissue = without_smooth_parts(tissue, colours.ink, colours.relief, um)
    regions = Regions(tissue)
    # On a tiny overview the smallest region would not fit: a quarter of it is enough.
    keep = regions.area >= min(min_area_mm2 * px_per_mm2, tissue.size / 4)
    keep[0] = False
    if sensitivity.needs_texture:
        is_small = regions.area < FAINT_MM2 * px_per_mm2
        keep &= ~is_small | (regions.pixels_in(pixels.sure) >= SURE_SHARE * regions.area)
    keep &= ~regions.are_lines(keep, sensitivity.thin_um / um, LINE_UM / um)
    tissue = regions.mask(keep)
    broader_lines = regions.are_lines(keep, LINE_WIDTH_UM / um, LINE_UM / um)
    if broader_lines.any():
        lines = regions.mask(broader_lines)
        tissue &= ~smooth_lines(lines, colours.relief, LINE_UM / um)
    return tissue | small_holes(tissue, HOLE_MM2 * px_per_mm2)
