"""Pixels through OpenSlide: any format that it reads."""

import math
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from mil.errors import UnreadableSlideError
from mil.io.slides.blocks import LARGEST_BLOCK_BYTES, BlockError, RgbPixels
from mil.io.slides.faults import why_unreadable
from mil.io.slides.levels import Level, check_sizes, make_levels, whole_number

# Side of a block where a level does not tell how it is stored, or stores tiles too small
# or too large to fetch singly.
BLOCK_PX = 512
BLOCK_RANGE_PX = (128, 4096)
SIDES = ("width", "height")
# After so many second attempts without one success the first attempt is believed: each
# second one costs a new handle.
FUTILE_RETRIES = 32
# A quotient this near to a whole number is that number: OpenSlide's ratios are floats.
ROUNDING = 1e-6
# Handles from before a fork, kept for ever: closing them could wait for a lock of a
# thread that does not exist in the child.
_inherited: list[object] = []


class OpenSlideSource:
    """A slide as OpenSlide sees it; each thread and each process reads on its own handle.

    After a decoding error a handle stays broken, and it must not break the reads of
    other threads. A handle that was opened before a fork shares its place in the file
    with the parent's.

    Args:
        path: the slide's file.

    Raises:
        UnreadableSlideError: OpenSlide cannot open the file, or its blocks are too
            large.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._futile_retries = 0
        self._start()
        slide = self._handle()
        try:
            self._describe(slide)
        except UnreadableSlideError:
            self.close()
            raise
        except Exception as error:  # noqa: BLE001  strange files raise errors of every kind
            self.close()
            raise UnreadableSlideError(path, why_unreadable(path, error)) from None

    def _describe(self, slide: openslide.OpenSlide) -> None:
        self.properties: Mapping[str, str] = _readable_properties(slide)
        self.vendor = self.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self._check_tiles(slide.level_count)
        sizes = slide.level_dimensions
        check_sizes(self._path, sizes)
        self.levels: list[Level] = make_levels(sizes)
        self.ratios = slide.level_downsamples

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self._handles: list[openslide.OpenSlide] = []
        # Last: from now on other threads trust that the rest belongs to this process.
        self._process = os.getpid()

    def _after_fork(self) -> None:
        """Start over in a child: the parent's lock may be held by a thread that is not here."""
        if self._process != os.getpid():
            _inherited.append((self._handles, self._local))
            self._start()

    def _check_tiles(self, levels: int) -> None:
        """Refuse tiles too large for the memory.

        OpenSlide allocates whole tiles, however large a file claims they are, and ends
        the program if it cannot. Hamamatsu's are parts of one JPEG, which it reads line
        by line.
        """
        for level in range(levels if self.vendor != "hamamatsu" else 0):
            width, height = self._tile_size(level)
            size_bytes = 4 * width * height
            if size_bytes > LARGEST_BLOCK_BYTES:
                self.close()
                reason = f"stored in pieces of {size_bytes >> 20} MB"
                raise UnreadableSlideError(
                    self._path, f"{reason}; write it again with tiles of 512 px"
                )

    def _tile_size(self, level: int) -> tuple[int, int]:
        """Width and height of a level's tiles as OpenSlide states them; 0: not stated."""
        names = [f"openslide.level[{level}].tile-{side}" for side in SIDES]
        width, height = (whole_number(self.properties.get(name), 0) for name in names)
        return width, height

    def _handle(self) -> openslide.OpenSlide:
        self._after_fork()
        if getattr(self._local, "handle", None) is None:
            self._renew()
        handle: openslide.OpenSlide = self._local.handle
        return handle

    def _renew(self) -> None:
        try:
            handle = openslide.OpenSlide(self._path)
        except (openslide.OpenSlideError, OSError) as error:
            raise UnreadableSlideError(self._path, why_unreadable(self._path, error)) from None
        self._local.handle = handle
        with self._lock:
            self._handles.append(handle)

    def close(self) -> None:
        self._after_fork()
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()

    def window(
        self, level: int, left: int, top: int, width: int, height: int
    ) -> tuple[RgbPixels, float, float]:
        """Pixels of a level, at least those asked for, and where in the level they begin.

        OpenSlide takes whole level-0 pixels and divides them by its own ratio, so that
        a region of a reduced level may begin between two of its pixels.

        Raises:
            BlockError: the pixels cannot be decoded, twice.
        """
        ratio = self.ratios[level]
        location = math.floor(left * ratio + ROUNDING), math.floor(top * ratio + ROUNDING)
        x = location[0] / ratio
        y = location[1] / ratio
        size = math.ceil(left + width - x - ROUNDING), math.ceil(top + height - y - ROUNDING)
        return self._read(location, level, size), x, y

    def _read(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> RgbPixels:
        try:
            rgba = self._handle().read_region(location, level, size)
        except openslide.OpenSlideError as error:
            rgba = self._read_again(location, level, size, str(error))
        return _on_white(rgba)

    def _read_again(
        self, location: tuple[int, int], level: int, size: tuple[int, int], first_message: str
    ) -> Image.Image:
        self._retire()
        if self._futile_retries >= FUTILE_RETRIES:
            raise BlockError(first_message)
        try:
            rgba = self._handle().read_region(location, level, size)
        except openslide.OpenSlideError as error:
            self._futile_retries += 1
            self._retire()
            raise BlockError(str(error)) from None
        self._futile_retries = 0
        return rgba

    def _retire(self) -> None:
        """Close a broken handle; the next read opens another."""
        handle = self._local.handle
        with self._lock:
            if handle in self._handles:
                self._handles.remove(handle)
        handle.close()
        self._local.handle = None

    def blocks(self, level: int) -> "OpenSlideBlocks | None":
        """The level's blocks; None where OpenSlide cannot address its pixels exactly."""
        ratio = self.ratios[level]
        if abs(ratio - round(ratio)) > 1e-9:
            return None
        width, height = map(_usual_side, self._tile_size(level))
        return OpenSlideBlocks(self, level, width, height)


class OpenSlideBlocks:
    """Blocks of a level, read through OpenSlide along the borders of what is stored."""

    def __init__(self, source: OpenSlideSource, level: int, width_px: int, height_px: int) -> None:
        self.width_px = width_px
        self.height_px = height_px
        self._source = source
        self._level = level

    def read(self, column: int, row: int) -> RgbPixels:
        level = self._source.levels[self._level]
        left = column * self.width_px
        top = row * self.height_px
        width = min(self.width_px, level.width_px - left)
        height = min(self.height_px, level.height_px - top)
        pixels, _, _ = self._source.window(self._level, left, top, width, height)
        return pixels


def _readable_properties(slide: openslide.OpenSlide) -> dict[str, str]:
    """The slide's properties but those that cannot be read, as of damaged descriptions."""
    properties = {}
    for name in slide.properties:
        with suppress(Exception):
            properties[name] = slide.properties[name]
    return properties


def _usual_side(stored_px: int) -> int:
    """Side of a block, pixels: a multiple of the stored tile's, unless that is unusable."""
    smallest, largest = BLOCK_RANGE_PX
    if stored_px <= 0 or stored_px > largest:
        return BLOCK_PX
    return stored_px * math.ceil(smallest / stored_px)


def _on_white(rgba: Image.Image) -> RgbPixels:
    """Pixels on a white background, which stands for what was not scanned."""
    # Alpha is the highest byte of each pixel taken as one number.
    if np.asarray(rgba).view("<u4").min() >= 0xFF000000:
        return np.asarray(rgba.convert("RGB"))
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(white)
