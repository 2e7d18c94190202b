"""Plain OME-TIFF, whose pyramids OpenSlide does not see."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile

from mil.errors import UnreadableSlideError
from mil.io.slides.blocks import LARGEST_BLOCK_BYTES, Pixels
from mil.io.slides.faults import said_of
from mil.io.slides.levels import Level, make_levels
from mil.io.slides.tiff import TiffBlocks, read_ahead


def is_ome(path: Path) -> bool:
    """Whether a file says of itself that it is OME-TIFF."""
    try:
        with tifffile.TiffFile(path, _multifile=False) as file:
            return bool(file.is_ome)
    except Exception:  # noqa: BLE001  strange files raise errors of every kind
        return False


class OmeSource:
    """The first image of an OME-TIFF: 8-bit RGB, colours side by side, sub-resolutions as levels.

    Raises:
        UnreadableSlideError: it holds something else, such as fluorescence, or is
            stored in pieces too large.
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
            said = said_of(path, error)
            raise UnreadableSlideError(path, f"an OME-TIFF that cannot be read: {said}") from None

    def _open(self, path: Path) -> None:
        with tifffile.TiffFile(
            path, _multifile=False
        ) as file:  # a file may name others, and no path is to be followed
            pages = [_page(path, level) for level in file.series[0].levels]
            if any(page.parent is not file for page in pages):
                raise UnreadableSlideError(
                    path, "an OME-TIFF in several files; write it again as one"
                )
            for page in pages:
                read_ahead(page)
            self.levels: list[Level] = make_levels(
                [(page.imagewidth, page.imagelength) for page in pages]
            )
            self.properties: Mapping[str, str] = _properties(pages[0], file.ome_metadata or "")
            self._blocks = [TiffBlocks(page, self._file) for page in pages]

    def close(self) -> None:
        self._file.close()

    def blocks(self, level: int) -> TiffBlocks:
        return self._blocks[level]

    def window(
        self, level: int, left: int, top: int, width: int, height: int
    ) -> tuple[Pixels, float, float]:
        raise AssertionError("every level of an OME-TIFF has blocks")


def _page(path: Path, level: tifffile.TiffPageSeries) -> tifffile.TiffPage:
    page = level.keyframe
    if level.axes != "YXS" or level.dtype != np.uint8 or page.samplesperpixel < 3:
        shape = " x ".join(str(length) for length in level.shape)
        raise UnreadableSlideError(
            path, f"an OME-TIFF of {shape} ({level.axes}, {level.dtype}); only 8-bit RGB is read"
        )
    width, height = (
        (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    )
    size = width * height * page.samplesperpixel
    if size > LARGEST_BLOCK_BYTES:
        raise UnreadableSlideError(
            path, f"stored in pieces of {size >> 20} MB; write it again with tiles of 512 px"
        )
    return page


def _properties(page: tifffile.TiffPage, description: str) -> dict[str, str]:
    """The keys that OpenSlide would give, as far as a TIFF has them."""
    found = {"tiff.ImageDescription": description}
    for axis in "XY":
        tag = page.tags.get(f"{axis}Resolution")
        if tag is not None and tag.value[1]:
            found[f"tiff.{axis}Resolution"] = repr(tag.value[0] / tag.value[1])
    unit = page.tags.get("ResolutionUnit")
    found["tiff.ResolutionUnit"] = {2: "inch", 3: "centimeter"}.get(
        int(unit.value) if unit else 0, ""
    )
    return found
