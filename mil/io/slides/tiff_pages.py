"""The pages of a TIFF: which are tiled, how their pixels are stored, what they claim."""

import io
import logging
import os
from itertools import islice
from pathlib import Path

import numpy as np
import tifffile

from mil.io.slides.blocks import LARGEST_BLOCK_BYTES

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
# Value of TIFF's tag Orientation: the first row is the top, the first column the left.
UPRIGHT = 1
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


def colours_of(page: tifffile.TiffPage) -> str:
    """Name of the way in which a page stores colours, also of one that TIFF does not know."""
    if page.photometric == MIN_IS_BLACK:
        return "grey"
    try:
        return tifffile.PHOTOMETRIC(page.photometric).name
    except ValueError:
        return f"of the unknown kind {page.photometric}"
