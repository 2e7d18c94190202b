"""Why a file does not open as a slide, in words that help."""

import os
from pathlib import Path

# How other files begin, for people who look at the name only.
OTHERS = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive; unpack it",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"\x89HDF": "an HDF5 file",
    b"<!doctype": "a web page; the download was not the slide",
    b"<html": "a web page; the download was not the slide",
    b"version https://git-lfs": "a git-lfs pointer; run `git lfs pull`",
}
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_file(path: Path) -> str:
    """Why a path cannot be a slide, before any library looks at it; empty when it may be one."""
    try:
        if not path.exists():
            return "no such file"
        if path.is_dir():
            return "a folder, not a slide"
        if not path.is_file():
            return "neither a file nor a folder"  # reading from a pipe would wait for ever
        if path.stat().st_size == 0:
            return "an empty file (0 bytes)"
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:  # no permission, locked by another program, or lost by the network
        return f"cannot be read: {error.strerror}"
    return ""


def said_of(path: Path, error: Exception) -> str:
    """What a library says, in one line and without the folder of the slide: reasons are sent around."""
    return " ".join(str(error).replace(f"{path.parent}{os.sep}", "").split())


def why_unreadable(path: Path, error: Exception) -> str:
    """One line for an error of OpenSlide on opening: what the file is instead of a slide, or what OpenSlide says."""
    said = said_of(path, error)
    if "Unsupported or missing image file" not in said:
        return f"OpenSlide cannot open it: {said}"
    # Only now: a MIRAX slide begins like a JPEG picture too.
    with path.open("rb") as file:
        head = file.read(32)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    start = start.lower() if start.startswith(b"<") else start
    found = next((what for other, what in OTHERS.items() if start.startswith(other)), "")
    if found:
        return f"not a slide but {found}"
    if head[:4] in TIFF:
        return "a TIFF that is no slide (not tiled, or not 8-bit RGB), or cut short"
    return "not a slide that OpenSlide reads, or cut short"
