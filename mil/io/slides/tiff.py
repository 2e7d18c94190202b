"""Blocks of tiled TIFFs, decoded without OpenSlide where that gives the same pixels faster."""

import errno
import io
import logging
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from jaxtyping import Bool, UInt8
from PIL import Image

from mil.errors import ReadingError, brief
from mil.io.slides.blocks import LARGEST_BLOCK_BYTES, BlockError, RgbPixels
from mil.io.slides.headers import JPEG_END, JPEG_START, Kind, claimed_size, kind_of

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
MIN_IS_BLACK = 1
RGB = 2
YCBCR = 6
# Value of TIFF's tag ExtraSamples: opacity that the colours are not yet multiplied with.
UNASSOCIATED_ALPHA = 2
OPAQUE = 255
# Value of TIFF's tag Orientation: the first row is the top, the first column the left.
UPRIGHT = 1
# An APP14 marker with the colour transform, which TIFF keeps in a tag: 0 for RGB, 1 for
# YCbCr.
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
# How far a decoder may be from OpenSlide, grey levels.
TOLERANCE = 1
# Pages of a file that are looked at; a pyramid has about ten.
MOST_PAGES = 256

# What tifffile logs about a file becomes our one line.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False


class TiffPages:
    """The pages of a TIFF, which may be levels, and the open file.

    Pixels are fetched by position, so threads may share it.

    Attributes:
        pages: the tiled pages.
        all_pages: these and the pages in strips, which are labels and overviews.
        file: the open file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with tifffile.TiffFile(path, _multifile=False) as file:
            pages = islice(file.pages, MOST_PAGES)
            self.all_pages = [page for page in pages if isinstance(page, tifffile.TiffPage)]
            self.pages = [page for page in self.all_pages if page.is_tiled]
            for page in self.all_pages:
                read_ahead(page)
        self.file = io.FileIO(path)

    def close(self) -> None:
        self.file.close()

    def starts_in_strips(self) -> bool:
        """Whether the first page is in strips, as labels are, and a later one in tiles."""
        return bool(self.pages) and not self.all_pages[0].is_tiled

    def impossible_claim(self) -> str:
        """A block that claims more bytes than the file can hold; empty without one.

        OpenSlide allocates as many as are claimed, and ends the program if it cannot.
        """
        most = min(os.fstat(self.file.fileno()).st_size, LARGEST_BLOCK_BYTES)
        for page in self.pages:
            largest = max(page.databytecounts, default=0)
            if largest > most:
                return f"a block of page {page.index} claims {largest} bytes; the file is damaged"
        return ""


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


def orientation_of(page: tifffile.TiffPage) -> int:
    """Value of the tag Orientation; pixels are read as they are stored, whatever it is."""
    tag = page.tags.get("Orientation")
    # A damaged tag holds several numbers, or a text.
    return int(tag.value) if tag is not None and isinstance(tag.value, int) else UPRIGHT


def is_plain(page: tifffile.TiffPage) -> bool:
    """Whether each block alone tells its RGB or grey pixels, 8 bits each.

    What a page may have besides does not show in every block, so that no sample of
    blocks proves that it is decoded rightly: opacity, palettes, inverted grey, CMYK.
    """
    eight_bits = page.dtype == np.uint8 and page.bitspersample == 8 and page.fillorder == 1
    if not eight_bits or page.planarconfig != 1 or page.extrasamples or page.imagedepth != 1:
        return False
    if page.samplesperpixel == 1:
        return bool(page.photometric == MIN_IS_BLACK)
    return bool(page.samplesperpixel == 3) and is_rgb(page)


def is_rgb(page: tifffile.TiffPage) -> bool:
    """Whether a page's decoder gives RGB: it is stored so, or its codec converts it."""
    converted = page.compression == JPEG or page.compression in J2K
    return bool(page.photometric == RGB or (page.photometric == YCBCR and converted))


def same_pixels(pixels: RgbPixels, expected: RgbPixels) -> bool:
    """Whether a block's pixels are those of OpenSlide, which has its part inside the level."""
    height, width = expected.shape[:2]
    pixels = pixels[:height, :width]
    # Signed, since differences of bytes would wrap round.
    return pixels.shape == expected.shape and bool(
        np.abs(pixels.astype(np.int16) - expected).max(initial=0) <= TOLERANCE
    )


