"""URLs of the slide table: a stranger's table must not reach other files of this machine."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mil.errors import DatasetError
from mil.io.tables.slide_row import Slide

# The network to them cannot be tapped.
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
PERMISSION = "or, if you trust this table, set trust_urls: true"


def check_urls(slides: Sequence[Slide], folder: Path) -> None:
    """Refuse URLs that a stranger's table should not have.

    Args:
        slides: Rows of the slide table.
        folder: Folder of the dataset's yaml, below which `file:` URLs may lead.

    Raises:
        DatasetError: a URL leads elsewhere on this machine, or what arrives could have been
            changed on its way.
    """
    for slide, column, url, checksum in _urls(slides):
        fault = _fault(url, checksum, folder)
        if fault:
            raise DatasetError(f"slide {slide}: {column} {url}: {fault}, {PERMISSION}")


def _urls(slides: Sequence[Slide]) -> Iterator[tuple[str, str, str, str]]:
    """Slide, column, URL and checksum of each URL."""
    for slide in slides:
        if slide.url:
            yield slide.slide, "url", slide.url, slide.checksum
        if slide.annotation_url:
            yield slide.slide, "annotation_url", slide.annotation_url, ""


def _fault(url: str, checksum: str, folder: Path) -> str:
    """Fault of a URL, with a remedy; empty: none."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        # `fetch` says what is wrong with it.
        return ""
    if parts.scheme == "file":
        # The module also opens connections, and few tables need it.
        from urllib.request import Request, url2pathname

        # As Python's client reads it, to which `?` is part of the name. Links are followed: the
        # file that would be copied counts.
        file = Path(os.path.realpath(url2pathname(Request(url).selector)))
        if not file.is_relative_to(folder.resolve()):
            return f"leads out of the dataset's folder {folder}; put the file there"
    if parts.scheme == "http" and not checksum and host not in THIS_MACHINE:
        return (
            "http: without a checksum can be changed on its way; use https:, fill the column "
            "checksum"
        )
    return ""
