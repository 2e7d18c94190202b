"""A classical tissue mask: pixels that absorb light as stained tissue does, not as pen or dust.

What is measured is colour (`mil.tile.colour`). What has colour but no fine texture,
beside ink or along the border, is a rim of ink or glue (`mil.tile.smooth`); what has
texture and hardly any colour is fat (`mil.tile.relief`). Thresholds are optical
densities and square millimetres, never a share of the slide, so that a faint node or a
small biopsy on a large slide survives.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from mil.tile.colour import OverviewColours, coloured_pixels, colours_of
from mil.tile.density import BoolMask, RgbImage
from mil.tile.morphology import mostly_outside, widen
from mil.tile.sensitivity import SENSITIVE, USUAL, Sensitivity
from mil.tile.smooth import enlarge
from mil.tile.tissue_regions import tissue_regions

# Finer overviews are reduced to this or a little less, micrometres per pixel.
WORK_UM = 8.0
# Less tissue than this asks for a second, more sensitive attempt, square millimetres.
LITTLE_MM2 = 0.15
# What lies so near to a pale field belongs to it, micrometres.
PALE_GAP_UM = 100.0


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


def find_tissue(overview: RgbImage, um_per_px: float, min_area_mm2: float) -> TissueMask:
    """Find tissue and marker ink on an overview.

    Args:
        overview: RGB overview.
        um_per_px: micrometres per pixel of the overview; made for 2 to 30.
        min_area_mm2: smallest area of a tissue region to keep, square millimetres.
    """
    factor = max(1, int(WORK_UM / um_per_px))
    work_um = um_per_px * factor
    colours = colours_of(_reduce(overview, factor), work_um)
    tissue = _attempt(colours, min_area_mm2, USUAL)
    second_try = False
    # A pale field is no reason to leave out the second attempt: it may be part of a faint
    # section.
    dense = tissue & ~widen(colours.pale, PALE_GAP_UM / work_um)
    if dense.sum() * (work_um / 1000) ** 2 < LITTLE_MM2:
        sensitive = _attempt(colours, min_area_mm2, SENSITIVE)
        # Where both attempts agree, the first is sharper.
        new = mostly_outside(dense, sensitive)
        tissue = tissue | new
        second_try = bool(new.any())
    shape = overview.shape
    return TissueMask(
        enlarge(tissue, factor, shape), enlarge(colours.ink, factor, shape), second_try
    )


def _attempt(colours: OverviewColours, min_area_mm2: float, sensitivity: Sensitivity) -> BoolMask:
    pixels = coloured_pixels(colours, sensitivity)
    return tissue_regions(pixels, colours, min_area_mm2, sensitivity)


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
