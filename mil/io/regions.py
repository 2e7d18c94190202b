"""Regions that users drew, as a mask on a grid over a slide: outlines or images, of any size.

One rule holds everywhere: a pixel of the grid is inside when its centre is.
`mil.tile.tissue.outlines` draws between the centres, so a mask survives being written
as an outline and read again.
"""

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import tifffile
from jaxtyping import Bool, Int
from PIL import Image
from shapely import MultiPolygon

from mil.config.datasets import GeojsonFrame
from mil.errors import FormatError
from mil.io.annotations import SUFFIXES, read_annotation
from mil.io.slides.blocks import LARGEST_BLOCK_BYTES
from mil.io.slides.tiff import COMPRESSIONS, J2K

OUTLINES = SUFFIXES
IMAGES = (".png", ".tif", ".tiff")
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
# Crossings of outlines with rows of the grid that are computed at once.
CROSSINGS = 4_000_000
# Bytes of compressed segments that tifffile reads at once.
BUFFER_BYTES = 1 << 24
# Values of TIFF's tag ExtraSamples that stand for transparency.
ALPHA = (1, 2)

# Inside or not [height, width], and its top and left in the image.
Block = tuple[np.ndarray, int, int]
Span = tuple[tuple[int, int], tuple[int, int]]  # corner and size, level-0 pixels
# Errors of decoders on damaged or hostile files.
DAMAGE = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    SyntaxError,
    AssertionError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class _Grid:
    """A grid over the slide, in level-0 pixels, (x, y).

    Attributes:
        shape: rows and columns.
        origin_px: corner of the grid.
        pitch_px: width and height of its pixels.
    """

    shape: tuple[int, int]
    origin_px: tuple[int, int]
    pitch_px: tuple[float, float]

    def image_pixels(
        self, axis: int, start_px: int, length_px: int, count: int
    ) -> Int[np.ndarray, " pixels"]:
        """Column (axis 0) or row (1) of an image under the centre of each of the grid's.

        Args:
            axis: 0 or 1.
            start_px: left or top edge of the image, level-0 pixels.
            length_px: width or height of the image, level-0 pixels.
            count: number of the image's pixels along the axis.
        """
        index = np.arange(self.shape[1 - axis])
        centres = self.origin_px[axis] + (index + 0.5) * self.pitch_px[axis]
        return np.floor((centres - start_px) * count / length_px).astype(np.int64)


@dataclass(frozen=True)
class _MaskImage:
    """An open image: sizes (width, height) of its levels, and the blocks of one of them."""

    levels: list[tuple[int, int]]
    blocks: Callable[[int], Iterator[Block]]


def read_mask(
    path: Path,
    *,
    origin_px: tuple[int, int],
    extent_px: tuple[int, int],
    size_px: tuple[int, int],
    shape: tuple[int, int],
    pitch_px: float | None = None,
    geojson_frame: GeojsonFrame = "scanned",
) -> Bool[np.ndarray, "height width"]:
    """The regions of a file as a mask on a grid over the scanned part of a slide.

    An image spans the scanned part or the whole slide, whichever its proportion fits;
    pixels that are not zero are inside.

    Args:
        path: .geojson, .json or .xml (see `mil.io.annotations`), or .png, .tif, .tiff.
        origin_px: corner of the scanned part and of the grid, level-0 pixels.
        extent_px: width and height of the scanned part, level-0 pixels.
        size_px: width and height of the whole slide, level-0 pixels.
        shape: rows and columns of the grid.
        pitch_px: level-0 pixels per pixel of the grid, whose last row and column may
            hang over; None: the grid ends where the scanned part does.
        geojson_frame: corner that GeoJSON counts from: that of the `scanned` part, as
            QuPath does, or of the `slide`.

    Raises:
        FormatError: the file cannot be read, or an image's proportion is not the
            slide's.
    """
    pitch = (extent_px[0] / shape[1], extent_px[1] / shape[0])
    if pitch_px is not None:
        pitch = (pitch_px, pitch_px)
    suffix = path.suffix.lower()
    if suffix in OUTLINES:
        frame_px = origin_px if geojson_frame == "scanned" else (0, 0)
        return rasterise(read_annotation(path, frame_px).everything(), origin_px, pitch, shape)
    if suffix not in IMAGES:
        kinds = ", ".join((*OUTLINES, *IMAGES))
        raise FormatError(f"{path}: a mask is one of {kinds}, not {path.suffix or 'this'}")
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    grid = _Grid(shape, origin_px, pitch)
    spans = [(origin_px, extent_px), ((0, 0), size_px)]
    try:
        with _png(path) if suffix == ".png" else _tiff(path) as image:
            return _sample(path, image, grid, spans)
    except FormatError:
        raise
    except DAMAGE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FormatError(f"{path}: not an image that can be read: {reason}") from None


