"""The QC image: the slide with its tissue outlined, its tiles, and the flagged ones coloured."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw
from shapely.geometry.base import BaseGeometry

from mil.io.font import Font, picture_font
from mil.io.tiles import flagged

OUTLINE = (0, 105, 92)
TILE = (40, 70, 200, 140)
# Colours of flagged tiles, in the order in which they are painted.
FLAGGED = {
    "pen": (0, 150, 60, 150),
    "blur": (250, 160, 0, 150),
    "fold": (150, 0, 180, 150),
    "blood": (220, 0, 0, 150),
    "black": (0, 0, 0, 170),
}
# Letters of the legend: a share of the image's width, since viewers shrink it to fit their
# window, and at least so many pixels.
FONT_SHARE = 1 / 64
LEAST_FONT_PX = 18
# Narrower images are padded, or the title would take many lines.
LEAST_WIDTH_PX = 640
Colour = tuple[int, int, int, int]


def draw_qc_image(
    overview: Image.Image,
    title: str,
    corners: Float[np.ndarray, "tiles 2"],
    side: float,
    quality: Mapping[str, Float[np.ndarray, " tiles"]],
    regions: Sequence[BaseGeometry],
) -> Image.Image:
    """Draw outline and tiles over the overview, and a legend above it.

    Args:
        overview: image of the slide.
        title: title of the legend; as many lines as it needs.
        corners: top left corners of the tiles, pixels of the overview.
        side: side of a tile, pixels of the overview.
        quality: quality columns of the tiles; see `mil.tile.flags`.
        regions: outlines of the tissue, pixels of the overview.
    """
    layer = Image.new("RGBA", overview.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    boxes = np.rint(np.concatenate([corners, corners + side], axis=1)).astype(int)
    _draw_boxes(pen, boxes, TILE, filled=False)
    by_flag = flagged(quality)
    by_flag = {name: by_flag[name] for name in FLAGGED if name in by_flag}
    for name, tiles in by_flag.items():
        _draw_boxes(pen, boxes[tiles], FLAGGED[name], filled=True)
    image = Image.alpha_composite(overview.convert("RGBA"), layer).convert("RGB")
    _draw_outlines(ImageDraw.Draw(image), regions)
    counts = {name: int(tiles.sum()) for name, tiles in by_flag.items()}
    return _with_legend(image, title, counts)


def _draw_outlines(pen: ImageDraw.ImageDraw, regions: Sequence[BaseGeometry]) -> None:
    for region in regions:
        for part in getattr(region, "geoms", [region]):
            if part.geom_type != "Polygon":
                continue
            for ring in (part.exterior, *part.interiors):
                pen.line([(x, y) for x, y in ring.coords], fill=OUTLINE, width=2)


def _draw_boxes(
    pen: ImageDraw.ImageDraw, boxes: Int[np.ndarray, "some 4"], colour: Colour, *, filled: bool
) -> None:
    fill = colour if filled else None
    for x0, y0, x1, y1 in boxes.tolist():
        # A tile smaller than a pixel is still drawn.
        corners = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        pen.rectangle(corners, outline=colour, fill=fill)


def _with_legend(image: Image.Image, title: str, counts: Mapping[str, int]) -> Image.Image:
    width = max(image.width, LEAST_WIDTH_PX)
    size_px = max(LEAST_FONT_PX, round(width * FONT_SHARE))
    font = picture_font(float(size_px))
    margin = size_px // 2
    texts: list[tuple[str, Colour]] = [(word, (0, 0, 0, 255)) for word in title.split()]
    for name, count in counts.items():
        if count:
            texts.append((f"  {count} {name}", (*FLAGGED[name][:3], 255)))
    lines = _lines(texts, font, width - 2 * margin)
    line_px = round(1.4 * size_px)
    height = len(lines) * line_px + margin
    canvas = Image.new("RGB", (width, image.height + height), (255, 255, 255))
    canvas.paste(image, (0, height))
    pen = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        x = float(margin)
        for text, colour in line:
            pen.text((x, margin / 2 + number * line_px), text, fill=colour[:3], font=font)
            x += font.getlength(f"{text} ")
    return canvas


def _lines(
    texts: Sequence[tuple[str, Colour]], font: Font, width: int
) -> list[list[tuple[str, Colour]]]:
    """Texts in lines of at most this width, pixels; one that is wider is broken."""
    lines: list[list[tuple[str, Colour]]] = [[]]
    left = float(width)
    for text, colour in texts:
        rest = text
        while rest:
            # A line of its own holds at least one letter.
            fits = len(rest)
            if font.getlength(rest) > width:
                fits = next(
                    n for n in range(fits, 0, -1) if n == 1 or font.getlength(rest[:n]) <= width
                )
            part = rest[:fits]
            if font.getlength(part) > left and lines[-1]:
                lines.append([])
                left = float(width)
            lines[-1].append((part, colour))
            left -= font.getlength(f"{part} ")
            rest = rest[fits:]
    return lines
