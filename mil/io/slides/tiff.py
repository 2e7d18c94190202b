"""Blocks of tiled TIFFs, decoded without OpenSlide where that gives the same pixels faster."""

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
from mil.io.slides.blocks import BlockError, RgbPixels
from mil.io.slides.levels import Level
from mil.io.slides.openslide_source import ROUNDING, OpenSlideSource

# Formats of OpenSlide whose levels are plain grids of TIFF tiles. Others place, overlap
# or stitch what they store.
VENDORS = {"generic-tiff", "aperio", "philips"}
# Values of TIFF's tag Compression.
JPEG = 7
APERIO_YCBCR = 33003
J2K = {34712, APERIO_YCBCR, 33004, 33005}
# Compressions that are read: their decoders fill no more room than they are given, or
# their blocks tell their size beforehand. None, LZW, JPEG, deflate (two numbers),
# PackBits, LZMA, Zstandard.
COMPRESSIONS = {1, 5, JPEG, 8, 32946, 32773, 34925, 50000} | J2K
# Values of TIFF's tag PhotometricInterpretation.
RGB = 2
YCBCR = 6
# An APP14 marker with the colour transform, which TIFF keeps in a tag: 0 for RGB, 1 for
# YCbCr.
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
JPEG_START = b"\xff\xd8"
JPEG_END = b"\xff\xd9"
# SOC and SIZ, with which every JPEG 2000 codestream begins.
J2K_START = b"\xff\x4f\xff\x51"
# How far a decoder may be from OpenSlide, grey levels; and on how many blocks of a level
# it must prove it, of how many that are tried.
TOLERANCE = 1
PROBES = 2
PROBES_TRIED = 5 * PROBES
# OpenSlide mixes neighbouring pixels when a block does not begin on a whole pixel. At
# this distance or less the mixture does not show.
NO_MIXTURE = 1e-3

# What tifffile logs about a file becomes our one line.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False


class TiffPages:
    """The tiled pages of a TIFF, which may be levels, and the open file.

    Pixels are fetched by position, so threads may share it.
    """

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
    """Read positions and decoding tables of a page while its file is still open.

    tifffile reads them at their first use, when the file is closed already.
    """
    _ = page.dataoffsets, page.databytecounts, page.jpegtables, page.decode


