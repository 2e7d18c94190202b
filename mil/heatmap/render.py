"""The picture of a heatmap: tissue and annotation beside a map, on one overview."""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path
from textwrap import fill, wrap

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from shapely import MultiPolygon

from mil.heatmap.legend import (
    EDGE_INCHES,
    LINE_INCHES,
    TITLE_LETTERS,
    draw_colour_bar,
    draw_scale_bar,
    write_lines,
)
from mil.heatmap.page import DOTS_PER_INCH, NOTHING, Page, Panel, Place, Rings, points
from mil.heatmap.scales import Shading

# Lines around selected tiles: no colour of a map is like cyan.
SELECTED = "#00e5ff"
# Widest such line, a part of the picture's width: 2 points where it is shown.
WIDEST_LINE = 1 / 200
ANNOTATED = "#00c853"
TISSUE = "#1565c0"
CAUTION = "#9a4f00"
# Width of one of the two images, and the most that its height may be, inches.
WIDTH_INCHES = 5.4
TALLEST_INCHES = 11.0
# Letters of a message that fit the width of its picture, even if most are capitals.
MESSAGE_LETTERS = 75
# The space above the images under one line of title, that between the images, that right
# of them, and that of a caption, inches.
ABOVE_INCHES = 0.7
GAP_INCHES = 0.15
BESIDE_INCHES = 1.5
CAPTION_INCHES = 0.3
# Letters and lines, points.
CAPTION_POINTS = 9.0
CAPTION_GAP_POINTS = 3.0
ANNOTATED_POINTS = 1.4
TISSUE_POINTS = 0.8


def overlay(
    overview: Image.Image,
    coloured: UInt8[np.ndarray, "height width 4"],
    corner: tuple[int, int] = (0, 0),
) -> Image.Image:
    """Lay a map on an overview.

    Args:
        overview: RGB image of the slide.
        coloured: Colours and opacity of the pixels.
        corner: Left and upper edge of the map on the overview, pixels.
    """
    picture = overview.copy()
    layer = Image.fromarray(coloured)
    picture.paste(layer, corner, layer)
    return picture


def outlined(
    image: Image.Image,
    first: Int[np.ndarray, "tiles 2"],
    last: Int[np.ndarray, "tiles 2"],
) -> Image.Image:
    """Draw a line just inside the footprints of tiles.

    Args:
        image: RGB image.
        first: Left and upper edges, pixels of the image.
        last: Right and lower edges.
    """
    marked = image.copy()
    pen = ImageDraw.Draw(marked)
    # Pillow's rectangles include their second corner. A tile below a pixel still has one.
    within = np.maximum(last - 1, first)
    widest = image.width * WIDEST_LINE
    for box in np.hstack([first, within]).tolist():
        side = box[2] - box[0] + 1
        width = max(1, round(min(side / 10, widest)))
        pen.rectangle(box, outline=SELECTED, width=width)
    return marked


def panel_size(width: int, height: int) -> tuple[int, int]:
    """Pixels in which an image of this size is shown beside another one."""
    scale = min(WIDTH_INCHES / width, TALLEST_INCHES / height) * DOTS_PER_INCH
    return max(1, round(width * scale)), max(1, round(height * scale))


