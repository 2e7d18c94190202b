"""Pixels of slides as JPEG: image tiles, single tiles at their own resolution, overviews."""

import io
from pathlib import Path

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from mil.errors import FormatError, MissingResolutionError, UnreadableSlideError
from mil.io.font import picture_font
from mil.io.slides import SlideReader, draw_overview
from mil.view.cache import OpenFiles, Recent
from mil.view.pyramid import TILE_PX, Box, Frame

# Slides that stay open; each keeps up to 64 MB of decoded blocks.
MOST_OPEN = 4
# Room for image tiles as JPEG, bytes.
CACHE_BYTES = 64 << 20
QUALITY = 88
# A region that cannot be decoded is quartered this often, so that what lies around the
# damage is shown.
QUARTERINGS = 3
DAMAGED = (224, 224, 224)
DAMAGED_WORD = "cannot be decoded"
WORD_COLOUR = (110, 110, 110)
WORD_PX = 14.0
# Smallest grey square that has room for the word, pixels.
ROOM_FOR_WORD_PX = 128
# Side of a thumbnail, pixels.
THUMBNAIL_PX = 96
# Longest side of an overview that is read from a slide, pixels.
OVERVIEW_PX = 2048
Pixels = UInt8[np.ndarray, "height width 3"]


class Slides:
    """Slide files of a study, opened when they are first seen.

    Their readers are shared by threads, see `SlideReader`.
    """

    def __init__(self) -> None:
        self._open: OpenFiles[SlideReader] = OpenFiles(MOST_OPEN)
        self._tiles: Recent[bytes] = Recent(CACHE_BYTES, len)

    def close(self) -> None:
        """Close all slides."""
        self._open.close()

    def frame(self, path: Path, scene: str, size_px: tuple[int, int] | None) -> Frame:
        """The scanned part of a slide; one of another size is refused.

        Args:
            path: Slide file.
            scene: Image of the file; empty: its only one.
            size_px: Width and height of level 0 that the results have; None: not known.

        Raises:
            SlideError: The slide cannot be opened.
            FormatError: It is of another size: its name was used twice.
        """
        with self._open.borrow((path, scene), lambda: SlideReader(path, scene=scene)) as reader:
            if size_px is not None and reader.size_px != size_px:
                width, height = reader.size_px
                raise FormatError(
                    f"{path}: has {width} x {height} px, but the slide of these results has "
                    f"{size_px[0]} x {size_px[1]}; give the folder of its slides with --slides-dir"
                )
            try:
                unit_um = reader.resolution().mpp
            except MissingResolutionError:
                unit_um = 0.0
            left, top = map(float, reader.origin_px)
            width_px, height_px = map(float, reader.extent_px)
            return Frame(left, top, width_px, height_px, unit_um)

    def region(self, path: Path, scene: str, box: Box, size_px: int = TILE_PX) -> bytes:
        """A square of a slide as JPEG; what cannot be decoded is grey with a word.

        Args:
            path: Slide file.
            scene: Image of the file; empty: its only one.
            box: Square, level-0 pixels.
            size_px: Side of the image, pixels.

        Raises:
            SlideError: The slide cannot be opened.
        """
        return self._tiles.get(
            (path, scene, box, size_px), lambda: self._read(path, scene, box, size_px)
        )

    def _read(self, path: Path, scene: str, box: Box, size_px: int) -> bytes:
        with self._open.borrow((path, scene), lambda: SlideReader(path, scene=scene)) as reader:
            pixels = _square(reader, box, size_px, QUARTERINGS)
            return encoded(_damaged(size_px) if pixels is None else pixels)

    def overview(self, path: Path, scene: str) -> bytes:
        """The scanned part of a slide as one small JPEG.

        Raises:
            SlideError: The slide cannot be opened, or nothing of it decoded.
        """

        def draw() -> bytes:
            opened = self._open.borrow((path, scene), lambda: SlideReader(path, scene=scene))
            with opened as reader:
                scale = max(reader.extent_px) / OVERVIEW_PX
                return encoded(np.asarray(draw_overview(reader, scale).image))

        return self._tiles.get((path, scene, "overview"), draw)


def _square(reader: SlideReader, box: Box, size_px: int, quarterings: int) -> Pixels | None:
    """Pixels of a square, grey where they cannot be decoded; None where none can."""
    try:
        side = min(box.width, box.height)
        return np.asarray(reader.read(box.left, box.top, side, size_px))
    except UnreadableSlideError:
        if not quarterings or size_px < 2:
            return None
    half = size_px // 2
    width = box.width / 2
    height = box.height / 2
    pixels = np.empty((2 * half, 2 * half, 3), np.uint8)
    readable = False
    for down in (0, 1):
        for right in (0, 1):
            quarter = Box(box.left + right * width, box.top + down * height, width, height)
            place = np.s_[down * half : (down + 1) * half, right * half : (right + 1) * half]
            read = _square(reader, quarter, half, quarterings - 1)
            pixels[place] = _damaged(half) if read is None else read
            readable = readable or read is not None
    return pixels if readable else None


def _damaged(size_px: int) -> Pixels:
    image = Image.new("RGB", (size_px, size_px), DAMAGED)
    if size_px >= ROOM_FOR_WORD_PX:
        middle = size_px / 2, size_px / 2
        font = picture_font(WORD_PX)
        ImageDraw.Draw(image).text(middle, DAMAGED_WORD, WORD_COLOUR, font, anchor="mm")
    return np.asarray(image)


def encoded(pixels: Pixels) -> bytes:
    """RGB pixels as JPEG."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=QUALITY))


def thumbnail(path: Path | io.BytesIO, side_px: int = THUMBNAIL_PX) -> bytes:
    """A small JPEG of an image; its long side is `side_px` pixels.

    Raises:
        FormatError: The file is no image.
    """
    try:
        with Image.open(path) as image:
            # A JPEG is decoded at a reduced size at once.
            image.draft("RGB", (2 * side_px, 2 * side_px))
            small = image.convert("RGB")
            small.thumbnail((side_px, side_px))
            return encoded(np.asarray(small))
    except (OSError, Image.DecompressionBombError) as error:
        raise FormatError(f"{path}: no overview picture ({error}); tile the slide again") from None


def cut_from_overview(path: Path, left: float, top: float, side: float) -> bytes:
    """A square of an overview as JPEG, where the slide itself is not there.

    Args:
        path: Overview.
        left: Left edge, pixels of the overview.
        top: Top edge.
        side: Side of the square.

    Raises:
        FormatError: The file is no image.
    """
    try:
        with Image.open(path) as image:
            box = (left, top, left + side, top + side)
            cut = image.convert("RGB").resize(
                (THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BICUBIC, box=_inside(box, image.size)
            )
            out = io.BytesIO()
            cut.save(out, "jpeg", quality=QUALITY)
            return out.getvalue()
    except (OSError, Image.DecompressionBombError) as error:
        raise FormatError(f"{path}: no overview picture ({error}); tile the slide again") from None


def _inside(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    left = min(max(box[0], 0), size[0] - 1)
    top = min(max(box[1], 0), size[1] - 1)
    right = min(max(box[2], left + 1), size[0])
    bottom = min(max(box[3], top + 1), size[1])
    return left, top, right, bottom