def faults_of(path: Path) -> list[str]:
    """Sentence about each outline of a mask that is left out as damaged; none of images.

    Raises:
        FormatError: the file cannot be read.
    """
    return list(read_annotation(path).faults) if path.suffix.lower() in OUTLINES else []


def why_empty(
    path: Path,
    *,
    origin_px: tuple[int, int],
    extent_px: tuple[int, int],
    geojson_frame: GeojsonFrame = "scanned",
) -> str:
    """Why no pixel of a mask is inside: what its file holds, and where it lies.

    Args:
        path: a mask that `read_mask` reads.
        origin_px: corner of the scanned part, level-0 pixels.
        extent_px: width and height of the scanned part, level-0 pixels.
        geojson_frame: corner that GeoJSON counts from.
    """
    if path.suffix.lower() not in OUTLINES:
        return "all of its pixels on the slide are 0"
    annotation = read_annotation(path, origin_px if geojson_frame == "scanned" else (0, 0))
    area = annotation.everything()
    if area.is_empty:
        return f"it outlines no area; it holds {annotation.content}"
    left, top = origin_px
    right, bottom = left + extent_px[0], top + extent_px[1]
    if not area.intersects(shapely.box(left, top, right, bottom)):
        x0, y0, x1, y1 = area.bounds
        return (
            f"its regions lie beside the slide: x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f}, "
            f"the slide x {left} to {right}, y {top} to {bottom}"
        )
    return "its regions are smaller than a pixel of the tissue mask"


def rasterise(
    regions: MultiPolygon,
    origin_px: tuple[int, int],
    pitch_px: tuple[float, float],
    shape: tuple[int, int],
) -> Bool[np.ndarray, "height width"]:
    """Pixels of a grid whose centres lie inside polygons, holes left out.

    Args:
        regions: valid polygons, level-0 pixels.
        origin_px: corner of the grid, level-0 pixels.
        pitch_px: width and height of its pixels, level-0 pixels.
        shape: rows and columns of the grid.
    """
    height, width = shape
    # Along a row, every border that is crossed changes inside to outside or back.
    borders = np.zeros((height, width + 1), np.uint8)
    rings = shapely.get_rings(shapely.get_parts(regions))
    vertices, ring = shapely.get_coordinates(rings, return_index=True)
    # In pixels of the grid, where centres are now whole numbers.
    vertices = (vertices - origin_px) / pitch_px - 0.5
    same_ring = ring[1:] == ring[:-1]
    edges = np.stack([vertices[:-1], vertices[1:]], axis=1)[same_ring]
    # All edges lead downwards, so that the first row is the upper end's.
    upwards = edges[:, :1, 1:] > edges[:, 1:, 1:]
    edges = np.where(upwards, edges[:, ::-1], edges)
    first = np.ceil(edges[:, 0, 1]).clip(0, height).astype(np.int64)
    last = np.ceil(edges[:, 1, 1]).clip(0, height).astype(np.int64)
    # In parts, since a huge outline on a fine grid has more crossings than fit into
    # memory.
    total = np.cumsum(last - first)
    cuts = np.searchsorted(total, np.arange(CROSSINGS, total[-1:].sum(), CROSSINGS))
    for part in np.split(np.arange(len(edges)), cuts):
        row, column = _crossings(edges[part], first[part], last[part])
        # May wrap round: only odd or even matters.
        np.add.at(borders, (row, column.clip(0, width)), 1)
    return np.bitwise_xor.accumulate(borders & 1, axis=1)[:, :width].astype(bool)


