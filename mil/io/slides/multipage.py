"""TIFFs of several pages that are not one pyramid: labels, overviews, several scans."""

from pathlib import Path

import tifffile

from mil.errors import UnreadableSlideError, brief
from mil.io.slides.images import ContainerImage
from mil.io.slides.levels import check_sizes, make_levels, same_shape
from mil.io.slides.tiff_pages import TiffPages, is_rgb
from mil.io.slides.tiff_source import TiffSource, check_block_size, resolution_tags

VENDOR = "tiff pages"
# Bit of TIFF's tag NewSubfileType: a smaller version of another page.
REDUCED = 1
# Longest name of a page in a message.
NAME_LENGTH = 40


def page_images(pages: TiffPages) -> list[ContainerImage]:
    """The images of a TIFF whose pages are RGB: each with the smaller versions after it."""
    groups: list[list[tifffile.TiffPage]] = []
    for page in pages.all_pages:
        if not _is_readable(pages.path, page):
            continue
        if groups and page.subfiletype & REDUCED and _is_smaller(page, groups[-1][0]):
            groups[-1].append(page)
        else:
            groups.append([page])
    return [
        ContainerImage(group[0].index, _name(group[0]), sorted(group, key=_width, reverse=True))
        for group in groups
    ]


def open_image(pages: TiffPages, image: ContainerImage, remark: str) -> TiffSource:
    """An image of a TIFF that OpenSlide does not take for the slide.

    Raises:
        UnreadableSlideError: it cannot be read.
    """
    first = image.pages[0]
    properties = {"tiff.ImageDescription": first.description, **resolution_tags(first)}
    try:
        return TiffSource(pages.path, VENDOR, image.pages, properties, remark)
    except Exception as error:  # noqa: BLE001  strange files raise errors of every kind
        reason = brief(error)
        raise UnreadableSlideError(pages.path, f"image {image} cannot be read: {reason}") from None


def _is_readable(path: Path, page: tifffile.TiffPage) -> bool:
    try:
        check_block_size(path, page)
        check_sizes(path, [(page.imagewidth, page.imagelength)])
        bytes_only = page.dtype == "uint8" and page.planarconfig == 1
        return bytes_only and page.samplesperpixel in (3, 4) and is_rgb(page)
    except Exception:  # noqa: BLE001  a page that tifffile cannot make sense of
        return False


def _is_smaller(page: tifffile.TiffPage, full: tifffile.TiffPage) -> bool:
    sizes = [(full.imagewidth, full.imagelength), (page.imagewidth, page.imagelength)]
    return sizes[1][0] < sizes[0][0] and same_shape(make_levels(sizes)[1])


def _width(page: tifffile.TiffPage) -> int:
    return int(page.imagewidth)


def _name(page: tifffile.TiffPage) -> str:
    """The page's name or the first line of its description, if that is short."""
    tag = page.tags.get("PageName")
    text = str(tag.value) if tag is not None else page.description
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= NAME_LENGTH else ""
