"""Proof that blocks decoded without OpenSlide are the pixels that OpenSlide gives."""

from typing import NamedTuple

import numpy as np
import tifffile

from mil.io.slides.blocks import RgbPixels
from mil.io.slides.headers import kind_of
from mil.io.slides.levels import Level
from mil.io.slides.openslide_source import ROUNDING, OpenSlideSource
from mil.io.slides.tiff import TiffBlocks, same_pixels
from mil.io.slides.tiff_pages import UPRIGHT, TiffPages, is_plain, orientation_of

# On how many blocks of a level a decoder must agree with OpenSlide, of how many that are
# tried.
PROBES = 2
PROBES_TRIED = 5 * PROBES
# OpenSlide mixes neighbouring pixels when a block does not begin on a whole pixel. At
# this distance or less the mixture does not show.
NO_MIXTURE = 1e-3
# Values of TIFF's tag Orientation with the first column at the right, and with the first
# row at the bottom.
MIRRORED_X = (2, 3, 6, 7)
MIRRORED_Y = (3, 4, 7, 8)


class Comparison(NamedTuple):
    """Outcome for a level: its blocks, if they are read without OpenSlide, and a remark."""

    blocks: TiffBlocks | None
    remark: str = ""


def fast_blocks(pages: TiffPages, source: OpenSlideSource, number: int) -> Comparison:
    """A level's blocks without OpenSlide.

    Args:
        pages: pages of the TIFF.
        source: the slide as OpenSlide sees it.
        number: number of the level.

    Returns:
        The blocks; None unless the level's page is known and plain, and probes of it
        agree with OpenSlide. If they do not, that is the remark.
    """
    disagrees = False
    for page in pages.pages:
        if not (_may_be_level(page, source, number) and is_plain(page)):
            continue
        blocks = _blocks_of(page, pages, source, number)
        if blocks is None:
            continue
        agrees = _agrees_with_openslide(blocks, orientation_of(page), source, number)
        if agrees:
            return Comparison(blocks)
        disagrees |= agrees is False
    if disagrees:
        return Comparison(
            None,
            f"level {number} gives other pixels when it is decoded without OpenSlide; OpenSlide's "
            "are used",
        )
    return Comparison(None)


def _blocks_of(
    page: tifffile.TiffPage, pages: TiffPages, source: OpenSlideSource, number: int
) -> TiffBlocks | None:
    def reference(column: int, row: int) -> RgbPixels:
        return _through_openslide(source, number, blocks, column, row)

    # OpenSlide turns every block of such a page by itself.
    turned = orientation_of(page) != UPRIGHT
    try:
        blocks = TiffBlocks(page, pages.file, None if turned else reference)
    except Exception:  # noqa: BLE001  a page that tifffile cannot make sense of
        return None
    return blocks


def _may_be_level(page: tifffile.TiffPage, source: OpenSlideSource, number: int) -> bool:
    """Whether a page is as large as a level.

    Philips pads its pages to whole tiles, so that several small pages may fit a level.
    """
    level = source.levels[number]
    excess_x = page.imagewidth - level.width_px
    excess_y = page.imagelength - level.height_px
    fits = (excess_x, excess_y) == (0, 0)
    if source.vendor == "philips":
        fits |= 0 <= excess_x < page.tilewidth and 0 <= excess_y < page.tilelength
    return fits


def _agrees_with_openslide(
    blocks: TiffBlocks, orientation: int, source: OpenSlideSource, number: int
) -> bool | None:
    """Compare the longest blocks, which are the least likely to be plain glass.

    Returns:
        Whether all that could be compared agree; None where none could.
    """
    compared = 0
    for index in _probes(blocks, source.levels[number], source.ratios[number]):
        row, column = divmod(index, blocks.columns)
        try:
            expected = _through_openslide(source, number, blocks, column, row)
            data = blocks.fetch(index)
            pixels = blocks.decode(data, index)
        except Exception:  # noqa: BLE001  a damaged block proves nothing; take the next
            continue
        turned = _turned_as_by_libtiff(pixels, orientation)
        if not (same_pixels(pixels, expected) or same_pixels(turned, expected)):
            return False
        blocks.same_kinds.add(kind_of(data))
        compared += 1
        if compared == PROBES:
            break
    return True if compared else None


def _turned_as_by_libtiff(pixels: RgbPixels, orientation: int) -> RgbPixels:
    """A block as libtiff mirrors it, which knows no transposition, for OpenSlide."""
    if orientation in MIRRORED_X:
        pixels = pixels[:, ::-1]
    if orientation in MIRRORED_Y:
        pixels = pixels[::-1]
    return pixels


def _probes(blocks: TiffBlocks, level: Level, ratio: float) -> list[int]:
    """Indices of the longest blocks that OpenSlide reads without mixing pixels."""
    rows, columns = np.divmod(np.arange(len(blocks.counts)), blocks.columns)
    x = columns * blocks.width_px
    y = rows * blocks.height_px
    on_pixel_x = np.mod(x * ratio + ROUNDING, 1) < NO_MIXTURE
    on_pixel_y = np.mod(y * ratio + ROUNDING, 1) < NO_MIXTURE
    inside = (x < level.width_px) & (y < level.height_px)
    # OpenSlide must not be asked for what the file cannot hold: it would allocate it.
    stored = (blocks.counts > 0) & ~blocks.beyond_end()
    usable = np.flatnonzero(on_pixel_x & on_pixel_y & inside & stored)
    # Stable, so that the choice among equally long blocks is the same everywhere.
    longest = np.argsort(-blocks.counts[usable].astype(np.int64), kind="stable")
    indices: list[int] = usable[longest][:PROBES_TRIED].tolist()
    return indices


def _through_openslide(
    source: OpenSlideSource, number: int, blocks: TiffBlocks, column: int, row: int
) -> RgbPixels:
    level = source.levels[number]
    left = column * blocks.width_px
    top = row * blocks.height_px
    width = min(blocks.width_px, level.width_px - left)
    height = min(blocks.height_px, level.height_px - top)
    pixels, _, _ = source.window(number, left, top, width, height)
    return pixels
