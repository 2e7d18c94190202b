"""Tiles as cells of a regular grid, and values of tiles as a raster. No torch."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

# Tiles of a regular grid begin at whole fractions of their side: with overlap a half, a
# third or a quarter of it.
MOST_SPAN = 4
# Coordinates are rounded to whole pixels, so that two on one grid differ by one at most.
ROUNDING = 1.0 + 1e-6
# Below this side, rounded coordinates fit any grid.
LEAST_CELL = 8.0
# Cells of a raster; the largest sections have 2 million tiles.
MOST_CELLS = 16_000_000
# Pixels that are painted at a time.
CHUNK_PIXELS = 1 << 21

Point = tuple[float | int, float | int]


class TileGrid(NamedTuple):
    """A grid of square cells, and the cells that each tile covers.

    Lengths are in the unit of the positions: pixels of level 0, or micrometres.
    """

    # Top left corner of the first cell, (x, y).
    corner: Point
    cell: float
    # Column and row of the first cell of each tile.
    first: Int[np.ndarray, "tiles 2"]
    # Cells along a side of a tile.
    span: int
    # Columns and rows.
    size: tuple[int, int]
    # Whether tiles begin and end at edges of cells; else they are moved to the nearest.
    is_exact: bool

    def edges(self, axis: int) -> Float[np.ndarray, " edges"]:
        """Edges of the cells, from the first to the last, along x (0) or y (1)."""
        return self.corner[axis] + np.arange(self.size[axis] + 1) * self.cell


def grid_of(
    corners: Float[np.ndarray, "tiles 2"] | Int[np.ndarray, "tiles 2"],
    side: float,
    start: Point,
    end: Point | None = None,
) -> TileGrid:
    """Grid of the tiles, which begins at `start` or within half a cell of it.

    Cells are as large as a tile, or the whole fraction of it by which tiles overlap. Tiles
    that lie on no grid (those of CLAM begin anew at each piece of tissue) are moved to
    cells of a quarter of their side.

    Args:
        corners: Top left corners of the tiles, (x, y); at least one.
        side: Side of a tile.
        start: Top left corner of what the grid covers, (x, y).
        end: Its lower right corner; None: the last tile's.
    """
    for span in range(1, MOST_SPAN + 1):
        cell = side / span
        if cell < LEAST_CELL:
            break
        origin = [_origin(corners[:, axis], cell, float(start[axis])) for axis in (0, 1)]
        if None not in origin:
            return _laid_out(corners, side, np.array(origin, float), cell, start, end)
    anywhere = np.array(start, float)
    return _laid_out(corners, side, anywhere, side / MOST_SPAN, start, end, is_exact=False)


def _origin(places: np.ndarray, cell: float, start: float) -> float | None:
    """A place of the grid that all tiles lie on; None where there is no such grid."""

    def beyond(origin: float) -> np.ndarray:
        return places - origin - np.rint((places - origin) / cell) * cell

    # Tiles of ours begin at the corner of the scanned part, exactly.
    if np.abs(beyond(start)).max() <= ROUNDING / 2:
        return start
    around = beyond(float(places[0]))
    if np.ptp(around) > ROUNDING:
        return None
    return float(places[0] + (around.max() + around.min()) / 2)


def _laid_out(
    corners: np.ndarray,
    side: float,
    origin: Float[np.ndarray, "2"],
    cell: float,
    start: Point,
    end: Point | None,
    *,
    is_exact: bool = True,
) -> TileGrid:
    """The grid of an origin, its first cell moved to the start of what it covers."""
    far = corners.max(0) + side if end is None else np.maximum(corners.max(0) + side, end)
    near = np.minimum(corners.min(0), start)
    while np.prod((far - near) / cell + 2) > MOST_CELLS:
        cell *= 2
        is_exact = False
    # The first cell begins within half a cell of the start, or at the first tile.
    begin = np.minimum(np.rint((start - origin) / cell), np.rint((corners.min(0) - origin) / cell))
    corner = origin + begin * cell
    first = np.rint((corners - corner) / cell).astype(np.int64)
    span = max(1, round(side / cell))
    size = np.maximum(first.max(0) + span, np.rint((far - corner) / cell).astype(np.int64))
    return TileGrid(
        (float(corner[0]), float(corner[1])),
        cell,
        first,
        span,
        (int(size[0]), int(size[1])),
        is_exact,
    )


def cell_means(
    grid: TileGrid, values: Float[np.ndarray, " tiles"]
) -> Float[np.ndarray, "rows columns"]:
    """Mean over the tiles that cover a cell; NaN where none does."""
    return covered_means(grid.first, grid.first + grid.span, values, grid.size)


def spread(
    cells: Shaped[np.ndarray, "rows columns *rest"],
    x: Int[np.ndarray, " edges_x"],
    y: Int[np.ndarray, " edges_y"],
) -> Shaped[np.ndarray, "height width *rest"]:
    """Cells as pixels.

    Args:
        cells: Content of the cells.
        x: Edges of the columns, whole pixels, rising.
        y: Edges of the rows.
    """
    return np.repeat(np.repeat(cells, np.diff(x), axis=1), np.diff(y), axis=0)


def covered_means(
    first: Int[np.ndarray, "tiles 2"],
    last: Int[np.ndarray, "tiles 2"],
    values: Float[np.ndarray, " tiles"],
    size: tuple[int, int],
) -> Float[np.ndarray, "height width"]:
    """Mean over the tiles that cover a pixel; NaN where none does.

    Tiles that overlap are averaged, so that their order does not matter and equal values
    give one value everywhere.

    Args:
        first: Left and upper edge of each tile, whole pixels.
        last: Right and lower edge; what lies outside the raster is cut off.
        values: Value of each tile; tiles of NaN are left out.
        size: Width and height of the raster.
    """
    known = np.isfinite(values)
    first = first[known].clip(0, size)
    last = last[known].clip(0, size)
    values = values[known]
    counts = _counts(first, last, size)
    raster = np.zeros(size[0] * size[1])
    add = np.add.at if counts.max(initial=0) > 1 else _put
    for index, tiles in _pixels(first, last, size[0]):
        add(raster, index, np.broadcast_to(values[tiles, None], index.shape))
    counted = counts.ravel()
    raster /= np.maximum(counted, 1)
    raster[counted == 0] = np.nan
    return raster.reshape(size[1], size[0])


def _put(raster: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    raster[index] = values


def _counts(first: np.ndarray, last: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Number of tiles that cover each pixel: sums of what begins and ends before it."""
    steps = np.zeros((size[1] + 1, size[0] + 1), np.int32)
    for x, y, step in (
        (first[:, 0], first[:, 1], 1),
        (last[:, 0], first[:, 1], -1),
        (first[:, 0], last[:, 1], -1),
        (last[:, 0], last[:, 1], 1),
    ):
        np.add.at(steps, (y, x), step)
    np.cumsum(steps, axis=0, out=steps)
    np.cumsum(steps, axis=1, out=steps)
    return steps[:-1, :-1]


def _pixels(
    first: np.ndarray, last: np.ndarray, width: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Flat indices of the pixels of tiles, a row a tile, for tiles of one size at a time."""
    sizes = (last - first).clip(0)
    start = first[:, 1] * width + first[:, 0]
    kinds, kind_of = np.unique(sizes, axis=0, return_inverse=True)
    for number, (columns, rows) in enumerate(kinds.tolist()):
        if not columns * rows:
            continue
        offsets = (np.arange(rows)[:, None] * width + np.arange(columns)).ravel()
        tiles = np.flatnonzero(kind_of.ravel() == number)
        step = max(1, CHUNK_PIXELS // len(offsets))
        for begin in range(0, len(tiles), step):
            chunk = tiles[begin : begin + step]
            yield start[chunk, None] + offsets, chunk
