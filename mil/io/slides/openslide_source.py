"""Pixels through OpenSlide: any format that it reads."""

import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from mil.errors import UnreadableSlideError
from mil.io.slides.blocks import LARGEST_BLOCK_BYTES, BlockError, Pixels
from mil.io.slides.faults import why_unreadable
from mil.io.slides.levels import Level, make_levels

# Side of a block where a level does not say how it is stored, or stores tiles too small
# or too large to fetch singly.
BLOCK_PX = 512
BLOCK_RANGE = (128, 4096)
SIDES = ("width", "height")
# So many second attempts without one success, and the first is believed: each costs a
# new handle.
IN_VAIN = 32
# Handles from before a fork, kept for ever: closing them could wait for a lock of a
# thread that did not come along.
_inherited: list[object] = []


class OpenSlideSource:
    """A slide as OpenSlide sees it; each thread and each process reads on a handle of its own.

    After a decoding error a handle stays broken, and it must not break the reads of
    others; and a handle that was opened before a fork shares its place in the file with
    the parent's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._in_vain = 0
        self._start()
        slide = self._handle()
        self.properties: Mapping[str, str] = dict(slide.properties)
        self.vendor = self.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        self._check_tiles(slide.level_count)
        self.levels: list[Level] = make_levels(slide.level_dimensions)
        self.ratios = slide.level_downsamples

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self._handles: list[openslide.OpenSlide] = []
        self._process = os.getpid()  # last: from now on other threads take the rest for theirs

    def _after_fork(self) -> None:
        """Begin anew in a child: the parent's lock may be held by a thread that does not exist here."""
        if self._process != os.getpid():
            _inherited.append((self._handles, self._local))
            self._start()

    def _check_tiles(self, levels: int) -> None:
        """OpenSlide makes room for whole tiles, however large a file says they are, and ends the program if it cannot.

        Hamamatsu's are pieces of one JPEG, which it reads line by line.
        """
        for level in range(levels if self.vendor != "hamamatsu" else 0):
            width, height = (
                int(self.properties.get(f"openslide.level[{level}].tile-{side}", 0))
                for side in SIDES
            )
            size = 4 * width * height
            if size > LARGEST_BLOCK_BYTES:
                self.close()
                raise UnreadableSlideError(
                    self._path,
                    f"stored in pieces of {size >> 20} MB; write it again with tiles of 512 px",
                )

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
    ) -> tuple[Pixels, float, float]:
        """Pixels of a level, at least those asked for, and where in the level they begin.

        OpenSlide takes whole level-0 pixels and divides them by its own ratio, so that
        a region of a reduced level may begin between two of its pixels.

        Raises:
            BlockError: they cannot be decoded, twice.
        """
        ratio = self.ratios[level]
        location = math.floor(left * ratio + 1e-6), math.floor(top * ratio + 1e-6)
        x = location[0] / ratio
        y = location[1] / ratio
        size = math.ceil(left + width - x - 1e-6), math.ceil(top + height - y - 1e-6)
        return self._read(location, level, size), x, y

    def _read(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Pixels:
        try:
            rgba = self._handle().read_region(location, level, size)
        except openslide.OpenSlideError as error:
            rgba = self._read_again(location, level, size, str(error))
        return _on_white(rgba)

    def _read_again(
        self, location: tuple[int, int], level: int, size: tuple[int, int], first: str
    ) -> Image.Image:
        self._retire()
        if self._in_vain >= IN_VAIN:
            raise BlockError(first)
        try:
            rgba = self._handle().read_region(location, level, size)
        except openslide.OpenSlideError as error:
            self._in_vain += 1
            self._retire()
            raise BlockError(str(error)) from None
        self._in_vain = 0
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
        names = (f"openslide.level[{level}].tile-{side}" for side in SIDES)
        width, height = (_usual(int(self.properties.get(name, 0))) for name in names)
        return OpenSlideBlocks(self, level, width, height)


class OpenSlideBlocks:
    """Blocks of a level, read through OpenSlide along the borders of what is stored."""

    def __init__(self, source: OpenSlideSource, level: int, width_px: int, height_px: int) -> None:
        self.width_px = width_px
        self.height_px = height_px
        self._source = source
        self._level = level

    def read(self, column: int, row: int) -> Pixels:
        level = self._source.levels[self._level]
        left = column * self.width_px
        top = row * self.height_px
        size = min(self.width_px, level.width_px - left), min(self.height_px, level.height_px - top)
        return self._source.window(self._level, left, top, *size)[0]


def _usual(side: int) -> int:
    if side <= 0 or side > BLOCK_RANGE[1]:
        return BLOCK_PX
    return side * math.ceil(BLOCK_RANGE[0] / side)


def _on_white(rgba: Image.Image) -> Pixels:
    """What was not scanned is white."""
    # Alpha is the highest byte of each pixel taken as one number.
    if np.asarray(rgba).view("<u4").min() >= 0xFF000000:
        return np.asarray(rgba.convert("RGB"))
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(white)
