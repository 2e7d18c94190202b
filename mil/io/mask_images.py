"""Images of masks, of any size: levels, and one level block by block."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Bool
from PIL import Image

from mil.io.slides.blocks import LARGEST_BLOCK_BYTES
from mil.io.slides.tiff_pages import COMPRESSIONS, J2K

# How far the proportion of an image's sides may be from the slide's.
PROPORTION = 0.01
# Height of the strips in which a PNG is examined, pixels.
STRIP_PX = 512
# Values of a PNG: its pixels times its channels.
LARGEST_PNG = 250_000_000
# Pixels of a TIFF; the largest slides have some tens of gigapixels.
LARGEST_PX = 100_000_000_000
# Directories of a TIFF: levels, and channels of each.
MOST_PAGES = 200
# Bytes of compressed segments that tifffile reads at once.
BUFFER_BYTES = 1 << 24
# Values of TIFF's tag ExtraSamples that stand for transparency.
ALPHA = (1, 2)
# Inside or not [height, width], and its top and left in the image.
Block = tuple[np.ndarray, int, int]


@dataclass(frozen=True)
class MaskImage:
    """An open image: sizes (width, height) of its levels, and the blocks of one of them."""

    levels: list[tuple[int, int]]
    blocks: Callable[[int], Iterator[Block]]


def deviation(size: tuple[int, int], other: tuple[int, int]) -> float:
    """Relative difference of the proportions of two sizes; 0: none."""
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1)


@contextmanager
def open_png(path: Path) -> Iterator[MaskImage]:
    """An open PNG; a ValueError, as from decoders, for one that unpacks to too much."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=["PNG"]) as image:
            # A PNG is decoded whole, and some kB of it may be so many.
            values = image.width * image.height * len(image.getbands())
            if values > LARGEST_PNG:
                raise ValueError(
                    f"{values / 1e6:.0f} MB unpacked are too much for a PNG; save it with one "
                    "channel, or as a tiled TIFF"
                )
            yield MaskImage([image.size], lambda _: _strips(image))


def _strips(image: Image.Image) -> Iterator[Block]:
    alpha = image.mode in ("LA", "PA", "RGBA")
    for top in range(0, image.height, STRIP_PX):
        bottom = min(top + STRIP_PX, image.height)
        pixels = np.asarray(image.crop((0, top, image.width, bottom)))
        yield _inside(pixels, alpha=alpha), top, 0


@contextmanager
def open_tiff(path: Path) -> Iterator[MaskImage]:
    """An open TIFF; a ValueError, as from decoders, for one of too many or too large parts."""
    with tifffile.TiffFile(path) as file:
        pages = _levels(file)
        sizes = sorted(pages, reverse=True)

        def blocks(level: int) -> Iterator[Block]:
            for page in pages[sizes[level]]:
                yield from _segments(page)

        yield MaskImage(sizes, blocks)


def _levels(file: tifffile.TiffFile) -> dict[tuple[int, int], list[tifffile.TiffPage]]:
    """Pages by size: all that have the proportion of the first, chained or below it.

    Channels share a size.
    """
    chain = (inner for page in file.pages for inner in (page, *(page.pages or ())))
    # Directories may name each other in a loop, which no reader detects.
    all_pages = list(islice(chain, MOST_PAGES + 1))
    if len(all_pages) > MOST_PAGES:
        raise ValueError(f"it has more than {MOST_PAGES} directories, or they loop")
    whole = all_pages[0].imagewidth, all_pages[0].imagelength
    width, height = whole
    if not 0 < width * height <= LARGEST_PX:
        raise ValueError(f"it claims {width} x {height} pixels")
    pages: dict[tuple[int, int], list[Any]] = {}
    for page in all_pages:
        size = page.imagewidth, page.imagelength
        fits = 0 < size[0] <= width and 0 < size[1] <= height
        # Sides of a small page are rounded to whole pixels.
        if fits and deviation(size, whole) <= PROPORTION + 1 / min(size):
            pages.setdefault(size, []).append(page)
    return pages


def _segments(page: tifffile.TiffPage) -> Iterator[Block]:
    block_bytes = int(np.prod(page.chunks)) * np.dtype(page.dtype).itemsize
    if block_bytes > LARGEST_BLOCK_BYTES:
        raise ValueError(f"{block_bytes / 1e6:.0f} MB in one piece; save it as a tiled TIFF")
    if page.compression not in COMPRESSIONS - J2K:
        name = tifffile.COMPRESSION(page.compression).name
        raise ValueError(f"compressed as {name}; save it with LZW or deflate")
    # What a block claims is allocated before it is read.
    largest = max(page.databytecounts, default=0)
    if largest > page.parent.filehandle.size:
        raise ValueError(f"a block of it claims {largest} bytes, more than the file has")
    alpha = page.planarconfig == 1 and bool(page.extrasamples) and page.extrasamples[-1] in ALPHA
    segments = page.segments(maxworkers=1, buffersize=BUFFER_BYTES)
    for pixels, (_, _, top, left, _), _ in segments:
        if pixels is not None:
            yield _inside(pixels[0], alpha=alpha), top, left


def _inside(pixels: np.ndarray, *, alpha: bool) -> Bool[np.ndarray, "height width"]:
    """Pixels with a channel that is neither zero nor NaN, and that are not transparent.

    Palettes count by number, as QuPath's do.
    """
    set_ = pixels != 0
    if pixels.dtype.kind not in "bui":
        # NaN is the only value that differs from itself; not all dtypes have `isnan`.
        set_ &= pixels == pixels
    if set_.ndim == 2:
        return set_
    return set_[..., :-1].any(-1) & set_[..., -1] if alpha else set_.any(-1)
