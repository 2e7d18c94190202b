"""A page to draw on: images, outlines and text at positions in inches from the top left.

Pillow draws it: matplotlib takes longer to import than a whole picture to draw.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from mil.io.font import picture_font
from mil.io.pictures import write_jpeg

DOTS_PER_INCH = 110
POINTS_PER_INCH = 72
WHITE = (255, 255, 255)
# Outlines are drawn so many times larger, since Pillow's lines have hard edges.
FINER = 4
# Larger images are shrunk by whole pixels first, to this multiple of what is shown.
SHRINK_GAP = 2.0
# Pixels that are enlarged at least so much are shown as squares.
SQUARES = 3
# Of zlib: half the time of the default 6, and files a tenth larger.
COMPRESSION = 1
# Of JPEG: no block of a tile can be told from the next.
PHOTO_QUALITY = 90
# A comment of JPEG holds 64 kB; longer texts are left out.
LONGEST_COMMENT = 65_000

NOTHING: Mapping[str, str] = MappingProxyType({})

Point = tuple[float | int, float | int]  # pixels of the page
Edges = tuple[float, float, float, float]
Rings = Sequence[Float[np.ndarray, "corners 2"]]  # pixels of an image


class Place(NamedTuple):
    """A rectangle on the page, inches from the top left."""

    x: float
    y: float
    width: float
    height: float


class Panel(NamedTuple):
    """An image on the page: its place in pixels of the page, and its scale.

    Attributes:
        box: Left, upper, right and lower edge, pixels of the page.
        scale: Pixels of the page per pixel of the image.
    """

    box: tuple[int, int, int, int]
    scale: float


def pixels(inches: float) -> int:
    """Inches as whole pixels."""
    return round(inches * DOTS_PER_INCH)


def points(size: float) -> float:
    """Points, of a line or a letter, as pixels."""
    return size * DOTS_PER_INCH / POINTS_PER_INCH


class Page:
    """A white page.

    Args:
        width: Width, inches.
        height: Height, inches.
    """

    def __init__(self, width: float, height: float) -> None:
        # A fraction of a pixel is cut off; rounding only mends what floats lose.
        size = [int(round(inches * DOTS_PER_INCH, 6)) for inches in (width, height)]
        self.width = width
        self.height = height
        self.image = Image.new("RGB", (size[0], size[1]), WHITE)
        self._pen = ImageDraw.Draw(self.image)

    def show(self, image: Image.Image, place: Place) -> Panel:
        """Show an image in the middle of a place, as large as fits.

        Args:
            image: RGB image.
            place: Where it goes.
        """
        scale = min(place.width / image.width, place.height / image.height) * DOTS_PER_INCH
        width = max(1, round(image.width * scale))
        height = max(1, round(image.height * scale))
        left = round((place.x + place.width / 2) * DOTS_PER_INCH - width / 2)
        top = round((place.y + place.height / 2) * DOTS_PER_INCH - height / 2)
        if (width, height) != image.size:
            image = image.resize((width, height), _filter_of(scale), reducing_gap=SHRINK_GAP)
        self.image.paste(image, (left, top))
        return Panel((left, top, left + width, top + height), scale)

    def outline(self, panel: Panel, rings: Rings, colour: str, line_points: float) -> None:
        """Draw closed lines on an image; what lies beyond its edge is cut off.

        Args:
            panel: The image.
            rings: Corners of the lines, pixels of the image.
            colour: Colour of the lines.
            line_points: Width of the lines, points.
        """
        if not rings:
            return
        left, top, right, bottom = panel.box
        mask = Image.new("L", ((right - left) * FINER, (bottom - top) * FINER))
        pen = ImageDraw.Draw(mask)
        width = max(1, round(points(line_points) * FINER))
        for ring in rings:
            corners = [tuple(corner) for corner in (ring * (panel.scale * FINER)).tolist()]
            # The second corner once more, so that the first is joined like the others.
            pen.line([*corners, *corners[1:2]], fill=255, width=width, joint="curve")
        self.image.paste(colour, panel.box, mask.reduce(FINER))

    def bar(self, place: Place, colours: UInt8[np.ndarray, "colours 3"]) -> None:
        """Draw a framed bar of colours, the first at its lower end."""
        left, top = pixels(place.x), pixels(place.y)
        size = pixels(place.width), pixels(place.height)
        column = Image.fromarray(np.ascontiguousarray(colours[::-1, None]))
        self.image.paste(column.resize(size, Image.Resampling.BILINEAR), (left, top))
        frame = left, top, left + size[0], top + size[1]
        self._pen.rectangle(frame, outline="black")

    def line(self, start: Point, end: Point, size: float) -> None:
        """Draw a black horizontal line, pixels of the page, of a width in points."""
        width = max(1, round(points(size)))
        top = round(start[1] - width / 2)
        box = round(start[0]), top, round(end[0]) - 1, top + width - 1
        self._pen.rectangle(box, fill="black")

    def write(
        self,
        at: Point,
        text: str,
        size: float,
        *,
        anchor: Literal["la", "ls", "lm", "mm"] = "la",
        colour: str = "black",
    ) -> Edges:
        """Write text.

        Args:
            at: Where the anchor lies, pixels of the page.
            text: Text; as many lines as it has.
            size: Size of the letters, points.
            anchor: Pillow's text anchor: left or middle, at the ascender (a), the
                middle (m) or the baseline (s).
            colour: Colour of the letters.

        Returns:
            Left, upper, right and lower edge of the text, pixels of the page.
        """
        font = picture_font(points(size))
        if "\n" in text:
            # Lines have no common baseline nor ascender in Pillow.
            self._pen.multiline_text(
                at, text, fill=colour, font=font, anchor=anchor, align="center"
            )
            edges = self._pen.multiline_textbbox(at, text, font=font, anchor=anchor)
            return _floats(edges)
        self._pen.text(at, text, fill=colour, font=font, anchor=anchor)
        return _floats(self._pen.textbbox(at, text, font=font, anchor=anchor))

    def write_upwards(self, left: float, middle: float, text: str, size: float) -> None:
        """Write text from below to above.

        Args:
            left: Left edge of its first line, pixels of the page.
            middle: Where the middle of the lines lies, pixels of the page.
            text: Text; as many lines as it has.
            size: Size of the letters, points.
        """
        font = picture_font(points(size))
        edges = self._pen.multiline_textbbox((0, 0), text, font=font, align="center")
        strip = Image.new("L", (int(edges[2]) + 1, int(edges[3]) + 1))
        ImageDraw.Draw(strip).multiline_text((0, 0), text, fill=255, font=font, align="center")
        upright = strip.transpose(Image.Transpose.ROTATE_90)
        corner = round(left - edges[1]), round(middle - upright.height / 2)
        self.image.paste(
            "black", (*corner, corner[0] + upright.width, corner[1] + upright.height), upright
        )

    def save(self, path: Path, about: Mapping[str, str] = NOTHING) -> None:
        """Write the page as a PNG.

        Args:
            path: File to write; its name may end otherwise.
            about: Texts that the file carries, by name.
        """
        texts = PngInfo()
        for name, text in about.items():
            texts.add_text(name, text)
        self.image.save(
            path,
            format="png",
            pnginfo=texts,
            dpi=(DOTS_PER_INCH, DOTS_PER_INCH),
            compress_level=COMPRESSION,
        )

    def save_photo(self, path: Path, about: Mapping[str, str] = NOTHING) -> None:
        """Write the page as a JPEG, of a fifth of a PNG's size where it shows tissue.

        Args:
            path: File to write; its name may end otherwise.
            about: Texts that the file carries, by name; as JSON in its comment.
        """
        comment = json.dumps(dict(about))
        if len(comment) > LONGEST_COMMENT:
            short = {name: text for name, text in about.items() if len(text) < LONGEST_COMMENT // 8}
            comment = json.dumps(short)
        write_jpeg(
            path,
            self.image,
            quality=PHOTO_QUALITY,
            subsampling=0,
            dpi=(DOTS_PER_INCH, DOTS_PER_INCH),
            comment=comment,
        )


def _filter_of(scale: float) -> Image.Resampling:
    """How an image is brought to `scale` times its size; far enlarged, its pixels show."""
    if scale >= SQUARES:
        return Image.Resampling.NEAREST
    return Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BICUBIC


def _floats(edges: Sequence[float | int]) -> Edges:
    left, upper, right, lower = map(float, edges)
    return left, upper, right, lower
