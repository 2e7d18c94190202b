"""Plain OME-TIFF, whose pyramids OpenSlide does not see."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile

from mil.errors import UnreadableSlideError
from mil.io.slides.blocks import LARGEST_BLOCK_BYTES, RgbPixels
from mil.io.slides.faults import one_line
from mil.io.slides.levels import Level, make_levels
from mil.io.slides.tiff import TiffBlocks, read_ahead

# Values of TIFF's tag ResolutionUnit, in OpenSlide's words.
UNITS = {2: "inch", 3: "centimeter"}


def is_ome(path: Path) -> bool:
    """Whether a file calls itself OME-TIFF."""
    try:
        with tifffile.TiffFile(path, _multifile=False) as file:
            return bool(file.is_ome)
    except Exception:  # noqa: BLE001  strange files raise errors of every kind
        return False


class OmeSource:
    """The first image of an OME-TIFF: 8-bit RGB, interleaved, sub-resolutions as levels.

    Args:
        path: the slide's file.

    Raises:
        UnreadableSlideError: the file holds something else, such as fluorescence, or is
            stored in blocks too large.
    """

    vendor = "ome-tiff"

    def __init__(self, path: Path) -> None:
        self._file = io.FileIO(path)
        try:
            self._open(path)
        except UnreadableSlideError:
            self.close()
            raise
        except Exception as error:  # noqa: BLE001  strange files raise errors of every kind
            self.close()
            reason = one_line(path, error)
            raise UnreadableSlideError(path, f"an OME-TIFF that cannot be read: {reason}") from None

    def _open(self, path: Path) -> None:
        # A file may name other files, and no path from inside a file is followed.
        with tifffile.TiffFile(path, _multifile=False) as file:
            pages = [_page(path, level) for level in file.series[0].levels]
            if any(page.parent is not file for page in pages):
                raise UnreadableSlideError(
                    path, "an OME-TIFF in several files; write it again as one"
                )
            # Pixels are read later, when this file is closed.
            for page in pages:
                read_ahead(page)
            sizes = [(page.imagewidth, page.imagelength) for page in pages]
            self.levels: list[Level] = make_levels(sizes)
            self.properties: Mapping[str, str] = _properties(pages[0], file.ome_metadata or "")
            self._blocks = [TiffBlocks(page, self._file) for page in pages]

    def close(self) -> None:
        self._file.close()

    def blocks(self, level: int) -> TiffBlocks:
        return self._blocks[level]

    def window(
        self, level: int, left: int, top: int, width: int, height: int
    ) -> tuple[RgbPixels, float, float]:
        raise AssertionError("every level of an OME-TIFF has blocks")


def _page(path: Path, level: tifffile.TiffPageSeries) -> tifffile.TiffPage:
    page = level.keyframe
    if level.axes != "YXS" or level.dtype != np.uint8 or page.samplesperpixel < 3:
        shape = " x ".join(str(length) for length in level.shape)
        raise UnreadableSlideError(
            path, f"an OME-TIFF of {shape} ({level.axes}, {level.dtype}); only 8-bit RGB is read"
        )
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
    return page


def _properties(page: tifffile.TiffPage, description: str) -> dict[str, str]:
    """The keys that OpenSlide would give, as far as a TIFF has them."""
    properties = {"tiff.ImageDescription": description}
    for axis in "XY":
        tag = page.tags.get(f"{axis}Resolution")
        # A fraction, whose denominator some writers leave at 0.
        if tag is not None and tag.value[1]:
            properties[f"tiff.{axis}Resolution"] = repr(tag.value[0] / tag.value[1])
    unit = page.tags.get("ResolutionUnit")
    properties["tiff.ResolutionUnit"] = UNITS.get(int(unit.value), "") if unit else ""
    return properties
