"""A slide whose reads are exact in physical scale."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import openslide
from jaxtyping import Int, UInt8
from PIL import Image

from mil.errors import UnreadableSlideError
from mil.io.slides.blocks import BlockCache, BlockError, Blocks, Pixels
from mil.io.slides.faults import check_file
from mil.io.slides.levels import Level, nearest_finer
from mil.io.slides.ome import OmeSource, is_ome
from mil.io.slides.openslide_source import OpenSlideSource
from mil.io.slides.picture import Picture, draw_picture
from mil.io.slides.resolution import Resolution, resolve
from mil.io.slides.tiff import VENDORS, TiffBlocks, TiffPages, fast_blocks, open_pages
from mil.io.slides.window import Resample, Window, around, assemble, count_uses, resample

Decoder = Literal["auto", "openslide"]
CACHE_BYTES = 64 << 20
LARGEST_CACHE_BYTES = 512 << 20


@runtime_checkable
class Source(Protocol):
    """Who knows a slide's levels and pixels."""

    vendor: str
    levels: list[Level]
    properties: Mapping[str, str]

    def blocks(self, level: int) -> Blocks | None: ...

    def window(
        self, level: int, left: int, top: int, width: int, height: int
    ) -> tuple[Pixels, float, float]: ...

    def close(self) -> None: ...


