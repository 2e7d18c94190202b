"""The picture of a finer map: the region, its tiles as they are in the bag, and the fine cells."""

from pathlib import Path
from textwrap import wrap

import numpy as np
from jaxtyping import Float, Num
from PIL import Image

from mil.heatmap.colours import INFERNO, colours_of
from mil.heatmap.page import DOTS_PER_INCH, Page, Place, pixels, points
from mil.io.atomic import atomic_path
from mil.io.digests import statements
from mil.io.slides import SlideReader
from mil.refine.grid import CellMeans, FineTiles
from mil.statistics.discrimination import percentiles_within

OPACITY = 0.55
PANEL_INCHES = 5.4
TALLEST_INCHES = 9.0
NARROWEST_INCHES = 3.2
EDGE_INCHES = 0.1
GAP_INCHES = 0.15
LINE_INCHES = 0.19
CAPTION_INCHES = 0.25
BAR_INCHES = 1.1
BAR_WIDTH_INCHES = 0.15
TITLE_POINTS = 10.0
CAPTION_POINTS = 9.0
LETTERS_PER_INCH = 10
TICKS = (0, 25, 50, 75, 100)


class Region:
    """The part of a slide that a finer map covers.

    Args:
        reader: The slide.
        fine: Tiles of the fine grid.
        side: Side of a tile, level-0 pixels.
    """

    def __init__(self, reader: SlideReader, fine: FineTiles, side: float) -> None:
        first = (fine.corners.min(0) - side / 2).clip(0)
        last = np.minimum(fine.corners.max(0) + 1.5 * side, reader.size_px)
        self.first = first
        extent = last - first
        inches = min(PANEL_INCHES / extent[0], TALLEST_INCHES / extent[1])
        self.scale = 1 / (inches * DOTS_PER_INCH)  # level-0 pixels per pixel of the picture
        width, height = (max(1, round(length / self.scale)) for length in extent.tolist())
        corner = float(first[0]), float(first[1])
        box = float(extent[0]), float(extent[1])
        self.image = Image.fromarray(reader.read_box(corner, box, (width, height)))

    def fill(
        self,
        values: Float[np.ndarray, "height width"],
        corners: Num[np.ndarray, "tiles 2"],
        side: float,
        filling: Float[np.ndarray, " tiles"],
    ) -> None:
        """Write the value of each square into the pixels that it covers.

        Args:
            values: Value of each pixel of the picture.
            corners: Top left corners of the squares, level-0 pixels.
            side: Their side, level-0 pixels.
            filling: Their values.
        """
        starts = np.rint((corners - self.first) / self.scale).astype(int).clip(0)
        ends = np.rint((corners + side - self.first) / self.scale).astype(int).clip(0)
        for (x0, y0), (x1, y1), value in zip(starts, ends, filling, strict=True):
            values[y0:y1, x0:x1] = value

    def coloured(self, percentiles: Float[np.ndarray, "height width"]) -> Image.Image:
        """The region under a map; pixels without a value stay as they are."""
        picture = np.array(self.image)
        known = ~np.isnan(percentiles)
        colours = colours_of(percentiles[known] / 100)
        picture[known] = (picture[known] * (1 - OPACITY) + colours * OPACITY).round()
        return Image.fromarray(picture)

    def blank(self) -> Float[np.ndarray, "height width"]:
        """No value for any pixel."""
        return np.full((self.image.height, self.image.width), np.nan)


def percentiles_in(
    values: Float[np.ndarray, " n"], bag: Float[np.ndarray, " tiles"]
) -> Float[np.ndarray, " n"]:
    """Percentile of values among those of the bag's tiles, 0 to 100."""
    order = np.argsort(bag, kind="stable")
    return np.interp(values, bag[order], percentiles_within(bag)[order])


def draw_fine(
    out: Path,
    region: Region,
    corners: Num[np.ndarray, "tiles 2"],
    side: float,
    relative: Float[np.ndarray, " tiles"],
    fine: FineTiles,
    means: CellMeans,
    *,
    title: str,
    made_from: str = "",
) -> None:
    """Draw the region of a finer map three times: bare, tile by tile, and cell by cell.

    Args:
        out: PNG to write.
        region: Part of the slide.
        corners: Corners of the bag's tiles, level-0 pixels.
        side: Side of a tile, level-0 pixels.
        relative: Attention of the bag's tiles, multiples of uniform attention.
        fine: Tiles of the fine grid.
        means: Means over the tiles that cover each cell; attention first.
        title: Title; as many lines as it needs.
        made_from: Digest of what the map depends on; see `mil.io.provenance`.
    """
    coarse = region.blank()
    region.fill(coarse, corners, side, percentiles_in(relative, relative))
    finer = coarse.copy()
    cells = fine.origin + means.cells * fine.step
    region.fill(finer, cells, fine.step, percentiles_in(means.means[:, 0], relative))
    panels = (
        ("slide", region.image),
        ("attention, tile by tile", region.coloured(coarse)),
        (f"attention, mean of tiles at a stride of 1/{fine.per_side}", region.coloured(finer)),
    )
    width = region.image.width / DOTS_PER_INCH
    height = region.image.height / DOTS_PER_INCH
    # Captions need some width where the region is narrow.
    panel = max(width, NARROWEST_INCHES)
    across = 2 * EDGE_INCHES + 3 * panel + 2 * GAP_INCHES
    lines = wrap(title, int(LETTERS_PER_INCH * across))
    above = EDGE_INCHES + LINE_INCHES * len(lines) + CAPTION_INCHES
    page = Page(
        across + BAR_INCHES,
        above + max(height, 1.0) + EDGE_INCHES,
    )
    for number, line in enumerate(lines):
        at = pixels(EDGE_INCHES), pixels(EDGE_INCHES + LINE_INCHES * number)
        page.write(at, line, TITLE_POINTS)
    for number, (caption, image) in enumerate(panels):
        left = EDGE_INCHES + number * (panel + GAP_INCHES)
        page.show(image, Place(left, above, width, height))
        page.write(
            (pixels(left), pixels(above) - points(3.0)), caption, CAPTION_POINTS, anchor="ls"
        )
    _draw_bar(page, across, above, max(height, 1.0))
    with atomic_path(out) as scratch:
        page.save(scratch, statements(made_from))


def _draw_bar(page: Page, left: float, top: float, height: float) -> None:
    """Draw the colours with the percentiles that they stand for."""
    # As they look on white.
    colours = (INFERNO * OPACITY + 255 * (1 - OPACITY)).round().astype(np.uint8)
    length = min(height, 3.0)
    place = Place(left + EDGE_INCHES, top + 0.1, BAR_WIDTH_INCHES, length - 0.2)
    page.bar(place, colours)
    for tick in TICKS:
        y = (place.y + place.height * (1 - tick / 100)) * DOTS_PER_INCH
        x = pixels(place.x + place.width) + points(4.0)
        page.write((x, y), f"{tick} %", CAPTION_POINTS, anchor="lm")