def _crossings(
    edges: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that edges cross, and the first column whose centre is not left of the crossing."""
    count = last - first
    edge = np.repeat(np.arange(len(edges)), count)
    row_in_edge = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    row = row_in_edge + first[edge]
    x0, y0 = edges[edge, 0].T
    x1, y1 = edges[edge, 1].T
    return row, np.ceil(x0 + (row - y0) / (y1 - y0) * (x1 - x0)).astype(np.int64)


def _sample(
    path: Path, image: _MaskImage, grid: _Grid, spans: list[Span]
) -> Bool[np.ndarray, "height width"]:
    """The image's pixels at the centres of the grid's, read block by block."""
    (left, top), (width, height) = _span(path, image.levels[0], spans)
    coarsest_px = grid.pitch_px[0] * (1 + PROPORTION)
    fine = [n for n, size in enumerate(image.levels) if width / size[0] <= coarsest_px]
    level = max(fine, default=0)
    columns = grid.image_pixels(0, left, width, image.levels[level][0])
    rows = grid.image_pixels(1, top, height, image.levels[level][1])
    mask = np.zeros(grid.shape, bool)
    for inside, block_top, block_left in image.blocks(level):
        block_height, block_width = inside.shape
        down = slice(*np.searchsorted(rows, (block_top, block_top + block_height)))
        across = slice(*np.searchsorted(columns, (block_left, block_left + block_width)))
        # Or, since channels may come as blocks of their own.
        mask[down, across] |= inside[np.ix_(rows[down] - block_top, columns[across] - block_left)]
    return mask


def _span(path: Path, size: tuple[int, int], spans: list[Span]) -> Span:
    """The part of the slide that an image shows: of the nearest proportion to its own."""
    deviations = [_deviation(size, span_size) for _, span_size in spans]
    best = min(deviations)
    # Sides are rounded to whole pixels.
    if best > PROPORTION + 0.5 / min(size):
        (_, (width, height)), (_, (whole_width, whole_height)) = spans
        raise FormatError(
            f"{path}: an image of {size[0]} x {size[1]} pixels has neither the proportion of "
            f"the slide ({whole_width} x {whole_height}) nor of its scanned part ({width} x "
            f"{height}); export it uncropped"
        )
    return spans[deviations.index(best)]


def _deviation(size: tuple[int, int], other: tuple[int, int]) -> float:
    """Relative difference of the proportions of two sizes; 0: none."""
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1)


@contextmanager
def _png(path: Path) -> Iterator[_MaskImage]:
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
            yield _MaskImage([image.size], lambda _: _strips(image))


def _strips(image: Image.Image) -> Iterator[Block]:
    alpha = image.mode in ("LA", "PA", "RGBA")
    for top in range(0, image.height, STRIP_PX):
        bottom = min(top + STRIP_PX, image.height)
        pixels = np.asarray(image.crop((0, top, image.width, bottom)))
        yield _inside(pixels, alpha=alpha), top, 0


@contextmanager
def _tiff(path: Path) -> Iterator[_MaskImage]:
    with tifffile.TiffFile(path) as file:
        pages = _levels(file)
        sizes = sorted(pages, reverse=True)

        def blocks(level: int) -> Iterator[Block]:
            for page in pages[sizes[level]]:
                yield from _segments(page)

        yield _MaskImage(sizes, blocks)


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
        if fits and _deviation(size, whole) <= PROPORTION + 1 / min(size):
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
