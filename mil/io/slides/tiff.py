"""Blocks of tiled TIFFs, decoded without OpenSlide where that gives the same pixels faster."""

import errno
import io
import os
from collections.abc import Callable

import numpy as np
import tifffile
from jaxtyping import Bool

from mil.errors import ReadingError, brief
from mil.io.slides.blocks import LARGEST_BLOCK_BYTES, BlockError, RgbPixels
from mil.io.slides.headers import Kind, claimed_size, kind_of
from mil.io.slides.tiff_decoders import decoder_of
from mil.io.slides.tiff_pages import J2K

# How far a decoder may be from OpenSlide, grey levels.
TOLERANCE = 1


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
        self._decode = decoder_of(page)

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
