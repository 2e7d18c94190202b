"""A slide whose reads are exact in physical scale."""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import openslide
from jaxtyping import Int, UInt8
from PIL import Image

from mil.errors import ConfigError, MissingResolutionError, UnreadableSlideError
from mil.io.slides.blocks import BlockCache, BlockError, Blocks, RgbPixels
from mil.io.slides.faults import check_file, one_line
from mil.io.slides.first_look import look_first
from mil.io.slides.levels import nearest_finer, whole_number
from mil.io.slides.openslide_source import OpenSlideSource
from mil.io.slides.proof import fast_blocks
from mil.io.slides.resolution import Resolution, resolve
from mil.io.slides.sources import open_source
from mil.io.slides.tiff import TiffBlocks
from mil.io.slides.tiff_pages import UPRIGHT, VENDORS, orientation_of
from mil.io.slides.tiff_source import turned_remark
from mil.io.slides.window import Resample, Window, assemble, bounding_box, count_uses, resample

Decoder = Literal["auto", "openslide"]
# Room for decoded blocks where nothing is known of the reads to come, and the most that
# is taken once they are announced.
CACHE_BYTES = 64 << 20
LARGEST_CACHE_BYTES = 512 << 20
# A longer side than this is no overview's, pixels.
FEW_PX = 4000


