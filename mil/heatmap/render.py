"""The picture: tissue and annotation beside attention, on one overview."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from shapely import MultiPolygon

from mil.statistics.discrimination import mid_ranks

Scale = Literal["percentile", "relative"]
COLOURS = "inferno"
OPACITY = 0.55
SELECTED = "#00e5ff"  # lines around selected tiles: no colour of attention is like it
DOTS_PER_INCH = 110
RELATIVE_TOP = 10.0  # multiples of uniform attention where the colours end


def scaled(attention: Float[np.ndarray, " tiles"], scale: Scale) -> Float[np.ndarray, " tiles"]:
    """Attention as it is drawn.

    Args:
        attention: sums to 1 over the slide.
        scale: `percentile`: rank within the slide, 0..100, ties share the mean;
            `relative`: times the number of tiles, so that uniform attention is 1.
    """
    if scale == "relative":
        return attention * len(attention)
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
        overview: RGB picture of the slide.
        corners: top left corners, pixels of the overview; fractions are rounded to
            whole pixels at both edges, so that neighbours meet.
        side: side of a tile, pixels of the overview.
        values: 0 is the bottom of the colours.
        top: value at the top of the colours.
    """
    return painted(
        overview,
        corners,
        side,
        mpl.colormaps[COLOURS](np.clip(values / top, 0, 1))[:, :3] * 255,
        OPACITY,
    )


def painted(
    picture: Image.Image,
    corners: Float[np.ndarray, "tiles 2"],
    side: float,
    colours: Num[np.ndarray, "tiles 3"],
    opacity: float,
) -> Image.Image:
    """Lay a colour (0..255) on each tile's footprint; places as for `overlay`."""
    pixels = np.asarray(picture, np.float32).copy()
    first = np.rint(corners).astype(int).clip(0)
    last = np.rint(corners + side).astype(int).clip(0)
    for (x0, y0), (x1, y1), colour in zip(first, last, colours, strict=True):
        window = pixels[y0:y1, x0:x1]
        window *= 1 - opacity
        window += opacity * colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def outlined(
    picture: Image.Image,
    corners: Float[np.ndarray, "tiles 2"],
    side: float,
    chosen: Bool[np.ndarray, " tiles"],
) -> Image.Image:
    """Draw a thin line just inside the footprint of the chosen tiles; places as for `overlay`."""
    marked = picture.copy()
    pen = ImageDraw.Draw(marked)
    width = max(1, round(side / 10))
    first = np.rint(corners[chosen]).astype(int)
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
    tissue: Sequence[Float[np.ndarray, "corners 2"]],
    annotated: Sequence[Float[np.ndarray, "corners 2"]],
    name: str = "tissue found",
    heading: str = "attention",
) -> None:
    """Draw the slide with its outlines beside its attention with a colour bar and a scale bar.

    Args:
        path: a PNG.
        overview: RGB picture of the slide.
        coloured: the same with attention on it.
        title: one line.
        scale: how attention was scaled.
        um_per_px: micrometres per pixel of the overview.
        tissue: rings of the tissue outline, pixels of the overview.
        annotated: rings of annotated regions, pixels of the overview.
        name: of the overview.
        heading: of the coloured picture.
    """
    # inches a picture
    wide = 5.4
    tall = min(5.4 * overview.height / overview.width, 11.0)
    figure = Figure(figsize=(2 * wide + 1.5, tall + 0.8), dpi=DOTS_PER_INCH)
    width, height = figure.get_size_inches()
    places = [
        ((0.1 + k * (wide + 0.15)) / width, 0.1 / height, wide / width, tall / height)
        for k in (0, 1)
    ]
    left, right = (figure.add_axes(place) for place in places)
    for axes, picture, words in ((left, overview, name), (right, coloured, heading)):
        small = (
            picture.copy()
        )  # shrunk to what will be seen: drawing every pixel takes most of the time
        small.thumbnail(
            (round(wide * DOTS_PER_INCH), round(tall * DOTS_PER_INCH)), reducing_gap=2.0
        )
        axes.imshow(small, extent=(0, overview.width, overview.height, 0))
        axes.set_title(words, fontsize=9, loc="left", pad=3)
        axes.set_axis_off()
        _rings(axes, annotated, "#00c853", 1.4)
    _rings(left, tissue, "#1565c0", 0.8)
    _scale_bar(left, overview, um_per_px)
    top, label = (
        (100.0, "percentile of attention within this slide")
        if scale == "percentile"
        else (RELATIVE_TOP, "attention, multiples of uniform")
    )
    colours = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, top), COLOURS)
    bar = figure.add_axes(((2 * wide + 0.4) / width, 0.15, 0.15 / width, 0.6))
    figure.colorbar(colours, cax=bar, label=label, alpha=OPACITY)
    figure.text(0.1 / width, 1 - 0.1 / height, title, fontsize=10, va="top", parse_math=False)
    figure.savefig(path, format="png")


def draw_message(path: Path, title: str, words: str) -> None:
    """Say why there is no picture.

    Args:
        path: a PNG.
        title: one line.
        words: a sentence or two.
    """
    figure = Figure(figsize=(8.0, 3.2), dpi=DOTS_PER_INCH)
    figure.text(0.02, 0.95, title, fontsize=10, va="top", parse_math=False)
    figure.text(
        0.5,
        0.45,
        fill(words, 50),
        fontsize=15,
        ha="center",
        va="center",
        color="#555555",
        parse_math=False,
    )
    figure.savefig(path, format="png")


def _rings(
    axes: Axes, rings: Sequence[Float[np.ndarray, "corners 2"]], colour: str, width: float
) -> None:
    for ring in rings:
        axes.plot(ring[:, 0], ring[:, 1], color=colour, linewidth=width)


def _scale_bar(axes: Axes, overview: Image.Image, um_per_px: float) -> None:
    if um_per_px <= 0:
        return
    wanted = overview.width * um_per_px / 5
    length = max(
        (n for n in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000) if n <= wanted), default=10
    )
    x = overview.width * 0.03
    y = overview.height * 0.97
    axes.plot([x, x + length / um_per_px], [y, y], color="black", linewidth=3)
    axes.text(
        x,
        y - overview.height * 0.012,
        f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm",
        fontsize=8,
    )


def rings_of(
    regions: MultiPolygon, scale: float, origin_px: tuple[int, int]
) -> list[Float[np.ndarray, "corners 2"]]:
    """Outer and inner rings of regions, pixels of the overview.

    Args:
        regions: level-0 pixels.
        scale: level-0 pixels per pixel of the overview.
        origin_px: where the overview begins, level-0 pixels.
    """
    rings = [ring for polygon in regions.geoms for ring in (polygon.exterior, *polygon.interiors)]
    return [(np.asarray(ring.coords)[:, :2] - origin_px) / scale for ring in rings]
