"""Blocks of tiled TIFFs, decoded without OpenSlide where that is faster and gives the same pixels."""

import errno
import io
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from PIL import Image

from mil.errors import ReadingError
from mil.io.slides.blocks import BlockError, Pixels
from mil.io.slides.levels import Level
from mil.io.slides.openslide_source import OpenSlideSource

# Formats of OpenSlide whose levels are plain grids of TIFF tiles. Others place, overlap
# or stitch what they store.
VENDORS = {"generic-tiff", "aperio", "philips"}
JPEG = 7
APERIO_YCBCR = 33003
J2K = {34712, APERIO_YCBCR, 33004, 33005}
# What is read: by decoders that fill no more room than they are given, or blocks that
# tell their size beforehand. None, LZW, JPEG, deflate (two numbers), PackBits, LZMA,
# Zstandard.
COMPRESSIONS = {1, 5, JPEG, 8, 32946, 32773, 34925, 50000} | J2K
RGB = 2
YCBCR = 6
# An APP14 marker with the colour transform, which TIFF keeps in a tag: 0 for RGB, 1 for
# YCbCr.
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
# How far a decoder may be from OpenSlide, grey levels, and on how many blocks of a
# level it must prove it.
TOLERANCE = 1
PROBES = 2
# OpenSlide mixes neighbouring pixels when a block does not begin on a whole pixel; by
# so little it does not show.
WHOLE = 1e-3

# What it has to say of a file becomes our one line.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False


