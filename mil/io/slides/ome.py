"""Plain OME-TIFF, whose pyramids OpenSlide does not see."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
import tifffile

from mil.errors import SlideError, UnreadableSlideError
from mil.io.slides.faults import one_line
from mil.io.slides.images import ContainerImage, choose_image
from mil.io.slides.ome_claims import impossible_claim
from mil.io.slides.resolution import OME_SIZES, local_name, ome_sides, parse_xml
from mil.io.slides.tiff_pages import colours_of, is_rgb, read_ahead
from mil.io.slides.tiff_source import TiffSource, check_block_size, resolution_tags

VENDOR = "ome-tiff"
# Images of a file that are looked at.
MOST_IMAGES = 256


def is_ome(path: Path) -> bool:
    """Whether a file calls itself OME-TIFF."""
    try:
        with tifffile.TiffFile(path, _multifile=False) as file:
            return bool(file.is_ome)
    except Exception:  # noqa: BLE001  strange files raise errors of every kind
        return False


def open_ome(path: Path, scene: str = "") -> TiffSource:
    """The image of an OME-TIFF that is the slide: 8-bit RGB, sub-resolutions as levels.

    Args:
        path: the slide's file.
        scene: name or number of the image; see `mil.io.slides.images.choose_image`.

    Raises:
        UnreadableSlideError: the file holds something else, such as fluorescence, or is
            stored in blocks too large.
        SeveralImagesError: several images may be the slide.
    """
    try:
        # A file may name other files, and no path from inside a file is followed.
        with tifffile.TiffFile(path, _multifile=False) as file:
            description = file.ome_metadata or ""
            claim = impossible_claim(description)
            if claim:
                raise UnreadableSlideError(path, f"its OME description claims {claim}")
            images, elements = _images(path, file, description)
            image, remark = choose_image(path, images, scene)
            # Pixels are read later, when this file is closed.
            for page in image.pages:
                read_ahead(page)
            properties = _properties(image, elements.get(image.number), description)
        return TiffSource(path, VENDOR, image.pages, properties, remark)
    except (SlideError, MemoryError):
        # A trial in a child process must learn of memory that is refused.
        raise
    except Exception as error:  # noqa: BLE001  strange files raise errors of every kind
        reason = one_line(path, error)
        raise UnreadableSlideError(path, f"an OME-TIFF that cannot be read: {reason}") from None


def _images(
    path: Path, file: tifffile.TiffFile, description: str
) -> tuple[list[ContainerImage], dict[int, Element]]:
    """The images that can be read, and the element `Pixels` of each, by its number."""
    root = parse_xml(description)
    stated = [] if root is None else _stated_images(root)
    images: list[ContainerImage] = []
    elements: dict[int, Element] = {}
    fault: UnreadableSlideError | None = None
    for number, series in enumerate(islice(file.series, MOST_IMAGES)):
        try:
            pages = [_page(path, file, level) for level in series.levels]
        except UnreadableSlideError as error:
            fault = fault or error
            continue
        pixels = _pixels_of(number, series.name, pages[0], stated)
        sides = None
        if pixels is not None:
            elements[number] = pixels
            sides = ome_sides(pixels.attrib)
        mpp = None if sides is None else sum(sides) / 2
        images.append(ContainerImage(number, series.name or "", pages, mpp))
    if not images:
        raise fault or UnreadableSlideError(path, "an OME-TIFF without an image")
    return images, elements


def _page(path: Path, file: tifffile.TiffFile, level: tifffile.TiffPageSeries) -> tifffile.TiffPage:
    page = level.keyframe
    if level.axes != "YXS" or level.dtype != np.uint8 or page.samplesperpixel < 3:
        shape = " x ".join(str(length) for length in level.shape)
        raise UnreadableSlideError(
            path, f"an OME-TIFF of {shape} ({level.axes}, {level.dtype}); only 8-bit RGB is read"
        )
    if not is_rgb(page):
        colours = colours_of(page)
        raise UnreadableSlideError(
            path, f"an OME-TIFF whose colours are {colours}; only 8-bit RGB is read"
        )
    check_block_size(path, page)
    if page.parent is not file:
        raise UnreadableSlideError(path, "an OME-TIFF in several files; write it again as one")
    return page


def _stated_images(root: Element) -> list[tuple[str, Element]]:
    """Name and element `Pixels` of each image that the description states."""
    stated = []
    for image in root.iter():
        if local_name(image) == "Image":
            pixels = [child for child in image if local_name(child) == "Pixels"]
            stated += [(image.get("Name", ""), element) for element in pixels[:1]]
    return stated


def _pixels_of(
    number: int, name: str, page: tifffile.TiffPage, stated: Sequence[tuple[str, Element]]
) -> Element | None:
    """The element of an image: of its size, and of its name or position where those are several."""
    size = str(page.imagewidth), str(page.imagelength)
    # Its own position first, for images may share their size and name.
    order = [*stated[number : number + 1], *stated]
    of_size = [
        (image_name, pixels)
        for image_name, pixels in order
        if (pixels.get("SizeX"), pixels.get("SizeY")) == size
    ]
    of_name = [pixels for image_name, pixels in of_size if image_name == (name or "")]
    return next(iter([*of_name, *(pixels for _, pixels in of_size)]), None)


def _properties(
    image: ContainerImage, pixels: Element | None, description: str
) -> Mapping[str, str]:
    """The keys that OpenSlide would give, as far as a TIFF has them."""
    properties = resolution_tags(image.pages[0])
    if pixels is None:
        properties["tiff.ImageDescription"] = description
        return properties
    # The description speaks of all images: of this one alone its size.
    for key in OME_SIZES:
        if key in pixels.attrib:
            properties[f"ome.{key}"] = pixels.attrib[key]
    return properties
