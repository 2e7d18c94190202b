"""Which library reads a slide, and which image of its file is the slide."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from mil.errors import SeveralImagesError, UnreadableSlideError
from mil.io.slides.blocks import Blocks, RgbPixels
from mil.io.slides.faults import TIFF
from mil.io.slides.images import choose_image
from mil.io.slides.levels import Level
from mil.io.slides.multipage import open_image, page_images
from mil.io.slides.ome import is_ome, open_ome
from mil.io.slides.openslide_source import OpenSlideSource
from mil.io.slides.resolution import NO_VENDOR
from mil.io.slides.tiff import TiffPages, open_pages


@runtime_checkable
class SlideSource(Protocol):
    """A library's view of a slide: its levels, properties and pixels."""

    vendor: str
    levels: list[Level]
    properties: Mapping[str, str]

    def blocks(self, level: int) -> Blocks | None: ...

    def window(
        self, level: int, left: int, top: int, width: int, height: int
    ) -> tuple[RgbPixels, float, float]: ...

    def close(self) -> None: ...


class OpenedSource(NamedTuple):
    """A slide's source, the pages of its TIFF if OpenSlide reads it, and remarks about it."""

    source: SlideSource
    pages: TiffPages | None
    remarks: list[str]


def open_source(path: Path, scene: str = "") -> OpenedSource:
    """Open the image of a file that is the slide.

    Args:
        path: the slide's file.
        scene: name or number of one of several images; empty: none is named.

    Raises:
        UnreadableSlideError: the file does not open.
        SeveralImagesError: several images may be the slide, or none is named so.
    """
    if is_ome(path):
        ome = open_ome(path, scene)
        return OpenedSource(ome, None, ome.remarks)
    pages = open_pages(path) if _is_tiff(path) else None
    try:
        return _not_ome(path, pages, scene)
    except BaseException:
        if pages is not None:
            pages.close()
        raise


def _not_ome(path: Path, pages: TiffPages | None, scene: str) -> OpenedSource:
    claim = pages.impossible_claim() if pages else ""
    if claim:
        raise UnreadableSlideError(path, claim)
    remark = ""
    source: OpenSlideSource | None = None
    # OpenSlide refuses a TIFF whose first page is in strips, as labels are.
    if pages is None or not pages.starts_in_strips():
        source = OpenSlideSource(path)
    try:
        if pages is not None and (source is None or source.vendor == NO_VENDOR):
            images = page_images(pages)
            if images:
                image, remark = choose_image(path, images, scene)
                if source is None or image.pages[0].index != 0:
                    other = open_image(pages, image, remark)
                    pages.close()
                    return OpenedSource(other, None, other.remarks)
                scene = ""
        if source is None:
            source = OpenSlideSource(path)
        if scene not in ("", "0"):
            width, height = source.levels[0].width_px, source.levels[0].height_px
            raise SeveralImagesError(
                path, f"no image {scene!r}: it has one alone, 0 ({width} x {height} px)"
            )
    except BaseException:
        if source is not None:
            source.close()
        raise
    return OpenedSource(source, pages, [remark] if remark else [])


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in TIFF
