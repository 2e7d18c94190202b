"""The picture of a heatmap: tissue and annotation beside attention, on one overview."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill, wrap
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Num
from PIL import Image, ImageDraw
from shapely import MultiPolygon

from mil.heatmap.colours import INFERNO, colours_of
from mil.heatmap.page import DOTS_PER_INCH, Page, Panel, Place, Rings, pixels, points
from mil.statistics.discrimination import mid_ranks

Scale = Literal["percentile", "relative"]

OPACITY = 0.55
# Lines around selected tiles: no colour of attention is like cyan.
SELECTED = "#00e5ff"
ANNOTATED = "#00c853"
TISSUE = "#1565c0"
# Multiples of uniform attention where the colours end.
RELATIVE_TOP = 10.0
# Width of one of the two images, and the most that its height may be, inches.
WIDTH_INCHES = 5.4
TALLEST_INCHES = 11.0
# Letters of a title that fit the width of a picture, and of a message, even if most are
# capitals. Height of a line of it, and its size in points.
TITLE_LETTERS = 120
MESSAGE_LETTERS = 75
LETTERS_PER_INCH = 10
LINE_INCHES = 0.19
TITLE_POINTS = 10.0
CAUTION = "#9a4f00"
# Edges of the page, the space above the images under one line of title, that between
# the images, and that right of them, inches.
EDGE_INCHES = 0.1
ABOVE_INCHES = 0.7
GAP_INCHES = 0.15
BESIDE_INCHES = 1.5
# The colour bar: distance from the images and width, inches; lower end and length as
# shares of the page's height; parts between its ticks, where they have room and not.
BAR_GAP_INCHES = 0.4
BAR_INCHES = 0.15
BAR_BOTTOM = 0.15
BAR_SHARE = 0.6
TICKS = 5
FEW_TICKS = 2
# Letters and lines, points.
CAPTION_POINTS = 9.0
CAPTION_GAP_POINTS = 3.0
ANNOTATED_POINTS = 1.4
TISSUE_POINTS = 0.8
TICK_POINTS = 3.5
THIN_POINTS = 0.8
SCALE_BAR_POINTS = 3.0
SCALE_BAR_LABEL_POINTS = 8.0
# Lengths that a scale bar may have, micrometres.
BAR_LENGTHS_UM = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


def scaled(attention: Float[np.ndarray, " tiles"], scale: Scale) -> Float[np.ndarray, " tiles"]:
    """Attention as it is drawn.

    Args:
        attention: Attention of each tile; sums to 1 over the slide.
        scale: `percentile`: rank within the slide, 0..100, ties share the mean;
            `relative`: times the number of tiles, so that uniform attention is 1.
    """
    if scale == "relative":
        return attention * len(attention)
    # Less a half, so that the scale is symmetric: tiles that all tie are at 50.
    return (mid_ranks(attention) - 0.5) / len(attention) * 100


def overlay(
    overview: Image.Image,
    corners: Float[np.ndarray, "tiles 2"],
    side: float,
    values: Float[np.ndarray, " tiles"],
    top: float,
) -> Image.Image:
    """Colour each tile's footprint on the overview.

    Args:
        overview: RGB image of the slide.
        corners: Top left corners, pixels of the overview; fractions are rounded to
            whole pixels at both edges, so that neighbours meet.
        side: Side of a tile, pixels of the overview.
        values: Values of the tiles; 0 is the bottom of the colours.
        top: Value at the top of the colours.
    """
    return painted(overview, corners, side, colours_of(values / top), OPACITY)


def painted(
    image: Image.Image,
    corners: Float[np.ndarray, "tiles 2"],
    side: float,
    colours: Num[np.ndarray, "tiles 3"],
    opacity: float,
) -> Image.Image:
    """Lay a colour (0..255) on each tile's footprint; positions as for `overlay`."""
    pixels = np.array(image)
    # Corners outside the image are clipped: a negative index would count from its end.
    first = np.rint(corners).astype(int).clip(0)
    last = np.rint(corners + side).astype(int).clip(0)
    for (x0, y0), (x1, y1), colour in zip(first, last, colours, strict=True):
        # Only here as floats: most of an image of a small slide is no tile.
        window = pixels[y0:y1, x0:x1]
        blended = window.astype(np.float32) * (1 - opacity) + opacity * colour
        window[:] = blended.round()
    return Image.fromarray(pixels)


def outlined(
    image: Image.Image,
    corners: Float[np.ndarray, "tiles 2"],
    side: float,
    chosen: Bool[np.ndarray, " tiles"],
) -> Image.Image:
    """Draw a line just inside the footprint of chosen tiles; positions as for `overlay`."""
    marked = image.copy()
    pen = ImageDraw.Draw(marked)
    width = max(1, round(side / 10))
    first = np.rint(corners[chosen]).astype(int)
    # Pillow's rectangles include their second corner. A tile below a pixel still has
    # one.
    last = np.maximum(np.rint(corners[chosen] + side).astype(int) - 1, first)
    for box in np.hstack([first, last]).tolist():
        pen.rectangle(box, outline=SELECTED, width=width)
    return marked


