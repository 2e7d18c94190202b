"""Blocks of tiled TIFFs, decoded without OpenSlide where that is faster and gives the same pixels."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from PIL import Image

from mil.io.slides.blocks import BlockError, Pixels
from mil.io.slides.levels import Level
from mil.io.slides.openslide_source import OpenSlideSource

# Formats of OpenSlide whose levels are plain grids of TIFF tiles. Others place, overlap or stitch what they store.
VENDORS = {"generic-tiff", "aperio", "philips-tiff"}
JPEG, APERIO_YCBCR = 7, 33003
RGB, YCBCR = 2, 6
# An APP14 marker with the colour transform, which TIFF keeps in a tag: 0 for RGB, 1 for YCbCr.
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
# How far a decoder may be from OpenSlide, grey levels, and on how many blocks of a level it must prove it.
TOLERANCE, PROBES = 1, 2
# OpenSlide mixes neighbouring pixels when a block does not begin on a whole pixel; by so little it does not show.
WHOLE = 1e-3

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it has to say of a file becomes our one line


class TiffPages:
    """A TIFF's pages that can be levels, and the open file; pixels are fetched by position, so threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with tifffile.TiffFile(path) as file:
            self.pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage) and page.is_tiled]
            for page in self.pages:  # what is read from the file must be read while it is open
                _ = page.dataoffsets, page.databytecounts, page.jpegtables
        self.file = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self.file)


def open_pages(path: Path) -> TiffPages | None:
    """The pages of a TIFF; None when tifffile cannot make sense of it, for OpenSlide then reads everything."""
    try:
        return TiffPages(path)
    except Exception:  # noqa: BLE001  strange files raise errors of every kind
        return None


