"""Why a file does not open as a slide, in words that help."""

import os
from pathlib import Path

import numpy as np
import tifffile

from mil.errors import brief
from mil.io.slides.tiff_pages import colours_of, is_rgb, open_pages

# How other kinds of file begin, for people who look at the name only.
OTHER_KINDS = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive; unpack it",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"\x89HDF": "an HDF5 file",
    b"<!doctype": "a web page; the download was not the slide",
    b"<html": "a web page; the download was not the slide",
    b"version https://git-lfs": "a git-lfs pointer; run `git lfs pull`",
}
# First bytes of TIFF and BigTIFF, in either byte order.
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check_file(path: Path) -> str:
    """Why a path cannot be a slide, before any library opens it; empty when it may be one."""
    try:
        if not path.exists():
            return "no such file"
        if path.is_dir():
            return "a folder, not a slide"
        # Reading from a pipe would wait for ever.
        if not path.is_file():
            return "neither a file nor a folder"
        if path.stat().st_size == 0:
            return "an empty file (0 bytes)"
        with path.open("rb") as file:
            file.read(1)
    # No permission, locked by another program, or lost by the network.
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def one_line(path: Path, error: Exception) -> str:
    """A library's message in one line, without the slide's folder: reasons are sent around."""
    return brief(str(error).replace(f"{path.parent}{os.sep}", ""))


def why_unreadable(path: Path, error: Exception) -> str:
    """One line for an error of OpenSlide on opening a slide.

    It names the kind of file where that is recognised, else it quotes OpenSlide.
    """
    message = one_line(path, error)
    if "Unsupported or missing image file" not in message:
        return f"OpenSlide cannot open it: {message}"
    # Only now: a MIRAX slide begins like a JPEG image too.
    with path.open("rb") as file:
        head = file.read(32)
    # Web pages begin with a mark, with blank lines, or in capitals.
    start = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if start.startswith(b"<"):
        start = start.lower()
    for magic, kind in OTHER_KINDS.items():
        if start.startswith(magic):
            return f"not a slide but {kind}"
    if head[:4] in TIFF:
        return _why_no_slide(path)
    return "not a slide that OpenSlide reads, or cut short"


def _why_no_slide(path: Path) -> str:
    """Why OpenSlide takes a TIFF for no slide: it is cut short, or its first page is no level."""
    pages = open_pages(path)
    if pages is None:
        return "a TIFF that is damaged or cut short"
    pages.close()
    if not pages.all_pages:
        return "a TIFF that is cut short: the list of its pages lies behind the end of the file"
    file_bytes = path.stat().st_size
    if any(_is_cut_off(page, file_bytes) for page in pages.all_pages):
        return "a TIFF that is cut short: a part of its pixels lies behind the end of the file"
    page = pages.all_pages[0]
    if page.dtype != np.uint8 or page.samplesperpixel < 3 or not is_rgb(page):
        pixels = f"{page.bitspersample}-bit {colours_of(page)}"
        return f"a TIFF that is no slide: its pixels are {pixels}; only 8-bit RGB is read"
    if not page.is_tiled:
        return (
            "a TIFF that is no slide: its pixels lie in strips, as in a plain image, not in "
            "tiles; write it again with tiles of 512 px"
        )
    return "a TIFF that OpenSlide does not take for a slide; it may be damaged"


def _is_cut_off(page: tifffile.TiffPage, file_bytes: int) -> bool:
    """Whether a block of a page lies behind the end of its file."""
    blocks = zip(page.dataoffsets, page.databytecounts, strict=False)
    return any(offset + count > file_bytes for offset, count in blocks)
