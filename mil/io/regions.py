"""Regions that users drew, as a mask on a grid over a slide: outlines or pictures, of any size.

Everywhere the same rule: a pixel of the grid is inside when its centre is.
`mil.tile.tissue.outlines` draws between the centres, so a mask survives being written
as an outline and read again.
"""

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from mil.io.annotations import read_annotation
from mil.io.slides.tiff import COMPRESSIONS, J2K

OUTLINES = (".geojson", ".json", ".xml")
PICTURES = (".png", ".tif", ".tiff")
PROPORTION = 0.01  # how far a picture's sides may be from the slide's
STRIP_PX = 512  # of a PNG, looked at in one piece
LARGEST_BLOCK_BYTES = 256 << 20  # of a TIFF, decoded in one piece
LARGEST_PX = 100_000_000_000  # of a TIFF; the largest slides have some tens of thousand million
CROSSINGS = 4_000_000  # of outlines with rows of the grid, found in one piece
ALPHA = (1, 2)  # values of TIFF's tag ExtraSamples

Block = tuple[
    np.ndarray, int, int
]  # inside or not [height, width], and its top and left in the picture
# What decoders raise on damaged or hostile files.
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
    """A grid over the slide; `pitch_px` is the size of its pixels. All in level-0 pixels, (x, y)."""

    shape: tuple[int, int]
    origin_px: tuple[int, int]
    pitch_px: tuple[float, float]

    def steps(
        self, axis: int, start_px: int, length_px: int, count: int
    ) -> Int[np.ndarray, " pixels"]:
        """For each column (axis 0) or row (1) of the grid, the column or row of a picture that its centre lies in.

        Args:
            axis: 0 or 1.
            start_px: where the picture begins.
            length_px: how far it reaches.
            count: of the picture's pixels along the axis.
        """
        centres = (
            self.origin_px[axis] + (np.arange(self.shape[1 - axis]) + 0.5) * self.pitch_px[axis]
        )
        return np.floor((centres - start_px) * count / length_px).astype(np.int64)


@dataclass(frozen=True)
class _Picture:
    """An open picture: sizes (width, height) of its levels, and the blocks of one of them."""

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
    """What lies inside the regions of a file, on a grid over the scanned part of a slide.

    A picture spans the scanned part or the whole slide, whichever its proportion fits;
    what is not zero is inside.

    Args:
        path: .geojson, .json or .xml (see `mil.io.annotations`), or .png, .tif, .tiff.
        origin_px: where the scanned part begins, level-0 pixels; the grid begins there
            too.
        extent_px: width and height of the scanned part, level-0 pixels.
        size_px: width and height of the whole slide, level-0 pixels.
        shape: rows and columns of the grid.
        pitch_px: level-0 pixels per pixel of the grid, whose last row and column may
            hang over; None: the grid ends where the scanned part does.
        geojson_frame: what GeoJSON counts from: the corner of the `scanned` part, as
            QuPath does, or of the `slide`.

    Raises:
        FormatError: the file cannot be read, or a picture's proportion is not the
            slide's.
    """
    pitch = (
        (extent_px[0] / shape[1], extent_px[1] / shape[0])
        if pitch_px is None
        else (pitch_px, pitch_px)
    )
    grid = _Grid(shape, origin_px, pitch)
    suffix = path.suffix.lower()
    if suffix in OUTLINES:
        regions = read_annotation(path, origin_px if geojson_frame == "scanned" else (0, 0))
        return rasterise(regions, origin_px, pitch, shape)
    if suffix not in PICTURES:
        kinds = ", ".join((*OUTLINES, *PICTURES))
        raise FormatError(f"{path}: a mask is one of {kinds}, not {path.suffix or 'this'}")
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        with _png(path) if suffix == ".png" else _tiff(path) as picture:
            return _sampled(path, picture, grid, [(origin_px, extent_px), ((0, 0), size_px)])
    except FormatError:
        raise
    except DAMAGE as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise FormatError(f"{path}: not a picture that can be read: {why}") from None


def rasterise(
    regions: MultiPolygon,
    origin_px: tuple[int, int],
    pitch_px: tuple[float, float],
    shape: tuple[int, int],
) -> Bool[np.ndarray, "height width"]:
    """Pixels of a grid whose centres lie inside polygons, holes left out.

    Args:
        regions: valid polygons, level-0 pixels.
        origin_px: where the grid begins, level-0 pixels.
        pitch_px: width and height of its pixels, level-0 pixels.
        shape: its rows and columns.
    """
    height, width = shape
    # Along a row, every border that is crossed changes inside to outside or back.
    borders = np.zeros((height, width + 1), np.uint8)
    corners, ring = shapely.get_coordinates(
        shapely.get_rings(shapely.get_parts(regions)), return_index=True
    )
    corners = (corners - origin_px) / pitch_px - 0.5  # now centres are whole numbers
    edges = np.stack([corners[:-1], corners[1:]], axis=1)[ring[1:] == ring[:-1]]
    edges = np.where(edges[:, :1, 1:] > edges[:, 1:, 1:], edges[:, ::-1], edges)  # downwards
    first, last = (np.ceil(edges[:, end, 1]).clip(0, height).astype(np.int64) for end in (0, 1))
    total = np.cumsum(last - first)
    pieces = np.searchsorted(total, np.arange(CROSSINGS, total[-1:].sum(), CROSSINGS))
    for part in np.split(np.arange(len(edges)), pieces):
        row, column = _crossings(edges[part], first[part], last[part])
        np.add.at(
            borders, (row, column.clip(0, width)), 1
        )  # may wrap round: only odd or even matters
    return np.bitwise_xor.accumulate(borders & 1, axis=1)[:, :width].astype(bool)