class SlideReader:
    """An open slide. Coordinates are level-0 pixels, (x, y), top left.

    Threads may share it: each compressed block is decoded once, and kept while the
    cache has room. It may cross a fork, and it can be pickled, which opens the slide
    again on the other side. Close it with `close()`, or use it in a `with` block.

    Args:
        path: the slide's file.
        decoder: `auto` decodes plain TIFF tiles without OpenSlide on levels where both
            agree within one grey level; `openslide` never does.
        resampler: function that brings pixels to their size; stages that have a faster
            one than Pillow pass it.
        scene: name or number of one of several images in the file; empty: the largest
            that is neither a label nor an overview.

    Attributes:
        remarks: sentences about the file that a user must know of.

    Raises:
        UnreadableSlideError: the slide does not open.
        SeveralImagesError: several images may be the slide, or none is named so.
    """

    def __init__(
        self,
        path: Path,
        decoder: Decoder = "auto",
        resampler: Resample = resample,
        scene: str = "",
    ) -> None:
        self.path = Path(path)
        self.decoder = decoder
        self.resampler = resampler
        self.scene = scene
        # First, since libraries give unclear errors, or wait on a pipe.
        fault = check_file(self.path)
        if fault:
            raise UnreadableSlideError(self.path, fault)
        look_first(self.path, partial(_try_out, self.path, scene))
        opened = open_source(self.path, scene)
        self._source = opened.source
        self._pages = opened.pages
        self.remarks = list(opened.remarks)
        self._fresh_state()
        self.levels = self._source.levels
        self.properties = self._source.properties
        self.vendor = self._source.vendor
        try:
            self._check_openslide()
        except UnreadableSlideError:
            self.close()
            raise

    def _check_openslide(self) -> None:
        """Refuse a slide that must not be read through OpenSlide, and has to be."""
        if self._pages is None:
            return
        orientation = max(map(orientation_of, self._pages.pages), default=UPRIGHT)
        fault = self._pages.impossible_claim()
        if orientation != UPRIGHT:
            fault = (
                f"its TIFF orientation is {orientation}, which OpenSlide applies to every block "
                "by itself; write it again without the tag"
            )
            self.remarks.append(turned_remark(orientation))
        if fault:
            levels = [self.blocks(number) for number in range(self.num_levels)]
            if not all(isinstance(blocks, TiffBlocks) for blocks in levels):
                raise UnreadableSlideError(self.path, fault)

    def _fresh_state(self, cache_bytes: int = CACHE_BYTES) -> None:
        self._cache = BlockCache(cache_bytes)
        self._level_blocks: dict[int, Blocks | None] = {}
        # Last: from now on other threads trust that the rest belongs to this process.
        self._process = os.getpid()

    def __reduce__(self) -> tuple[type["SlideReader"], tuple[Path, Decoder, Resample, str]]:
        return SlideReader, (self.path, self.decoder, self.resampler, self.scene)

    def __enter__(self) -> "SlideReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the slide's files; nothing can be read afterwards."""
        self._source.close()
        if self._pages is not None:
            self._pages.close()

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of level 0, pixels."""
        return self.levels[0].width_px, self.levels[0].height_px

    @property
    def origin_px(self) -> tuple[int, int]:
        """Corner of the scanned part of the slide, level-0 pixels.

        It is `openslide.bounds-x/y`, else (0, 0).
        """
        width, height = self.size_px
        left = self._bound(openslide.PROPERTY_NAME_BOUNDS_X, 0)
        top = self._bound(openslide.PROPERTY_NAME_BOUNDS_Y, 0)
        # A part that lies outside the slide is none.
        return (left, top) if 0 <= left < width and 0 <= top < height else (0, 0)

    @property
    def extent_px(self) -> tuple[int, int]:
        """Width and height of the scanned part of the slide, level-0 pixels."""
        width, height = self.size_px
        left, top = self.origin_px
        extent_x = self._bound(openslide.PROPERTY_NAME_BOUNDS_WIDTH, width - left)
        extent_y = self._bound(openslide.PROPERTY_NAME_BOUNDS_HEIGHT, height - top)
        inside = 0 < extent_x <= width - left and 0 < extent_y <= height - top
        return (extent_x, extent_y) if inside else (width - left, height - top)

    def _bound(self, name: str, default: int) -> int:
        return whole_number(self.properties.get(name), default)

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return len(self.levels)

    def resolution(
        self, override: float | None = None, *, allow_objective_power: bool = False
    ) -> Resolution:
        """Micrometres per pixel of level 0, and the source of the figure.

        See `mil.io.slides.resolution.resolve`.

        Raises:
            MissingResolutionError: no source states it.
        """
        try:
            return resolve(self.path, self.properties, override, allow_objective_power)
        except MissingResolutionError as error:
            width, height = self.size_px
            if max(width, height) > FEW_PX:
                raise
            # Whoever guesses 0.5 µm for an overview gets tiles of the whole body.
            reason = f"{error.reason}; of {width} x {height} px, it may be an overview"
            raise MissingResolutionError(self.path, reason) from None

    def level_for(self, downsample: float) -> int:
        """Number of the coarsest level that is not coarser than `downsample`; 0 if none is."""
        return nearest_finer(self.levels, downsample)

    def blocks(self, level: int) -> Blocks | None:
        """Grid and decoder of a level's blocks; None if its pixels come through windows only."""
        # After a fork the parent's locks may be held by threads that do not exist here.
        if self._process != os.getpid():
            self._fresh_state(self._cache.max_bytes)
        if level not in self._level_blocks:
            blocks = self._fast_blocks(level) or self._source.blocks(level)
            if blocks is not None:
                # Room for two blocks, or no block would outlive the next one.
                self._make_room(2 * blocks.width_px * blocks.height_px * 3)
            self._level_blocks[level] = blocks
        return self._level_blocks[level]

    def _make_room(self, cache_bytes: int) -> None:
        self._cache.max_bytes = max(self._cache.max_bytes, min(cache_bytes, LARGEST_CACHE_BYTES))

    def _fast_blocks(self, level: int) -> TiffBlocks | None:
        if self._pages is None or self.decoder != "auto" or self.vendor not in VENDORS:
            return None
        assert isinstance(self._source, OpenSlideSource)
        blocks, remark = fast_blocks(self._pages, self._source, level)
        if remark and remark not in self.remarks:
            self.remarks.append(remark)
        return blocks

    def expect(
        self, coords: Int[np.ndarray, "tiles 2"], side_level0_px: float, size_px: int
    ) -> None:
        """Announce the tiles that will be read, each once and about row by row.

        Then each block is decoded once: it is kept until the last tile that needs it
        has been read, as long as there is room.

        Args:
            coords: top left corners, level-0 pixels.
            side_level0_px: side of a tile, level-0 pixels.
            size_px: side of a tile as it is read, pixels.
        """
        number = self.level_for(side_level0_px / size_px)
        blocks = self.blocks(number)
        if blocks is not None:
            # Known uses let a block go after its last tile, so the cache may grow.
            uses = count_uses(self.levels[number], blocks, coords, side_level0_px)
            self._cache.expect({(number, *position): count for position, count in uses.items()})
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
            UnreadableSlideError: the pixels cannot be decoded, twice.
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
        """Read a rectangle and resample it once; see `read`.

        Args:
            corner: left and top edge, level-0 pixels.
            extent_px: width and height, level-0 pixels.
            size_px: width and height of the result, pixels.
            level: number of the level to read; None: the nearest finer one.

        Raises:
            ConfigError: a side is not above 0.
        """
        if min(*extent_px, *size_px) <= 0:
            raise ConfigError(
                f"{self.path}: a rectangle of {extent_px[0]} x {extent_px[1]} level-0 pixels "
                f"cannot be read as {size_px[0]} x {size_px[1]} pixels; all must be above 0"
            )
        # The finer axis decides, so that neither is enlarged.
        if level is None:
            level = self.level_for(min(extent_px[0] / size_px[0], extent_px[1] / size_px[1]))
        downsample_x = self.levels[level].downsample_x
        downsample_y = self.levels[level].downsample_y
        left = corner[0] / downsample_x
        top = corner[1] / downsample_y
        width = extent_px[0] / downsample_x
        height = extent_px[1] / downsample_y
        try:
            window = self.window(level, left, top, left + width, top + height)
        except BlockError as error:
            position = f"({corner[0]:.0f}, {corner[1]:.0f})"
            raise UnreadableSlideError(
                self.path, f"pixels at {position} cannot be decoded: {one_line(self.path, error)}"
            ) from None
        return self.resampler(window, left, top, width, height, size_px)

    def window(self, number: int, left: float, top: float, right: float, bottom: float) -> Window:
        """The pixels of a level that a rectangle touches, white outside the level.

        They may be a view of a cached block: do not write to them.

        Args:
            number: number of the level.
            left: left edge, pixels of the level.
            top: top edge, pixels of the level.
            right: right edge, pixels of the level.
            bottom: bottom edge, pixels of the level.
        """
        # Whole pixels; the resampler takes the fractions into account.
        box = bounding_box(left, top, right, bottom)
        blocks = self.blocks(number)
        if blocks is None:
            width = box.right - box.left
            height = box.bottom - box.top
            return Window(*self._source.window(number, box.left, box.top, width, height))

        def block(column: int, row: int) -> RgbPixels:
            return self._cache.get((number, column, row), partial(blocks.read, column, row))

        return assemble(self.levels[number], blocks, block, box)


def _try_out(path: Path, scene: str) -> None:
    """Open a slide and read a pixel of each level; a child process does it at first."""
    with SlideReader(path, "openslide", scene=scene) as reader:
        for number in range(reader.num_levels):
            with suppress(BlockError):
                reader.window(number, 0, 0, 1, 1)


def as_array(
    image: Image.Image | UInt8[np.ndarray, "height width 3"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Pixels of an RGB image, uint8 [height, width, 3]."""
    return np.asarray(image, dtype=np.uint8)
