"""Blocks of an open slide, level by level: decoded once each, and kept while there is room."""

import os
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Int

from mil.io.slides.blocks import BlockCache, Blocks, RgbPixels
from mil.io.slides.openslide_source import OpenSlideSource
from mil.io.slides.proof import fast_blocks
from mil.io.slides.sources import SlideSource
from mil.io.slides.tiff import TiffBlocks
from mil.io.slides.tiff_pages import VENDORS, TiffPages
from mil.io.slides.window import Box, Window, assemble, count_uses

Decoder = Literal["auto", "openslide"]
# Room for decoded blocks where nothing is known of the reads to come, and the most that
# is taken once they are announced.
CACHE_BYTES = 64 << 20
LARGEST_CACHE_BYTES = 512 << 20


class LevelBlocks:
    """Grids, decoders and decoded blocks of all levels; threads and forks may share it.

    Args:
        source: the slide as a library sees it.
        pages: pages of its TIFF, from which plain blocks are decoded without OpenSlide;
            None: the source decodes all.
        decoder: `openslide`: the source decodes all in any case.
        remarks: sentences about the file, to which those on its blocks are added.
    """

    def __init__(
        self, source: SlideSource, pages: TiffPages | None, decoder: Decoder, remarks: list[str]
    ) -> None:
        self._source = source
        self._pages = pages
        self._decoder = decoder
        self._remarks = remarks
        self._start()

    def _start(self, cache_bytes: int = CACHE_BYTES) -> None:
        self.cache = BlockCache(cache_bytes)
        self._by_level: dict[int, Blocks | None] = {}
        # Last: from now on other threads trust that the rest belongs to this process.
        self._process = os.getpid()

    def of(self, level: int) -> Blocks | None:
        """Grid and decoder of a level's blocks; None if its pixels come through windows only."""
        # After a fork the parent's locks may be held by threads that do not exist here.
        if self._process != os.getpid():
            self._start(self.cache.max_bytes)
        if level not in self._by_level:
            blocks = self._fast_blocks(level) or self._source.blocks(level)
            if blocks is not None:
                # Room for two blocks, or no block would outlive the next one.
                self._make_room(2 * blocks.width_px * blocks.height_px * 3)
            self._by_level[level] = blocks
        return self._by_level[level]

    def _fast_blocks(self, level: int) -> TiffBlocks | None:
        if self._pages is None or self._decoder != "auto" or self._source.vendor not in VENDORS:
            return None
        assert isinstance(self._source, OpenSlideSource)
        blocks, remark = fast_blocks(self._pages, self._source, level)
        if remark and remark not in self._remarks:
            self._remarks.append(remark)
        return blocks

    def _make_room(self, cache_bytes: int) -> None:
        self.cache.max_bytes = max(self.cache.max_bytes, min(cache_bytes, LARGEST_CACHE_BYTES))

    def expect(self, level: int, coords: Int[np.ndarray, "tiles 2"], side_level0_px: float) -> None:
        """Announce the tiles that will be read from a level; see `SlideReader.expect`."""
        blocks = self.of(level)
        if blocks is None:
            return
        # Known uses let a block go after its last tile, so the cache may grow.
        uses = count_uses(self._source.levels[level], blocks, coords, side_level0_px)
        self.cache.expect({(level, *position): count for position, count in uses.items()})
        self._make_room(LARGEST_CACHE_BYTES)

    def window(self, level: int, box: Box) -> Window:
        """The pixels of a box of whole pixels of a level, white outside the level.

        Raises:
            BlockError: they cannot be decoded.
        """
        blocks = self.of(level)
        if blocks is None:
            width = box.right - box.left
            height = box.bottom - box.top
            return Window(*self._source.window(level, box.left, box.top, width, height))

        def block(column: int, row: int) -> RgbPixels:
            return self.cache.get((level, column, row), partial(blocks.read, column, row))

        return assemble(self._source.levels[level], blocks, block, box)