def _crossings(
    edges: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that edges cross, and the first column whose centre is not left of the crossing."""
    count = last - first
    edge = np.repeat(np.arange(len(edges)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    (x0, y0), (x1, y1) = edges[edge, 0].T, edges[edge, 1].T
    return row, np.ceil(x0 + (row - y0) / (y1 - y0) * (x1 - x0)).astype(np.int64)


def _sampled(
    path: Path, picture: _Picture, grid: _Grid, spans: list[tuple[tuple[int, int], tuple[int, int]]]
) -> Bool[np.ndarray, "height width"]:
    """The picture's pixels at the centres of the grid's, read block by block."""
    (left, top), (width, height) = _span(path, picture.levels[0], spans)
    fine = [
        n
        for n, size in enumerate(picture.levels)
        if width / size[0] <= grid.pitch_px[0] * (1 + PROPORTION)
    ]
    level = max(fine, default=0)
    columns = grid.steps(0, left, width, picture.levels[level][0])
    rows = grid.steps(1, top, height, picture.levels[level][1])
    mask = np.zeros(grid.shape, bool)
    for inside, block_top, block_left in picture.blocks(level):
        down = slice(*np.searchsorted(rows, (block_top, block_top + inside.shape[0])))
        across = slice(*np.searchsorted(columns, (block_left, block_left + inside.shape[1])))
        mask[down, across] |= inside[np.ix_(rows[down] - block_top, columns[across] - block_left)]
    return mask


def _span(
    path: Path, size: tuple[int, int], spans: list[tuple[tuple[int, int], tuple[int, int]]]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What of the slide a picture shows: the span whose proportion is nearest to its own."""
    off = [abs(size[0] * span[1] / (size[1] * span[0]) - 1) for _, span in spans]
    if min(off) > PROPORTION + 0.5 / min(size):  # sides are rounded to whole pixels
        (_, (width, height)), (_, (whole_width, whole_height)) = spans
        raise FormatError(
            f"{path}: a picture of {size[0]} x {size[1]} pixels has neither the proportion of "
            "the slide "
            f"({whole_width} x {whole_height}) nor of its scanned part ({width} x {height}); "
            "export it uncropped"
        )
    return spans[off.index(min(off))]


@contextmanager
def _png(path: Path) -> Iterator[_Picture]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=["PNG"]) as image:
            yield _Picture([image.size], lambda _: _strips(image))


def _strips(image: Image.Image) -> Iterator[Block]:
    for top in range(0, image.height, STRIP_PX):
        pixels = np.asarray(image.crop((0, top, image.width, min(top + STRIP_PX, image.height))))
        yield _inside(pixels, alpha=image.mode in ("LA", "PA", "RGBA")), top, 0


@contextmanager
def _tiff(path: Path) -> Iterator[_Picture]:
    with tifffile.TiffFile(path) as file:
        pages = _levels(file)
        sizes = sorted(pages, reverse=True)
        yield _Picture(
            sizes,
            lambda level: (block for page in pages[sizes[level]] for block in _segments(page)),
        )


def _levels(file: tifffile.TiffFile) -> dict[tuple[int, int], list[tifffile.TiffPage]]:
    """Pages by size: all that have the proportion of the first, whether chained or below it; channels share a size."""
    every = [inner for page in file.pages for inner in (page, *(page.pages or ()))]
    width = every[0].imagewidth
    height = every[0].imagelength
    if not 0 < width * height <= LARGEST_PX:
        raise ValueError(f"it claims {width} x {height} pixels")
    pages: dict[tuple[int, int], list[Any]] = {}
    for page in every:
        size = page.imagewidth, page.imagelength
        if 0 < size[0] <= width and 0 < size[1] <= height:
            off = abs(size[0] * height / (size[1] * width) - 1)
            if off <= PROPORTION + 1 / min(size):
                pages.setdefault(size, []).append(page)
    return pages


def _segments(page: tifffile.TiffPage) -> Iterator[Block]:
    block = int(np.prod(page.chunks)) * np.dtype(page.dtype).itemsize
    if block > LARGEST_BLOCK_BYTES:
        raise ValueError(f"{block / 1e6:.0f} MB in one piece; save it as a tiled TIFF")
    if page.compression not in COMPRESSIONS - J2K:
        raise ValueError(
            f"compressed as {tifffile.COMPRESSION(page.compression).name}; save it with LZW or "
            "deflate"
        )
    alpha = page.planarconfig == 1 and bool(page.extrasamples) and page.extrasamples[-1] in ALPHA
    for pixels, (_, _, top, left, _), _ in page.segments(maxworkers=1, buffersize=1 << 24):
        if pixels is not None:
            yield _inside(pixels[0], alpha=alpha), top, left


def _inside(pixels: np.ndarray, *, alpha: bool) -> Bool[np.ndarray, "height width"]:
    """Where any channel is neither zero nor nothing, and not transparent. Palettes count by number, as QuPath's do."""
    set_ = (pixels != 0) & (pixels == pixels)
    if set_.ndim == 2:
        return set_
    return set_[..., :-1].any(-1) & set_[..., -1] if alpha else set_.any(-1)
