"""One image of a TIFF, read without OpenSlide."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import tifffile

from mil.errors import UnreadableSlideError
from mil.io.slides.blocks import LARGEST_BLOCK_BYTES, RgbPixels
from mil.io.slides.levels import Level, check_sizes, make_levels
from mil.io.slides.tiff import TiffBlocks
from mil.io.slides.tiff_pages import UPRIGHT, orientation_of

# Values of TIFF's tag ResolutionUnit, in OpenSlide's words.
UNITS = {2: "inch", 3: "centimeter"}


class TiffSource:
    """Pages of a TIFF as the levels of a slide.

    Args:
        path: the slide's file.
        vendor: name of the format.
        pages: page of each level, the largest first, with positions already read.
        properties: the image's properties, by OpenSlide's keys.
        remark: sentence about other images of the file; empty without one.
    """

    def __init__(
        self,
        path: Path,
        vendor: str,
        pages: Sequence[tifffile.TiffPage],
        properties: Mapping[str, str],
        remark: str = "",
    ) -> None:
        self.vendor = vendor
        self.properties = properties
        self.remarks = [remark] if remark else []
        if orientation_of(pages[0]) != UPRIGHT:
            self.remarks.append(turned_remark(orientation_of(pages[0])))
        sizes = [(page.imagewidth, page.imagelength) for page in pages]
        check_sizes(path, sizes)
        self.levels: list[Level] = make_levels(sizes)
        self._file = io.FileIO(path)
        try:
            self._blocks = [TiffBlocks(page, self._file) for page in pages]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def blocks(self, level: int) -> TiffBlocks:
        return self._blocks[level]

    def window(
        self, level: int, left: int, top: int, width: int, height: int
    ) -> tuple[RgbPixels, float, float]:
        raise AssertionError("every level of such a TIFF has blocks")


def turned_remark(orientation: int) -> str:
    """Remark on a slide with a TIFF orientation."""
    return (
        f"its TIFF orientation is {orientation}: pixels are read as they are stored, and outlines "
        "must count from the stored first pixel; viewers may show it turned"
    )


def check_block_size(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse a page in blocks too large for the memory.

    Raises:
        UnreadableSlideError: they are.
    """
    # A strip spans the image's width.
    if page.is_tiled:
        block_px = page.tilewidth * page.tilelength
    else:
        block_px = page.imagewidth * page.rowsperstrip
    size_bytes = block_px * page.samplesperpixel
    if size_bytes > LARGEST_BLOCK_BYTES:
        raise UnreadableSlideError(
            path,
            f"stored in pieces of {size_bytes >> 20} MB; write it again with tiles of 512 px",
        )


def resolution_tags(page: tifffile.TiffPage) -> dict[str, str]:
    """The resolution tags of a page by OpenSlide's keys, as far as it has them."""
    properties = {}
    for axis in "XY":
        tag = page.tags.get(f"{axis}Resolution")
        number = None if tag is None else _fraction(tag.value)
        if number is not None:
            properties[f"tiff.{axis}Resolution"] = repr(number)
    unit = page.tags.get("ResolutionUnit")
    code = None if unit is None else unit.value
    properties["tiff.ResolutionUnit"] = UNITS.get(code, "") if isinstance(code, int) else ""
    return properties


def _fraction(value: object) -> float | None:
    """Value of a tag of two numbers; None for any other, which a damaged file may hold."""
    match value:
        # Some writers leave the denominator at 0.
        case (int(numerator), int(denominator)) if denominator:
            return numerator / denominator
        case _:
            return None