def draw(
    path: Path,
    overview: Image.Image,
    coloured: Image.Image,
    *,
    title: str,
    shading: Shading | None,
    um_per_px: float,
    tissue: Rings,
    annotated: Rings,
    name: str = "tissue found",
    heading: str = "attention",
    note: str = "",
    about: Mapping[str, str] = NOTHING,
) -> None:
    """Draw the slide beside a map of its tiles, with outlines, colour bar and scale bar.

    Args:
        path: PNG to write.
        overview: RGB image of the slide.
        coloured: The same image with the map on it.
        title: Title; as many lines as it needs.
        shading: Colours of the map; None: there is no map.
        um_per_px: Micrometres per pixel of the overview; 0: not known, no scale bar.
        tissue: Rings of the tissue outline, pixels of the overview.
        annotated: Rings of annotated regions, pixels of the overview.
        name: Caption of the overview.
        heading: Caption of the coloured image.
        note: Caution about the colours, below the title; empty: none.
        about: Texts that the PNG carries, by name.
    """
    tall = min(WIDTH_INCHES * overview.height / overview.width, TALLEST_INCHES)
    lines = wrap(title, TITLE_LETTERS)
    cautions = wrap(note, TITLE_LETTERS)
    above = LINE_INCHES * (len(lines) + len(cautions) - 1) + ABOVE_INCHES
    page = Page(2 * WIDTH_INCHES + BESIDE_INCHES, above + tall + EDGE_INCHES)
    panels = []
    for number, (image, caption) in enumerate(((overview, name), (coloured, heading))):
        x = EDGE_INCHES + number * (WIDTH_INCHES + GAP_INCHES)
        panels.append(_show(page, image, Place(x, above, WIDTH_INCHES, tall), caption, annotated))
    page.outline(panels[0], tissue, TISSUE, TISSUE_POINTS)
    draw_scale_bar(page, panels[0], overview, um_per_px)
    if shading is not None:
        draw_colour_bar(page, shading, 2 * WIDTH_INCHES)
    write_lines(page, lines, EDGE_INCHES, "black")
    write_lines(page, cautions, EDGE_INCHES + LINE_INCHES * len(lines), CAUTION)
    page.save(path, about)


def _show(page: Page, image: Image.Image, place: Place, caption: str, annotated: Rings) -> Panel:
    """Show an image with annotated regions, and its caption above."""
    panel = page.show(image, place)
    page.outline(panel, annotated, ANNOTATED, ANNOTATED_POINTS)
    baseline = panel.box[1] - points(CAPTION_GAP_POINTS)
    page.write((panel.box[0], baseline), caption, CAPTION_POINTS, anchor="ls")
    return panel


def draw_grid(
    path: Path,
    images: Sequence[Image.Image],
    captions: Sequence[str],
    *,
    title: str,
    shading: Shading,
    um_per_px: float,
    annotated: Rings,
) -> None:
    """Draw maps of one scale in rows.

    Args:
        path: PNG to write.
        images: RGB images of one size, with a map on each.
        captions: Captions of the images.
        title: Title; as many lines as it needs.
        shading: Colours of all maps.
        um_per_px: Micrometres per pixel of an image; 0: not known, no scale bar.
        annotated: Rings of annotated regions, pixels of an image.
    """
    columns = ceil(sqrt(len(images)))
    rows = ceil(len(images) / columns)
    width = (2 * WIDTH_INCHES + GAP_INCHES * (2 - columns)) / columns
    tall = min(width * images[0].height / images[0].width, TALLEST_INCHES / rows)
    lines = wrap(title, TITLE_LETTERS)
    above = LINE_INCHES * (len(lines) - 1) + ABOVE_INCHES
    height = above + rows * (tall + CAPTION_INCHES) - CAPTION_INCHES + EDGE_INCHES
    page = Page(2 * WIDTH_INCHES + BESIDE_INCHES, height)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, columns)
        x = EDGE_INCHES + column * (width + GAP_INCHES)
        y = above + row * (tall + CAPTION_INCHES)
        panel = _show(page, image, Place(x, y, width, tall), caption, annotated)
        if not number:
            draw_scale_bar(page, panel, image, um_per_px)
    draw_colour_bar(page, shading, 2 * WIDTH_INCHES)
    write_lines(page, lines, EDGE_INCHES, "black")
    page.save(path)


def draw_message(
    path: Path,
    title: str,
    message: str,
    *,
    about: Mapping[str, str] = NOTHING,
    as_photo: bool = False,
) -> None:
    """Draw a message in place of a picture.

    Args:
        path: Picture to write.
        title: Title; as many lines as it needs.
        message: A sentence or two.
        about: Texts that the picture carries, by name.
        as_photo: Whether to write a JPEG, not a PNG.
    """
    page = Page(8.0, 3.2)
    write_lines(page, wrap(title, MESSAGE_LETTERS), 0.16, "black")
    middle = page.image.width / 2, page.image.height * 0.55
    page.write(middle, fill(message, 50), 15.0, anchor="mm", colour="#555555")
    save = page.save_photo if as_photo else page.save
    save(path, about)


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