class TiffBlocks:
    """One level's tiles, or strips, of a TIFF.

    Args:
        page: the level's page, with positions already read.
        file: descriptor of the open file.
        instead: who reads a tile that is stored as nothing, or that the fast decoder refuses; None: nobody.
    """

    def __init__(self, page: tifffile.TiffPage, file: int, instead: Callable[[int, int], Pixels] | None = None) -> None:
        self.width_px = page.tilewidth if page.is_tiled else page.imagewidth
        self.height_px = page.tilelength if page.is_tiled else page.rowsperstrip
        self.columns = -(-page.imagewidth // self.width_px)
        self.rows = -(-page.imagelength // self.height_px)
        self.offsets = np.array(page.dataoffsets, np.uint64)
        self.counts = np.array(page.databytecounts, np.uint64)
        self.compression = tifffile.COMPRESSION(page.compression).name
        self._file, self._instead = file, instead
        self.decode = _decoder(page)

    def read(self, column: int, row: int) -> Pixels:
        index = row * self.columns + column
        if self.counts[index] == 0 and self._instead is not None:
            return self._instead(column, row)
        for last in (False, True):
            try:
                return self.decode(self.fetch(index), index)
            except Exception as error:  # noqa: BLE001  every codec raises its own
                if last and self._instead is None:
                    raise BlockError(" ".join(str(error).split()) or type(error).__name__) from None
        assert self._instead is not None
        return self._instead(column, row)

    def fetch(self, index: int) -> bytes:
        """The compressed bytes of one block."""
        count, offset = int(self.counts[index]), int(self.offsets[index])
        data = os.pread(self._file, count, offset)
        if len(data) < count:
            raise BlockError(f"the file ends before byte {offset + count}")
        return data

    def cut_off(self) -> int:
        """Number of blocks that lie behind the end of the file."""
        return int(((self.offsets + self.counts) > os.fstat(self._file).st_size).sum())


Decode = Callable[[bytes, int], Pixels]


def _decoder(page: tifffile.TiffPage) -> Decode:
    if page.compression == JPEG and page.bitspersample == 8 and page.samplesperpixel == 3 and page.planarconfig == 1:
        return _jpeg(page)
    if page.compression == APERIO_YCBCR:
        return _aperio_ycbcr
    return _any(page)


def _jpeg(page: tifffile.TiffPage) -> Decode:
    """By libjpeg-turbo; strict, so that damage is an error as it is in OpenSlide, not grey stripes."""
    tables = (page.jpegtables or b"\xff\xd8\xff\xd9")[2:-2]
    known = page.photometric in (RGB, YCBCR)
    start = b"\xff\xd8" + (ADOBE + bytes([page.photometric == YCBCR]) if known else b"") + tables

    def decode(data: bytes, index: int) -> Pixels:
        return simplejpeg.decode_jpeg(start + data[2:], colorspace="RGB", strict=True)

    return decode


def _aperio_ycbcr(data: bytes, index: int) -> Pixels:
    raw = imagecodecs.jpeg2k_decode(data)
    return np.asarray(Image.fromarray(np.ascontiguousarray(raw), "YCbCr").convert("RGB"))


def _any(page: tifffile.TiffPage) -> Decode:
    planes = 1 if page.planarconfig == 1 else page.samplesperpixel
    if planes != 1:
        raise BlockError("its colours are stored apart")

    def decode(data: bytes, index: int) -> Pixels:
        pixels, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        if pixels is None:
            raise BlockError("stored as nothing")
        pixels = pixels[0]
        return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[..., :3])

    return decode


def fast_blocks(pages: TiffPages, source: OpenSlideSource, number: int) -> TiffBlocks | None:
    """A level's blocks without OpenSlide; None unless its page is known and probes of it agree with OpenSlide."""
    page = _page_of(pages, source, number)
    if page is None or page.dtype != np.uint8:
        return None

    def instead(column: int, row: int) -> Pixels:
        return _through_openslide(source, number, blocks, column, row)

    try:
        blocks = TiffBlocks(page, pages.file, instead)
    except Exception:  # noqa: BLE001  a page that tifffile cannot make sense of
        return None
    return blocks if _agree(blocks, source, number) else None


def _page_of(pages: TiffPages, source: OpenSlideSource, number: int) -> tifffile.TiffPage | None:
    """The page of a level: as large as the level; Philips fills its pages up to whole tiles."""
    level = source.levels[number]
    for page in pages.pages:
        width, height = page.imagewidth, page.imagelength
        padded = source.vendor == "philips-tiff" and (
            0 <= width - level.width_px < page.tilewidth and 0 <= height - level.height_px < page.tilelength
        )
        if padded or (width, height) == (level.width_px, level.height_px):
            return page
    return None


def _agree(blocks: TiffBlocks, source: OpenSlideSource, number: int) -> bool:
    """Compare the blocks that hold most, which are the least likely to be plain glass."""
    seen = 0
    for index in _probes(blocks, source.levels[number], source.ratios[number]):
        row, column = divmod(int(index), blocks.columns)
        try:
            expected = _through_openslide(source, number, blocks, column, row)
            found = blocks.decode(blocks.fetch(int(index)), int(index))[: expected.shape[0], : expected.shape[1]]
        except Exception:  # noqa: BLE001  a damaged block proves nothing; take the next
            continue
        if found.shape != expected.shape or np.abs(found.astype(np.int16) - expected).max(initial=0) > TOLERANCE:
            return False
        seen += 1
        if seen == PROBES:
            return True
    return seen > 0


def _probes(blocks: TiffBlocks, level: Level, ratio: float) -> list[int]:
    rows, columns = np.divmod(np.arange(len(blocks.counts)), blocks.columns)
    x, y = columns * blocks.width_px, rows * blocks.height_px
    whole = (np.mod(x * ratio + 1e-6, 1) < WHOLE) & (np.mod(y * ratio + 1e-6, 1) < WHOLE)
    inside = (x < level.width_px) & (y < level.height_px)
    fit = np.flatnonzero(whole & inside & (blocks.counts > 0))
    return [int(index) for index in fit[np.argsort(-blocks.counts[fit].astype(np.int64), kind="stable")][: 5 * PROBES]]


def _through_openslide(source: OpenSlideSource, number: int, blocks: TiffBlocks, column: int, row: int) -> Pixels:
    level = source.levels[number]
    left, top = column * blocks.width_px, row * blocks.height_px
    size = min(blocks.width_px, level.width_px - left), min(blocks.height_px, level.height_px - top)
    return source.window(number, left, top, *size)[0]