class SlideReader:
    """An open slide. Coordinates are level-0 pixels, (x, y), top left.

    Threads may share it: each compressed block is decoded once, and kept while the
    cache has room. It may cross a fork, and it can be pickled, which opens the slide
    anew on the other side.

    Args:
        path: the slide's file.
        decoder: `auto` decodes plain TIFF tiles without OpenSlide on levels where both
            agree within one grey level; `openslide` never does.
        resampler: brings what was read to its size; stages that have a faster one than
            Pillow give it.

    Raises:
        UnreadableSlideError: it does not open.
    """

    def __init__(
        self, path: Path, decoder: Decoder = "auto", resampler: Resample = resample
    ) -> None:
        self.path = Path(path)
        self.decoder = decoder
        self.resampler = resampler
        why = check_file(self.path)
        if why:
            raise UnreadableSlideError(self.path, why)
        self._source: Source = (
            OmeSource(self.path) if is_ome(self.path) else OpenSlideSource(self.path)
        )
        self._pages = self._tiff_pages()
        self._fresh_state()
        self.levels = self._source.levels
        self.properties = self._source.properties
        self.vendor = self._source.vendor

    def _tiff_pages(self) -> TiffPages | None:
        wanted = self.decoder == "auto" and self._source.vendor in VENDORS
        return open_pages(self.path) if wanted else None

    def _fresh_state(self, cache_bytes: int = CACHE_BYTES) -> None:
        self._cache = BlockCache(cache_bytes)
        self._level_blocks: dict[int, Blocks | None] = {}
        self._process = os.getpid()  # last: from now on other threads take the rest for theirs

    def __reduce__(self) -> tuple[type["SlideReader"], tuple[Path, Decoder, Resample]]:
        return SlideReader, (self.path, self.decoder, self.resampler)

    def __enter__(self) -> "SlideReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._source.close()
        if self._pages is not None:
            self._pages.close()

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of level 0, pixels."""
        return self.levels[0].width_px, self.levels[0].height_px

    @property
    def origin_px(self) -> tuple[int, int]:
        """Where the scanned part of the slide begins (`openslide.bounds-x/y`), level-0 pixels; else (0, 0)."""
        get = self.properties.get
        return int(get(openslide.PROPERTY_NAME_BOUNDS_X, 0)), int(
            get(openslide.PROPERTY_NAME_BOUNDS_Y, 0)
        )

    @property
    def extent_px(self) -> tuple[int, int]:
        """Width and height of the scanned part of the slide, level-0 pixels."""
        get = self.properties.get
        (width, height), (left, top) = self.size_px, self.origin_px
        return (
            int(get(openslide.PROPERTY_NAME_BOUNDS_WIDTH, width - left)),
            int(get(openslide.PROPERTY_NAME_BOUNDS_HEIGHT, height - top)),
        )

    def resolution(
        self, override: float | None = None, *, allow_objective_power: bool = False
    ) -> Resolution:
        """Micrometres per pixel of level 0 and who says so; see `mil.io.slides.resolution.resolve`.

        Raises:
            MissingResolutionError: nobody says it.
        """
        return resolve(self.path, self.properties, override, allow_objective_power)

    def level_for(self, downsample: float) -> int:
        """The coarsest level that is not coarser than `downsample`; level 0 if there is none."""
        return nearest_finer(self.levels, downsample)

    def blocks(self, level: int) -> Blocks | None:
        """How a level is stored and who decodes it; None when its pixels are had through windows only."""
        if (
            self._process != os.getpid()
        ):  # forked: the parent's locks may be held by threads that do not exist here
            self._fresh_state(self._cache.max_bytes)
        if level not in self._level_blocks:
            fast = None if self._pages is None else self._fast(self._pages, level)
            blocks = fast or self._source.blocks(level)
            if blocks is not None:
                self._make_room(2 * blocks.width_px * blocks.height_px * 3)  # so few at least
            self._level_blocks[level] = blocks
        return self._level_blocks[level]

    def _make_room(self, wanted_bytes: int) -> None:
        self._cache.max_bytes = max(self._cache.max_bytes, min(wanted_bytes, LARGEST_CACHE_BYTES))

    def _fast(self, pages: TiffPages, level: int) -> TiffBlocks | None:
        assert isinstance(self._source, OpenSlideSource)
        return fast_blocks(pages, self._source, level)

    def expect(
        self, coords: Int[np.ndarray, "tiles 2"], side_level0_px: float, size_px: int
    ) -> None:
        """Say which tiles will be read, each once and about row by row: then each block is decoded once.

        A block is kept until the last tile that needs it has been read, as long as
        there is room.

        Args:
            coords: top left corners, level-0 pixels.
            side_level0_px: side of a tile, level-0 pixels.
            size_px: side of a tile as it is read, pixels.
        """
        number = self.level_for(side_level0_px / size_px)
        blocks = self.blocks(number)
        if blocks is not None:
            uses = count_uses(self.levels[number], blocks, coords, side_level0_px)
            self._cache.expect(
                {(number, column, row): count for (column, row), count in uses.items()}
            )
            self._make_room(LARGEST_CACHE_BYTES)

    def read(
        self, x: float, y: float, side_level0_px: float, size_px: int
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Read a square and resample it once, anti-aliased.

        Args:
            x: left edge, level-0 pixels; need not be whole.
            y: top edge, level-0 pixels.
            side_level0_px: side of the square, level-0 pixels.
            size_px: side of the result, pixels.

        Returns:
            RGB pixels; what lies outside the slide, or was not scanned, is white.

        Raises:
            UnreadableSlideError: its pixels cannot be decoded, twice.
        """
        return self.read_box((x, y), (side_level0_px, side_level0_px), (size_px, size_px))

    def read_box(
        self,
        corner: tuple[float, float],
        extent_px: tuple[float, float],
        size_px: tuple[int, int],
        *,
        level: int | None = None,
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Like `read`, for a rectangle.

        Args:
            corner: left and top edge, level-0 pixels.
            extent_px: width and height, level-0 pixels.
            size_px: width and height of the result, pixels.
            level: which level to read; None: the nearest finer one.
        """
        if level is None:
            level = self.level_for(min(extent_px[0] / size_px[0], extent_px[1] / size_px[1]))
        down_x = self.levels[level].downsample_x
        down_y = self.levels[level].downsample_y
        left = corner[0] / down_x
        top = corner[1] / down_y
        width = extent_px[0] / down_x
        height = extent_px[1] / down_y
        try:
            window = self.window(level, left, top, left + width, top + height)
        except BlockError as error:
            place = f"({corner[0]:.0f}, {corner[1]:.0f})"
            raise UnreadableSlideError(
                self.path, f"pixels at {place} cannot be decoded: {error}"
            ) from None
        return self.resampler(window, left, top, width, height, size_px)

    def window(self, number: int, left: float, top: float, right: float, bottom: float) -> Window:
        """The pixels of a level that a rectangle touches; white outside the level; not to be written to."""
        box = around(left, top, right, bottom)
        blocks = self.blocks(number)
        if blocks is None:
            return Window(
                *self._source.window(
                    number, box.left, box.top, box.right - box.left, box.bottom - box.top
                )
            )

        def block(column: int, row: int) -> Pixels:
            return self._cache.get((number, column, row), partial(blocks.read, column, row))

        return assemble(self.levels[number], blocks, block, box)

    def picture(self, downsample: float) -> Picture:
        """The scanned part of the slide as one small picture; see `mil.io.slides.picture.draw_picture`."""
        return draw_picture(self, downsample)


def as_array(
    image: Image.Image | UInt8[np.ndarray, "height width 3"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Pixels of an RGB image, uint8 [height, width, 3]."""
    return np.asarray(image, dtype=np.uint8)