def open_pages(path: Path) -> TiffPages | None:
    """The pages of a TIFF; None when tifffile cannot read it: OpenSlide then reads everything."""
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
        read_sparse: reads a tile that is stored as zero bytes, by column and row; None:
            such a tile is white. A damaged tile is never read in another way: OpenSlide
            would fill it with grey or repeated pixels without an error.
    """

    def __init__(
        self,
        page: tifffile.TiffPage,
        file: io.FileIO,
        read_sparse: Callable[[int, int], RgbPixels] | None = None,
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
        self._read_sparse = read_sparse
        if min(len(self.offsets), len(self.counts)) < self.columns * self.rows:
            raise BlockError("fewer tiles than its size asks for")
        self._file_size = os.fstat(file.fileno()).st_size
        self._decode = _decoder(page)

    def read(self, column: int, row: int) -> RgbPixels:
        index = row * self.columns + column
        if self.counts[index] == 0:
            if self._read_sparse is not None:
                return self._read_sparse(column, row)
            # Nothing was scanned there.
            return np.full((self.height_px, self.width_px, 3), 255, np.uint8)
        reason = ""
        for last_attempt in (False, True):
            try:
                return self.decode(self.fetch(index), index)
            except (OSError, MemoryError) as error:
                reason = str(error)
                # A bad sector (EIO) is the slide's own damage; other errors are the
                # system's.
                if last_attempt and getattr(error, "errno", None) != errno.EIO:
                    raise ReadingError(
                        f"{self._file.name}: reading stopped: {error}; run again"
                    ) from None
            except Exception as error:  # noqa: BLE001  every codec raises its own
                reason = " ".join(str(error).split()) or type(error).__name__
        raise BlockError(reason)

    def fetch(self, index: int) -> bytes:
        """The compressed bytes of one block."""
        count = int(self.counts[index])
        offset = int(self.offsets[index])
        data = b""
        # The file's length is checked first: memory is taken for as many bytes as are
        # asked for.
        if offset + count <= self._file_size:
            data = os.pread(self._file.fileno(), count, offset)
        if len(data) < count:
            raise BlockError(f"the file ends before byte {offset + count}")
        return data

    def cut_off(self) -> int:
        """Number of blocks that lie behind the end of the file."""
        return int((self.offsets.astype(float) + self.counts > self._file_size).sum())

    def decode(self, data: bytes, index: int) -> RgbPixels:
        """The pixels of one block."""
        width, height = _claimed_size(data)
        if width == 0 and self._j2k:
            raise BlockError("no JPEG 2000 header where one belongs")
        if width <= self.width_px and height <= self.height_px:
            block = self._decode(data, index)
            height, width = block.shape[:2]
        row, column = divmod(index, self.columns)
        right = self._page_px[0] - column * self.width_px
        bottom = self._page_px[1] - row * self.height_px
        # At the right and lower edge a block may hold only its part inside the level.
        width_fits = min(right, self.width_px) <= width <= self.width_px
        height_fits = min(bottom, self.height_px) <= height <= self.height_px
        if not (width_fits and height_fits):
            raise BlockError(
                f"{width} x {height} px where {self.width_px} x {self.height_px} belong"
            )
        return block


def _claimed_size(data: bytes) -> tuple[int, int]:
    """Width and height in the header of a JPEG or JPEG 2000; else 0.

    Checked before a decoder allocates memory for them.
    """
    if data.startswith(JPEG_START):
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        return width, height
    start = data[:512].find(J2K_START)
    if start < 0:
        return 0, 0
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    return right - left, bottom - top


BlockDecoder = Callable[[bytes, int], RgbPixels]


def _decoder(page: tifffile.TiffPage) -> BlockDecoder:
    if page.compression not in COMPRESSIONS:
        name = tifffile.COMPRESSION(page.compression).name
        raise BlockError(f"compressed as {name}, which is not read")
    interleaved_rgb = page.samplesperpixel == 3 and page.planarconfig == 1
    if page.compression == JPEG and page.bitspersample == 8 and interleaved_rgb:
        return _jpeg_decoder(page)
    if page.compression == APERIO_YCBCR:
        return _decode_aperio_ycbcr
    return _tifffile_decoder(page)


def _jpeg_decoder(page: tifffile.TiffPage) -> BlockDecoder:
    """Decoder by libjpeg-turbo.

    It is strict, so that damage is an error as it is in OpenSlide, not grey stripes.
    """
    tables = (page.jpegtables or JPEG_START + JPEG_END)[2:-2]
    marker = b""
    if page.photometric in (RGB, YCBCR):
        marker = ADOBE + bytes([page.photometric == YCBCR])
    start = JPEG_START + marker + tables

    def decode(data: bytes, index: int) -> RgbPixels:
        return simplejpeg.decode_jpeg(start + data[2:], colorspace="RGB", strict=True)

    return decode


def _decode_aperio_ycbcr(data: bytes, index: int) -> RgbPixels:
    ycbcr = np.ascontiguousarray(imagecodecs.jpeg2k_decode(data))
    return np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB"))


def _tifffile_decoder(page: tifffile.TiffPage) -> BlockDecoder:
    planes = 1 if page.planarconfig == 1 else page.samplesperpixel
    if planes != 1:
        raise BlockError("its colours are stored apart")

    def decode(data: bytes, index: int) -> RgbPixels:
        decoded, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        if decoded is None:
            raise BlockError("stored as nothing")
        pixels = decoded[0]
        if pixels.shape[2] == 1:
            return np.repeat(pixels, 3, axis=2)
        return np.ascontiguousarray(pixels[..., :3])

    return decode


def fast_blocks(pages: TiffPages, source: OpenSlideSource, number: int) -> TiffBlocks | None:
    """A level's blocks without OpenSlide.

    Args:
        pages: pages of the TIFF.
        source: the slide as OpenSlide sees it.
        number: number of the level.

    Returns:
        The blocks; None unless the level's page is known and probes of it agree with
        OpenSlide.
    """
    for page in pages.pages:
        if _may_be_level(page, source, number):
            blocks = _blocks_of(page, pages, source, number)
            if blocks is not None and _agrees_with_openslide(blocks, source, number):
                return blocks
    return None


def _blocks_of(
    page: tifffile.TiffPage, pages: TiffPages, source: OpenSlideSource, number: int
) -> TiffBlocks | None:
    def read_sparse(column: int, row: int) -> RgbPixels:
        return _through_openslide(source, number, blocks, column, row)

    try:
        blocks = TiffBlocks(page, pages.file, read_sparse)
    except Exception:  # noqa: BLE001  a page that tifffile cannot make sense of
        return None
    return blocks


def _may_be_level(page: tifffile.TiffPage, source: OpenSlideSource, number: int) -> bool:
    """Whether a page is as large as a level.

    Philips pads its pages to whole tiles, so that several small pages may fit a level.
    """
    level = source.levels[number]
    excess_x = page.imagewidth - level.width_px
    excess_y = page.imagelength - level.height_px
    fits = (excess_x, excess_y) == (0, 0)
    if source.vendor == "philips":
        fits |= 0 <= excess_x < page.tilewidth and 0 <= excess_y < page.tilelength
    return page.dtype == np.uint8 and fits


def _agrees_with_openslide(blocks: TiffBlocks, source: OpenSlideSource, number: int) -> bool:
    """Compare the longest blocks, which are the least likely to be plain glass."""
    compared = 0
    for index in _probes(blocks, source.levels[number], source.ratios[number]):
        row, column = divmod(index, blocks.columns)
        try:
            expected = _through_openslide(source, number, blocks, column, row)
            height, width = expected.shape[:2]
            pixels = blocks.decode(blocks.fetch(index), index)[:height, :width]
        except Exception:  # noqa: BLE001  a damaged block proves nothing; take the next
            continue
        if pixels.shape != expected.shape:
            return False
        # Signed, since differences of bytes would wrap round.
        if np.abs(pixels.astype(np.int16) - expected).max(initial=0) > TOLERANCE:
            return False
        compared += 1
        if compared == PROBES:
            return True
    return compared > 0


def _probes(blocks: TiffBlocks, level: Level, ratio: float) -> list[int]:
    """Indices of the longest blocks that OpenSlide reads without mixing pixels."""
    rows, columns = np.divmod(np.arange(len(blocks.counts)), blocks.columns)
    x = columns * blocks.width_px
    y = rows * blocks.height_px
    on_pixel_x = np.mod(x * ratio + ROUNDING, 1) < NO_MIXTURE
    on_pixel_y = np.mod(y * ratio + ROUNDING, 1) < NO_MIXTURE
    inside = (x < level.width_px) & (y < level.height_px)
    usable = np.flatnonzero(on_pixel_x & on_pixel_y & inside & (blocks.counts > 0))
    # Stable, so that the choice among equally long blocks is the same everywhere.
    longest = np.argsort(-blocks.counts[usable].astype(np.int64), kind="stable")
    indices: list[int] = usable[longest][:PROBES_TRIED].tolist()
    return indices


def _through_openslide(
    source: OpenSlideSource, number: int, blocks: TiffBlocks, column: int, row: int
) -> RgbPixels:
    level = source.levels[number]
    left = column * blocks.width_px
    top = row * blocks.height_px
    width = min(blocks.width_px, level.width_px - left)
    height = min(blocks.height_px, level.height_px - top)
    pixels, _, _ = source.window(number, left, top, width, height)
    return pixels
