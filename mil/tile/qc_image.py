"""The picture a person looks at: the slide with its tissue outlined, its tiles, and what was flagged."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw, ImageFont
from shapely.geometry.base import BaseGeometry

from mil.tile.flags import FLAG

OUTLINE = (0, 105, 92)
TILE = (40, 70, 200, 140)
FLAGGED = {
    "pen": (0, 150, 60, 150), "blur": (250, 160, 0, 150), "fold": (150, 0, 180, 150), "blood": (220, 0, 0, 150),
    "black": (0, 0, 0, 170),
}  # fmt: skip
MARGIN_PX = 34
FONT_PX = 18
SHORTEST_PX = 640
Colour = tuple[int, int, int, int]


def flags(
    quality: Mapping[str, Float[np.ndarray, " tiles"]],
) -> dict[str, Bool[np.ndarray, " tiles"]]:
    """Which tiles each column flags."""
    return {name: quality[name] >= FLAG[name] for name in FLAGGED if name in quality}


def draw_sheet(
    overview: Image.Image,
    title: str,
    corners: Float[np.ndarray, "tiles 2"],
    side: float,
    quality: Mapping[str, Float[np.ndarray, " tiles"]],
    pieces: Sequence[BaseGeometry],
) -> Image.Image:
    """Draw outline and tiles over the overview, and a legend above it.

    Args:
        overview: the slide.
        title: one line.
        corners: top left corners of the tiles, pixels of the overview.
        side: of a tile, pixels of the overview.
        quality: columns of the tiles; see `mil.tile.flags`.
        pieces: outlines of the tissue, pixels of the overview.
    """
    layer = Image.new("RGBA", overview.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    boxes = np.rint(np.concatenate([corners, corners + side], axis=1)).astype(int)
    _boxes(pen, boxes, TILE, filled=False)
    flagged = flags(quality)
    for name, where in flagged.items():
        _boxes(pen, boxes[where], FLAGGED[name], filled=True)
    picture = Image.alpha_composite(overview.convert("RGBA"), layer).convert("RGB")
    lines = ImageDraw.Draw(picture)
    for piece in pieces:
        for part in getattr(piece, "geoms", [piece]):
            for ring in (part.exterior, *part.interiors) if part.geom_type == "Polygon" else ():
                lines.line([(x, y) for x, y in ring.coords], fill=OUTLINE, width=2)
    return _with_legend(picture, title, {name: int(where.sum()) for name, where in flagged.items()})


def _boxes(
    pen: ImageDraw.ImageDraw, boxes: Int[np.ndarray, "some 4"], colour: Colour, *, filled: bool
) -> None:
    for x0, y0, x1, y1 in boxes.tolist():
        pen.rectangle(
            (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)),
            outline=colour,
            fill=colour if filled else None,
        )


def _with_legend(picture: Image.Image, title: str, counts: Mapping[str, int]) -> Image.Image:
    font = _font()
    seen = {name: count for name, count in counts.items() if count}
    sheet = Image.new(
        "RGB", (max(picture.width, SHORTEST_PX), picture.height + MARGIN_PX), (255, 255, 255)
    )
    sheet.paste(picture, (0, MARGIN_PX))
    pen = ImageDraw.Draw(sheet)
    x = 8.0
    for text, colour in [
        (title, (0, 0, 0)),
        *((f"{count} {name}", FLAGGED[name][:3]) for name, count in seen.items()),
    ]:
        pen.text((x, 6), text, fill=colour, font=font)
        x += pen.textlength(text, font=font) + 24
    return sheet


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with matplotlib knows µ and ²; Pillow's own does not. Found without importing matplotlib."""
    package = find_spec("matplotlib")
    path = (
        Path(package.origin or "").parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if package
        else Path()
    )
    return (
        ImageFont.truetype(str(path), FONT_PX)
        if path.is_file()
        else ImageFont.load_default(FONT_PX)
    )