def draw(
    path: Path,
    overview: Image.Image,
    coloured: Image.Image,
    *,
    title: str,
    scale: Scale,
    um_per_px: float,
    tissue: Rings,
    annotated: Rings,
    name: str = "tissue found",
    heading: str = "attention",
    note: str = "",
    made_from: str = "",
) -> None:
    """Draw the slide beside its attention, with outlines, colour bar and scale bar.

    Args:
        path: PNG to write.
        overview: RGB image of the slide.
        coloured: The same image with attention on it.
        title: Title; as many lines as it needs.
        scale: Scale of the attention, see `scaled`.
        um_per_px: Micrometres per pixel of the overview; 0: not known, no scale bar.
        tissue: Rings of the tissue outline, pixels of the overview.
        annotated: Rings of annotated regions, pixels of the overview.
        name: Caption of the overview.
        heading: Caption of the coloured image.
        note: Caution about the colours, below the title; empty: none.
        made_from: Digest of what the picture depends on; see `mil.io.provenance`.
    """
    tall = min(WIDTH_INCHES * overview.height / overview.width, TALLEST_INCHES)
    lines = wrap(title, TITLE_LETTERS)
    cautions = wrap(note, TITLE_LETTERS)
    above = LINE_INCHES * (len(lines) + len(cautions) - 1) + ABOVE_INCHES
    page = Page(2 * WIDTH_INCHES + BESIDE_INCHES, above + tall + EDGE_INCHES)
    panels = []
    for number, (image, caption) in enumerate(((overview, name), (coloured, heading))):
        x = EDGE_INCHES + number * (WIDTH_INCHES + GAP_INCHES)
        panel = page.show(image, Place(x, above, WIDTH_INCHES, tall))
        page.outline(panel, annotated, ANNOTATED, ANNOTATED_POINTS)
        baseline = panel.box[1] - points(CAPTION_GAP_POINTS)
        page.write((panel.box[0], baseline), caption, CAPTION_POINTS, anchor="ls")
        panels.append(panel)
    page.outline(panels[0], tissue, TISSUE, TISSUE_POINTS)
    _draw_scale_bar(page, panels[0], overview, um_per_px)
    _draw_colour_bar(page, scale)
    _write_lines(page, lines, EDGE_INCHES, "black")
    _write_lines(page, cautions, EDGE_INCHES + LINE_INCHES * len(lines), CAUTION)
    page.save(path, made_from)


def _write_lines(page: Page, lines: Sequence[str], top_inches: float, colour: str) -> None:
    """Write lines of text from the left, this far below the top of a page."""
    for number, line in enumerate(lines):
        at = pixels(EDGE_INCHES), pixels(top_inches + LINE_INCHES * number)
        page.write(at, line, TITLE_POINTS, colour=colour)


def _draw_colour_bar(page: Page, scale: Scale) -> None:
    """Draw the colours with their values, right of the images."""
    if scale == "percentile":
        top = 100.0
        label = "percentile of attention within this slide"
    else:
        top = RELATIVE_TOP
        label = "attention, multiples of uniform"
    x = 2 * WIDTH_INCHES + BAR_GAP_INCHES
    place = Place(
        x, page.height * (1 - BAR_BOTTOM - BAR_SHARE), BAR_INCHES, page.height * BAR_SHARE
    )
    # As they look on white, under the opacity that they are laid on tissue with.
    page.bar(place, (INFERNO * OPACITY + 255 * (1 - OPACITY)).round().astype(np.uint8))
    right = pixels(place.x + place.width)
    parts = TICKS if place.height >= (TICKS + 1) * LINE_INCHES else FEW_TICKS
    beyond = 0.0
    for number in range(parts + 1):
        y = (place.y + place.height * (1 - number / parts)) * DOTS_PER_INCH
        tick = right + points(TICK_POINTS)
        page.line((right, y), (tick, y), THIN_POINTS)
        at = tick + points(TICK_POINTS), y
        written = page.write(at, f"{top * number / parts:g}", TITLE_POINTS, anchor="lm")
        beyond = max(beyond, written[2])
    # The label runs along the bar, and a wide slide leaves little height for it.
    label = fill(label, max(12, int(LETTERS_PER_INCH * page.height)))
    middle = (place.y + place.height / 2) * DOTS_PER_INCH
    page.write_upwards(beyond + points(TICK_POINTS), middle, label, TITLE_POINTS)


def draw_message(path: Path, title: str, message: str, *, made_from: str = "") -> None:
    """Draw a message in place of a picture.

    Args:
        path: PNG to write.
        title: Title; as many lines as it needs.
        message: A sentence or two.
        made_from: Digest of what the picture depends on; see `mil.io.provenance`.
    """
    page = Page(8.0, 3.2)
    _write_lines(page, wrap(title, MESSAGE_LETTERS), 0.16, "black")
    middle = page.image.width / 2, page.image.height * 0.55
    page.write(middle, fill(message, 50), 15.0, anchor="mm", colour="#555555")
    page.save(path, made_from)


def _draw_scale_bar(page: Page, panel: Panel, overview: Image.Image, um_per_px: float) -> None:
    """Draw a bar of a round length, the longest that takes a fifth of the width."""
    if um_per_px <= 0:
        return
    longest_um = overview.width * um_per_px / 5
    length = max((n for n in BAR_LENGTHS_UM if n <= longest_um), default=BAR_LENGTHS_UM[0])
    left, top, right, bottom = panel.box
    x = left + 0.03 * (right - left)
    y = top + 0.97 * (bottom - top)
    page.line((x, y), (x + length / um_per_px * panel.scale, y), SCALE_BAR_POINTS)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"
    page.write((x, y - 0.012 * (bottom - top)), label, SCALE_BAR_LABEL_POINTS, anchor="ls")


def rings_of(
    regions: MultiPolygon, scale: float, origin_px: tuple[int, int]
) -> list[Float[np.ndarray, "corners 2"]]:
    """Outer and inner rings of regions, pixels of the overview.

    Args:
        regions: Regions, level-0 pixels.
        scale: Level-0 pixels per pixel of the overview.
        origin_px: Top left corner of the overview, level-0 pixels.
    """
    rings = [ring for polygon in regions.geoms for ring in (polygon.exterior, *polygon.interiors)]
    return [(np.asarray(ring.coords)[:, :2] - origin_px) / scale for ring in rings]
