"""Several images in one file: which of them is the slide."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tifffile

from mil.errors import SeveralImagesError, some
from mil.text import clean, number_in

# Names of images that are no scan, as scanners and converters give them.
NO_SCAN = re.compile(
    r"(?<![a-z])(label|macro|overview|thumb(nail)?|barcode|preview)(?![a-z])", re.I
)
# An image is another scan if its area is at least this share of the largest one's, and its
# pixels are no larger than this multiple of the finest. An overview has far fewer, and far
# larger, pixels.
LARGE_SHARE = 1 / 3
COARSER = 4.0
# Images that a message names.
MOST_NAMED = 6


class ContainerImage(NamedTuple):
    """One image of a file, with its levels.

    Attributes:
        number: position in the file, from 0.
        name: name in the file; empty without one.
        pages: page of each level, the largest first.
        mpp: micrometres per pixel; None: not known.
    """

    number: int
    name: str
    pages: Sequence[tifffile.TiffPage]
    mpp: float | None = None

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the finest level, pixels."""
        return self.pages[0].imagewidth, self.pages[0].imagelength

    @property
    def area_px(self) -> int:
        """Pixels of the finest level."""
        return self.size_px[0] * self.size_px[1]

    def __str__(self) -> str:
        width, height = self.size_px
        name = f" {self.name!r}" if self.name else ""
        return f"{self.number}{name} ({width} x {height} px)"


def choose_image(
    path: Path, images: Sequence[ContainerImage], scene: str
) -> tuple[ContainerImage, str]:
    """The image that is the slide, and a remark about others that are not read.

    It is the one that the user names, else the largest that is neither a label nor an
    overview.

    Args:
        path: the file, for messages.
        images: its images, at least one.
        scene: name or number of an image; empty: none is named.

    Raises:
        SeveralImagesError: no image has that name or number, or several are about as
            large as the largest.
    """
    if scene:
        return _named(path, images, scene), ""
    scans = [image for image in images if not NO_SCAN.search(image.name)] or list(images)
    finest = min((image.mpp for image in scans if image.mpp), default=None)
    if finest is not None:
        scans = [image for image in scans if image.mpp is None or image.mpp <= COARSER * finest]
    largest = max(scans, key=lambda image: image.area_px)
    large = [image for image in scans if image.area_px >= LARGE_SHARE * largest.area_px]
    if len(large) > 1:
        raise SeveralImagesError(path, f"{len(large)} images may be the slide: {_list(large)}")
    others = [image for image in scans if image is not largest]
    if not others:
        return largest, ""
    return largest, f"image {largest} of the file is the slide; not read: {_list(others)}"


def _named(path: Path, images: Sequence[ContainerImage], scene: str) -> ContainerImage:
    # Cells of tables are cleaned, and files may write accents apart.
    name = clean(scene).casefold()
    by_name = [image for image in images if clean(image.name).casefold() == name]
    if len(by_name) == 1:
        return by_name[0]
    # `1.0` too, as programs write whole numbers of a column with empty cells.
    number = number_in(name)
    for image in images:
        if image.number == number:
            return image
    fault = f"{len(by_name)} images are named" if by_name else "no image is named or numbered"
    raise SeveralImagesError(path, f"{fault} {scene!r}; there are: {_list(images)}")


def _list(images: Sequence[ContainerImage]) -> str:
    return some([str(image) for image in images], MOST_NAMED)