class TiffPages:
    """A TIFF's pages that can be levels, and the open file; pixels are fetched by position, so threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with tifffile.TiffFile(path) as file:
            self.pages = [
                page for page in file.pages if isinstance(page, tifffile.TiffPage) and page.is_tiled
            ]
            for page in self.pages:
                read_ahead(page)
        self.file = io.FileIO(path)

    def close(self) -> None:
        self.file.close()


def read_ahead(page: tifffile.TiffPage) -> None:
    """What a page reads from its file, which must be open for it: positions, and how to decode."""
    _ = page.dataoffsets, page.databytecounts, page.jpegtables, page.decode


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
        file: the open file; not its number, which may be another file's once this one
            is closed.
        instead: who reads a tile that is stored as nothing; None: nobody. A damaged one
            is nobody's: OpenSlide would fill it with grey or repeated pixels and say
            nothing.
    """

    def __init__(
        self,
        page: tifffile.TiffPage,
        file: io.FileIO,
        instead: Callable[[int, int], Pixels] | None = None,
    ) -> None:
        self.width_px = page.tilewidth if page.is_tiled else page.imagewidth
        self.height_px = page.tilelength if page.is_tiled else page.rowsperstrip
        self.columns = -(-page.imagewidth // self.width_px)
        self.rows = -(-page.imagelength // self.height_px)
        self.offsets = np.array(page.dataoffsets, np.uint64)
        self.counts = np.array(page.databytecounts, np.uint64)
        self.compression = tifffile.COMPRESSION(page.compression).name
        self._j2k = page.compression in J2K
        self._page_px = page.imagewidth, page.imagelength
        self._file = file
        self._instead = instead
        if min(len(self.offsets), len(self.counts)) < self.columns * self.rows:
            raise BlockError("fewer tiles than its size asks for")
        self._file_size = os.fstat(file.fileno()).st_size
        self._decode = _decoder(page)

    def read(self, column: int, row: int) -> Pixels:
        index = row * self.columns + column
        if self.counts[index] == 0 and self._instead is not None:
            return self._instead(column, row)
        if self.counts[index] == 0:
            return np.full(
                (self.height_px, self.width_px, 3), 255, np.uint8
            )  # nothing was scanned there
        why = ""
        for last in (False, True):
            try:
                return self.decode(self.fetch(index), index)
            except (OSError, MemoryError) as error:
                why = str(error)
                if (
                    last and getattr(error, "errno", None) != errno.EIO
                ):  # a bad sector is the slide's own damage
                    raise ReadingError(
                        f"{self._file.name}: reading stopped: {error}; run again"
                    ) from None
            except Exception as error:  # noqa: BLE001  every codec raises its own
                why = " ".join(str(error).split()) or type(error).__name__
        raise BlockError(why)

    def fetch(self, index: int) -> bytes:
        """The compressed bytes of one block."""
        count = int(self.counts[index])
        offset = int(self.offsets[index])
        # First what the file says of itself: room is made for as many bytes as are
        # asked for.
        data = (
            os.pread(self._file.fileno(), count, offset)
            if offset + count <= self._file_size
            else b""
        )
        if len(data) < count:
            raise BlockError(f"the file ends before byte {offset + count}")
        return data

    def cut_off(self) -> int:
        """Number of blocks that lie behind the end of the file."""
        return int((self.offsets.astype(float) + self.counts > self._file_size).sum())

    def decode(self, data: bytes, index: int) -> Pixels:
        """The pixels of one block."""
        width, height = _claimed(data)
        if width == 0 and self._j2k:
            raise BlockError("no JPEG 2000 header where one belongs")
        if width <= self.width_px and height <= self.height_px:
            block = self._decode(data, index)
            height, width = block.shape[:2]
        row, column = divmod(index, self.columns)
        right = self._page_px[0] - column * self.width_px
        bottom = self._page_px[1] - row * self.height_px
        fits = min(right, self.width_px) <= width <= self.width_px
        if not fits or not min(bottom, self.height_px) <= height <= self.height_px:
            raise BlockError(
                f"{width} x {height} px where {self.width_px} x {self.height_px} belong"
            )
        return block


def _claimed(data: bytes) -> tuple[int, int]:
    """Width and height that a JPEG or JPEG 2000 says of itself, before anybody makes room for them; else 0."""
    if data.startswith(b"\xff\xd8"):
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        return width, height
    found = data[:512].find(b"\xff\x4f\xff\x51")
    if found < 0:
        return 0, 0
    right, bottom, left, top = struct.unpack_from(">4I", data, found + 8)
    return right - left, bottom - top


Decode = Callable[[bytes, int], Pixels]


def _decoder(page: tifffile.TiffPage) -> Decode:
    if page.compression not in COMPRESSIONS:
        raise BlockError(
            f"compressed as {tifffile.COMPRESSION(page.compression).name}, which is not read"
        )
    if (
        page.compression == JPEG
        and page.bitspersample == 8
        and page.samplesperpixel == 3
        and page.planarconfig == 1
    ):
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
        return (
            np.repeat(pixels, 3, axis=2)
            if pixels.shape[2] == 1
            else np.ascontiguousarray(pixels[..., :3])
        )

    return decode


def fast_blocks(pages: TiffPages, source: OpenSlideSource, number: int) -> TiffBlocks | None:
    """A level's blocks without OpenSlide; None unless its page is known and probes of it agree with OpenSlide."""
    for page in pages.pages:
        if _may_be(page, source, number):
            blocks = _blocks_of(page, pages, source, number)
            if blocks is not None and _agree(blocks, source, number):
                return blocks
    return None


def _blocks_of(
    page: tifffile.TiffPage, pages: TiffPages, source: OpenSlideSource, number: int
) -> TiffBlocks | None:
    def instead(column: int, row: int) -> Pixels:
        return _through_openslide(source, number, blocks, column, row)

    try:
        blocks = TiffBlocks(page, pages.file, instead)
    except Exception:  # noqa: BLE001  a page that tifffile cannot make sense of
        return None
    return blocks


def _may_be(page: tifffile.TiffPage, source: OpenSlideSource, number: int) -> bool:
    """Whether a page is as large as a level; Philips fills its pages up to whole tiles, so small ones are alike."""
    level = source.levels[number]
    width = page.imagewidth - level.width_px
    height = page.imagelength - level.height_px
    padded = (
        source.vendor == "philips" and 0 <= width < page.tilewidth and 0 <= height < page.tilelength
    )
    return page.dtype == np.uint8 and (padded or (width, height) == (0, 0))


def _agree(blocks: TiffBlocks, source: OpenSlideSource, number: int) -> bool:
    """Compare the blocks that hold most, which are the least likely to be plain glass."""
    seen = 0
    for index in _probes(blocks, source.levels[number], source.ratios[number]):
        row, column = divmod(int(index), blocks.columns)
        try:
            expected = _through_openslide(source, number, blocks, column, row)
            found = blocks.decode(blocks.fetch(int(index)), int(index))[
                : expected.shape[0], : expected.shape[1]
            ]
        except Exception:  # noqa: BLE001  a damaged block proves nothing; take the next
            continue
        if (
            found.shape != expected.shape
            or np.abs(found.astype(np.int16) - expected).max(initial=0) > TOLERANCE
        ):
            return False
        seen += 1
        if seen == PROBES:
            return True
    return seen > 0


def _probes(blocks: TiffBlocks, level: Level, ratio: float) -> list[int]:
    rows, columns = np.divmod(np.arange(len(blocks.counts)), blocks.columns)
    x = columns * blocks.width_px
    y = rows * blocks.height_px
    whole = (np.mod(x * ratio + 1e-6, 1) < WHOLE) & (np.mod(y * ratio + 1e-6, 1) < WHOLE)
    inside = (x < level.width_px) & (y < level.height_px)
    fit = np.flatnonzero(whole & inside & (blocks.counts > 0))
    return [
        int(index)
        for index in fit[np.argsort(-blocks.counts[fit].astype(np.int64), kind="stable")][
            : 5 * PROBES
        ]
    ]


def _through_openslide(
    source: OpenSlideSource, number: int, blocks: TiffBlocks, column: int, row: int
) -> Pixels:
    level = source.levels[number]
    left = column * blocks.width_px
    top = row * blocks.height_px
    size = min(blocks.width_px, level.width_px - left), min(blocks.height_px, level.height_px - top)
    return source.window(number, left, top, *size)[0]
