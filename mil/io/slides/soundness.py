"""Whether a slide's file is plainly well-formed, so that no library can be led astray by it."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import openslide
import tifffile

from mil.io.slides.blocks import LARGEST_BLOCK_BYTES
from mil.io.slides.faults import TIFF
from mil.io.slides.levels import IMPOSSIBLE_PX
from mil.io.slides.ome_claims import claimed_planes
from mil.io.slides.tiff import COMPRESSIONS, MOST_PAGES, VENDORS

# Planes that an OME-TIFF may claim without a trial; tifffile counts them one by one.
MOST_PLANES = 10_000


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


def _is_sound_page(page: tifffile.TiffPage | tifffile.TiffFrame, file_bytes: int) -> bool:
    if not isinstance(page, tifffile.TiffPage) or page.compression not in COMPRESSIONS:
        return False
    if not 0 < page.imagewidth * page.imagelength <= IMPOSSIBLE_PX:
        return False
    largest = max(page.databytecounts, default=0)
    return bool(largest <= min(file_bytes, LARGEST_BLOCK_BYTES))
