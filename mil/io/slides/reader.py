"""A slide whose reads are exact in physical scale."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from mil.errors import ConfigError, MissingResolutionError, UnreadableSlideError
from mil.io.slides.blocks import BlockError, Blocks
from mil.io.slides.bounds import extent_of, origin_of
from mil.io.slides.faults import check_file, one_line
from mil.io.slides.first_look import look_first
from mil.io.slides.level_blocks import Decoder, LevelBlocks
from mil.io.slides.levels import nearest_finer
from mil.io.slides.resolution import Resolution, resolve
from mil.io.slides.sources import open_source
from mil.io.slides.tiff import TiffBlocks
from mil.io.slides.tiff_pages import UPRIGHT, orientation_of
from mil.io.slides.tiff_source import turned_remark
from mil.io.slides.window import Resample, Window, bounding_box, resample

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
        self._blocks = LevelBlocks(self._source, self._pages, decoder, self.remarks)
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
        return origin_of(self.properties, self.size_px)

    @property
    def extent_px(self) -> tuple[int, int]:
        """Width and height of the scanned part of the slide, level-0 pixels."""
        return extent_of(self.properties, self.size_px)

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
        return self._blocks.of(level)

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
        self._blocks.expect(self.level_for(side_level0_px / size_px), coords, side_level0_px)

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
        return self._blocks.window(number, bounding_box(left, top, right, bottom))


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
