"""The picture of a heatmap: tissue and annotation beside attention, on one overview."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill, wrap
from typing import Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from shapely import MultiPolygon

from mil.io.h5 import MADE_FROM
from mil.statistics.discrimination import mid_ranks

Scale = Literal["percentile", "relative"]
Rings = Sequence[Float[np.ndarray, "corners 2"]]  # pixels of the overview

COLOURS = "inferno"
OPACITY = 0.55
# Lines around selected tiles: no colour of attention is like cyan.
SELECTED = "#00e5ff"
ANNOTATED = "#00c853"
TISSUE = "#1565c0"
DOTS_PER_INCH = 110
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
TITLE_POINTS = 10
CAUTION = "#9a4f00"
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
    colours = mpl.colormaps[COLOURS](np.clip(values / top, 0, 1))[:, :3] * 255
    return painted(overview, corners, side, colours, OPACITY)


def painted(
    image: Image.Image,
    corners: Float[np.ndarray, "tiles 2"],
    side: float,
    colours: Num[np.ndarray, "tiles 3"],
    opacity: float,
) -> Image.Image:
    """Lay a colour (0..255) on each tile's footprint; positions as for `overlay`."""
    pixels = np.asarray(image, np.float32).copy()
    # Corners outside the image are clipped: a negative index would count from its end.
    first = np.rint(corners).astype(int).clip(0)
    last = np.rint(corners + side).astype(int).clip(0)
    for (x0, y0), (x1, y1), colour in zip(first, last, colours, strict=True):
        window = pixels[y0:y1, x0:x1]
        window *= 1 - opacity
        window += opacity * colour
    return Image.fromarray(pixels.round().astype(np.uint8))


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
    wide = WIDTH_INCHES
    tall = min(WIDTH_INCHES * overview.height / overview.width, TALLEST_INCHES)
    lines = wrap(title, TITLE_LETTERS)
    cautions = wrap(note, TITLE_LETTERS)
    more = LINE_INCHES * (len(lines) + len(cautions) - 1)
    figure = Figure(figsize=(2 * wide + 1.5, tall + 0.8 + more), dpi=DOTS_PER_INCH)
    width, height = figure.get_size_inches()
    places = [
        ((0.1 + k * (wide + 0.15)) / width, 0.1 / height, wide / width, tall / height)
        for k in (0, 1)
    ]
    left, right = (figure.add_axes(place) for place in places)
    for axes, image, caption in ((left, overview, name), (right, coloured, heading)):
        # Shrunk to what will be seen: drawing every pixel takes most of the time.
        small = image.copy()
        shown_px = round(wide * DOTS_PER_INCH), round(tall * DOTS_PER_INCH)
        small.thumbnail(shown_px, reducing_gap=2.0)
        axes.imshow(small, extent=(0, overview.width, overview.height, 0))
        axes.set_title(caption, fontsize=9, loc="left", pad=3)
        axes.set_axis_off()
        _draw_rings(axes, annotated, ANNOTATED, 1.4)
    _draw_rings(left, tissue, TISSUE, 0.8)
    _draw_scale_bar(left, overview, um_per_px)
    if scale == "percentile":
        top = 100.0
        label = "percentile of attention within this slide"
    else:
        top = RELATIVE_TOP
        label = "attention, multiples of uniform"
    colours = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, top), COLOURS)
    bar = figure.add_axes(((2 * wide + 0.4) / width, 0.15, 0.15 / width, 0.6))
    # The label runs along the bar, and a wide slide leaves little height for it.
    label = fill(label, max(12, int(LETTERS_PER_INCH * height)))
    figure.colorbar(colours, cax=bar, label=label, alpha=OPACITY)
    _write_lines(figure, lines, 0.1, "black")
    _write_lines(figure, cautions, 0.1 + LINE_INCHES * len(lines), CAUTION)
    _save(figure, path, made_from)


def _save(figure: Figure, path: Path, made_from: str) -> None:
    metadata = {MADE_FROM: made_from} if made_from else {}
    figure.savefig(path, format="png", metadata=metadata)


def _write_lines(figure: Figure, lines: Sequence[str], top_inches: float, colour: str) -> None:
    """Write lines of text from the left, this far below the top of a figure."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        y = 1 - (top_inches + LINE_INCHES * number) / height
        # Dollar signs in a slide's name are no formula.
        figure.text(
            0.1 / width,
            y,
            line,
            fontsize=TITLE_POINTS,
            va="top",
            color=colour,
            parse_math=False,
        )


def draw_message(path: Path, title: str, message: str, *, made_from: str = "") -> None:
    """Draw a message in place of a picture.

    Args:
        path: PNG to write.
        title: Title; as many lines as it needs.
        message: A sentence or two.
        made_from: Digest of what the picture depends on; see `mil.io.provenance`.
    """
    figure = Figure(figsize=(8.0, 3.2), dpi=DOTS_PER_INCH)
    _write_lines(figure, wrap(title, MESSAGE_LETTERS), 0.16, "black")
    figure.text(
        0.5,
        0.45,
        fill(message, 50),
        fontsize=15,
        ha="center",
        va="center",
        color="#555555",
        parse_math=False,
    )
    _save(figure, path, made_from)


def _draw_rings(axes: Axes, rings: Rings, colour: str, width: float) -> None:
    for ring in rings:
        axes.plot(ring[:, 0], ring[:, 1], color=colour, linewidth=width)


def _draw_scale_bar(axes: Axes, overview: Image.Image, um_per_px: float) -> None:
    """Draw a bar of a round length, the longest that takes a fifth of the width."""
    if um_per_px <= 0:
        return
    longest_um = overview.width * um_per_px / 5
    length = max((n for n in BAR_LENGTHS_UM if n <= longest_um), default=BAR_LENGTHS_UM[0])
    x = overview.width * 0.03
    y = overview.height * 0.97
    axes.plot([x, x + length / um_per_px], [y, y], color="black", linewidth=3)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"
    axes.text(x, y - overview.height * 0.012, label, fontsize=8)


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
