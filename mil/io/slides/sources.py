"""Which library reads a slide, and which image of its file is the slide."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from mil.errors import SeveralImagesError
from mil.io.slides.blocks import Blocks, RgbPixels
from mil.io.slides.faults import TIFF
from mil.io.slides.images import ContainerImage, choose_image
from mil.io.slides.levels import Level, same_shape
from mil.io.slides.multipage import open_image, page_images
from mil.io.slides.ome import is_ome, open_ome
from mil.io.slides.openslide_source import OpenSlideSource
from mil.io.slides.resolution import NO_VENDOR
from mil.io.slides.tiff_pages import TiffPages, open_pages
from mil.text import number_in


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
    # OpenSlide refuses a TIFF whose first page is in strips, as labels are.
    if pages is not None and pages.starts_in_strips():
        images = page_images(pages)
        if images:
            return _other_image(pages, *choose_image(path, images, scene))
    source = OpenSlideSource(path)
    try:
        return _of_openslide(path, source, pages, scene)
    except BaseException:
        source.close()
        raise


def _of_openslide(
    path: Path, source: OpenSlideSource, pages: TiffPages | None, scene: str
) -> OpenedSource:
    if pages is not None and source.vendor == NO_VENDOR:
        images = page_images(pages)
        main, others = _not_levels(images, source.levels)
        level0_px = source.levels[0].width_px * source.levels[0].height_px
        # Where OpenSlide mixes images into one pyramid, its level 0 may be none of them.
        if main is None and any(image.area_px > level0_px for image in others):
            source.close()
            return _other_image(pages, *choose_image(path, images, scene))
        if main is not None and others:
            image, remark = choose_image(path, [main, *others], scene)
            if image is main:
                return OpenedSource(source, pages, [remark] if remark else [])
            source.close()
            return _other_image(pages, image, remark)
    if scene and number_in(scene.strip()) != 0:
        size = f"{source.levels[0].width_px} x {source.levels[0].height_px} px"
        raise SeveralImagesError(path, f"no image {scene!r}: it has one alone, 0 ({size})")
    return OpenedSource(source, pages, [])


def _not_levels(
    images: Sequence[ContainerImage], levels: Sequence[Level]
) -> tuple[ContainerImage | None, list[ContainerImage]]:
    """The image that OpenSlide takes for the slide, and those that are no level of it."""
    sizes = Counter((level.width_px, level.height_px) for level in levels if same_shape(level))
    main = None
    others = []
    for image in images:
        if sizes[image.size_px] == 0:
            others.append(image)
            continue
        sizes[image.size_px] -= 1
        if image.size_px == (levels[0].width_px, levels[0].height_px):
            main = image
    return main, others


def _other_image(pages: TiffPages, image: ContainerImage, remark: str) -> OpenedSource:
    source = open_image(pages, image, remark)
    pages.close()
    return OpenedSource(source, None, source.remarks)


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in TIFF
