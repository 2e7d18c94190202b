"""Regions that users drew, as a mask on a grid over a slide: outlines or images, of any size.

One rule holds everywhere: a pixel of the grid is inside when its centre is.
`mil.tile.outlines` draws between the centres, so a mask survives being written
as an outline and read again.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Bool, Int
from PIL import Image
from shapely import MultiPolygon

from mil.config.datasets import GeojsonFrame
from mil.errors import FormatError
from mil.io.annotations import SUFFIXES, read_annotation
from mil.io.mask_images import PROPORTION, MaskImage, deviation, open_png, open_tiff

OUTLINES = SUFFIXES
IMAGES = (".png", ".tif", ".tiff")
# Crossings of outlines with rows of the grid that are computed at once.
CROSSINGS = 4_000_000
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
        with open_png(path) if suffix == ".png" else open_tiff(path) as image:
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
    path: Path, image: MaskImage, grid: _Grid, spans: list[Span]
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
    deviations = [deviation(size, span_size) for _, span_size in spans]
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
