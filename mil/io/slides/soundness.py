"""Whether a slide's file is plainly well-formed, so that no library can be led astray by it."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import openslide
import tifffile

from mil.io.slides.blocks import LARGEST_BLOCK_BYTES
from mil.io.slides.faults import TIFF
from mil.io.slides.levels import IMPOSSIBLE_PX
from mil.io.slides.ome_claims import claimed_planes
from mil.io.slides.tiff_pages import COMPRESSIONS, MOST_PAGES, VENDORS, open_pages

# Planes that an OME-TIFF may claim without a trial; tifffile counts them one by one.
MOST_PLANES = 10_000
# TIFF's tags TileByteCounts and StripByteCounts.
BYTE_COUNTS_OF_TILES = 325
BYTE_COUNTS_OF_STRIPS = 279


class _Complaint(Exception):
    """tifffile logged something about a file."""


class _Strict(logging.Handler):
    """Raises what tifffile logs about a file, in threads that ask for it."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(self.threads, "strict", False):
            raise _Complaint(record.getMessage())


_STRICT = _Strict()
logging.getLogger("tifffile").addHandler(_STRICT)


@contextmanager
def _strict() -> Iterator[None]:
    _STRICT.threads.strict = True
    try:
        yield
    finally:
        _STRICT.threads.strict = False


def is_sound(path: Path) -> bool:
    """Whether a file is a TIFF of a format that mil decodes itself, without any doubt about it.

    Every claim of it is held against its size. Such a file needs no trial; all others
    may be good as well, but are tried out first.
    """
    with path.open("rb") as file:
        if file.read(4) not in TIFF:
            return False
    try:
        with _strict(), tifffile.TiffFile(path, _multifile=False) as tiff:
            pages = list(islice(tiff.pages, MOST_PAGES + 1))
            sound = len(pages) <= MOST_PAGES and all(
                _is_sound_page(page, path.stat().st_size) for page in pages
            )
            sound = sound and _shrink(pages)
            if not sound:
                return False
            if tiff.is_ome:
                areas_px = [
                    page.imagewidth * page.imagelength
                    for page in pages
                    if isinstance(page, tifffile.TiffPage)
                ]
                claimed = claimed_planes(tiff.ome_metadata or "", min(areas_px), len(pages))
                return claimed <= MOST_PLANES
        return openslide.OpenSlide.detect_format(path) in VENDORS
    except Exception:  # noqa: BLE001  strange files raise errors of every kind
        return False


def impossible_blocks(path: Path) -> str:
    """Impossible sizes of blocks in a TIFF that tifffile does not read; empty: none.

    `TiffPages.impossible_claim` is for those that it reads. OpenSlide takes as much memory for
    a block as the file claims, and ends the process if it does not get it.

    Args:
        path: file of any kind.
    """
    with path.open("rb") as file:
        if file.read(4) not in TIFF:
            return ""
    try:
        pages = open_pages(path)
        if pages is not None:
            pages.close()
            return ""
        # It reads JPEGs of Hamamatsu in lines, whose sizes there are cut to 32 bits.
        if openslide.OpenSlide.detect_format(path) in (None, "hamamatsu"):
            return ""
        file_bytes = path.stat().st_size
        with tifffile.TiffFile(path, _multifile=False) as tiff:
            for page in islice(tiff.pages, MOST_PAGES):
                tags = page.aspage().tags
                counts = tags.get(BYTE_COUNTS_OF_TILES) or tags.get(BYTE_COUNTS_OF_STRIPS)
                if counts is None:
                    return "its TIFF tags are damaged: the sizes of its blocks are missing"
                largest = int(np.max(counts.value))
                if largest > file_bytes:
                    return (
                        f"a block of page {page.index} claims {largest} bytes; the file is damaged"
                    )
    # OpenSlide may read it all the same, and is tried out first.
    except Exception:  # noqa: BLE001  strange files raise errors of every kind
        return ""
    return ""


def _shrink(pages: Sequence[tifffile.TiffPage | tifffile.TiffFrame]) -> bool:
    """Whether no page is wider or higher than the first, by which OpenSlide divides."""
    shapes = [page.shape[:2] for page in pages]
    return all(height <= shapes[0][0] and width <= shapes[0][1] for height, width in shapes)


def _is_sound_page(page: tifffile.TiffPage | tifffile.TiffFrame, file_bytes: int) -> bool:
    if not isinstance(page, tifffile.TiffPage) or page.compression not in COMPRESSIONS:
        return False
    if not 0 < page.imagewidth * page.imagelength <= IMPOSSIBLE_PX:
        return False
    largest = max(page.databytecounts, default=0)
    return bool(largest <= min(file_bytes, LARGEST_BLOCK_BYTES))