class TiffBlocks:
    """One level's tiles, or strips, of a TIFF.

    Args:
        page: the level's page, with positions already read.
        file: the open file; not its number, which may be another file's once this one
            is closed.
        reference: reads a tile through OpenSlide, by column and row. It is asked for
            tiles that are stored as zero bytes, and for the first of each kind of tile.
            None: the former are white, and there is nothing to compare with. A damaged
            tile is never read in another way: OpenSlide would fill it with grey or
            repeated pixels without an error.

    Attributes:
        same_kinds: kinds of tiles that are decoded as OpenSlide does it.
    """

    def __init__(
        self,
        page: tifffile.TiffPage,
        file: io.FileIO,
        reference: Callable[[int, int], RgbPixels] | None = None,
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
        self._reference = reference
        self.same_kinds: set[Kind] = set()
        # Each is decoded whole, and one that was not scanned is made white.
        if 3 * self.width_px * self.height_px > LARGEST_BLOCK_BYTES:
            raise BlockError(f"blocks of {self.width_px} x {self.height_px} px")
        if min(len(self.offsets), len(self.counts)) < self.columns * self.rows:
            raise BlockError("fewer tiles than its size asks for")
        # Tables of a damaged file may be longer, and of different lengths.
        self.offsets = self.offsets[: self.columns * self.rows]
        self.counts = self.counts[: self.columns * self.rows]
        self._file_size = os.fstat(file.fileno()).st_size
        self._decode = _decoder(page)

    def read(self, column: int, row: int) -> RgbPixels:
        index = row * self.columns + column
        if self.counts[index] == 0:
            if self._reference is not None:
                return self._reference(column, row)
            # Nothing was scanned there.
            return np.full((self.height_px, self.width_px, 3), 255, np.uint8)
        data, pixels = self._fetched(index)
        kind = kind_of(data)
        if self._reference is None or kind in self.same_kinds:
            return pixels
        # Probes of other tiles prove nothing for a tile of another kind.
        expected = self._reference(column, row)
        if not same_pixels(pixels, expected):
            return expected
        self.same_kinds.add(kind)
        return pixels

    def _fetched(self, index: int) -> tuple[bytes, RgbPixels]:
        """The compressed bytes of one block and its pixels, at the second attempt if need be."""
        reason = ""
        for last_attempt in (False, True):
            try:
                data = self.fetch(index)
                return data, self.decode(data, index)
            except (OSError, MemoryError) as error:
                reason = str(error)
                # A bad sector (EIO) is the slide's own damage; other errors are the
                # system's.
                if last_attempt and getattr(error, "errno", None) != errno.EIO:
                    raise ReadingError(
                        f"{self._file.name}: reading stopped: {error}; run again"
                    ) from None
            except Exception as error:  # noqa: BLE001  every codec raises its own
                reason = brief(error)
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
        return int(self.beyond_end().sum())

    def beyond_end(self) -> Bool[np.ndarray, " blocks"]:
        """Whether each block lies behind the end of the file."""
        # As floats, whose sums do not wrap round.
        return self.offsets.astype(float) + self.counts > self._file_size

    def decode(self, data: bytes, index: int) -> RgbPixels:
        """The pixels of one block."""
        width, height = claimed_size(data)
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
    # A fourth sample without a meaning counts as opacity, as libtiff has it.
    unassociated = UNASSOCIATED_ALPHA in page.extrasamples

    def decode(data: bytes, index: int) -> RgbPixels:
        decoded, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        if decoded is None:
            raise BlockError("stored as nothing")
        pixels = decoded[0]
        if pixels.shape[2] == 1:
            return np.repeat(pixels, 3, axis=2)
        return _on_white(pixels, unassociated)

    return decode


def _on_white(pixels: UInt8[np.ndarray, "height width samples"], unassociated: bool) -> RgbPixels:
    """Colours on a white background, where the fourth sample is their opacity."""
    colours = pixels[..., :3]
    if pixels.shape[2] < 4 or pixels[..., 3].min() == OPAQUE:
        return np.ascontiguousarray(colours)
    opacity = pixels[..., 3:4].astype(np.uint32)
    weighted = colours.astype(np.uint32)
    if unassociated:
        weighted = (weighted * opacity + OPAQUE // 2) // OPAQUE
    return np.minimum(weighted + (OPAQUE - opacity), OPAQUE).astype(np.uint8)
