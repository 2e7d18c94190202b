"""Regions of the most attended tiles, as polygons."""

from typing import NamedTuple

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from mil.heatmap.grid import TileGrid, cell_means

# Percentiles of attention from which tiles are inside.
LEVELS = (80, 90, 95)
# Digits after the point of a corner, pixels of level 0.
DECIMALS = 2


class Contour(NamedTuple):
    """Tiles from a percentile on.

    Attributes:
        level: The percentile.
        region: Union of their footprints, pixels of level 0.
        tiles: Which tiles are inside.
    """

    level: int
    region: MultiPolygon
    tiles: Bool[np.ndarray, " tiles"]


def contours_of(
    corners: Int[np.ndarray, "tiles 2"],
    side: float,
    grid: TileGrid,
    percentiles: Float[np.ndarray, " tiles"],
) -> list[Contour]:
    """Contours at each of `LEVELS`; those without a tile are left out.

    Args:
        corners: Top left corners of the tiles, pixels of level 0.
        side: Side of a tile.
        grid: Grid of the tiles.
        percentiles: Percentile of each tile's attention, 0..100.
    """
    contours = []
    for level in LEVELS:
        inside = percentiles >= level
        if inside.any():
            boxes = _runs(grid, inside) if grid.is_exact else _squares(corners[inside], side)
            contours.append(Contour(level, _united(boxes), inside))
    return contours


def _runs(grid: TileGrid, inside: Bool[np.ndarray, " tiles"]) -> np.ndarray:
    """Boxes of neighbouring cells of a row that tiles cover: far fewer than the tiles."""
    lit = ~np.isnan(cell_means(grid, np.where(inside, 0.0, np.nan)))
    padded = np.pad(lit, ((0, 0), (1, 1))).astype(np.int8)
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    x, y = (grid.edges(axis).round(DECIMALS) for axis in (0, 1))
    return shapely.box(x[starts], y[rows], x[ends], y[rows + 1], ccw=False)


def _squares(corners: np.ndarray, side: float) -> np.ndarray:
    last = (corners + side).round(DECIMALS)
    return shapely.box(corners[:, 0], corners[:, 1], last[:, 0], last[:, 1], ccw=False)


def _united(boxes: np.ndarray) -> MultiPolygon:
    """Union of boxes, without the corners that lie on a straight line."""
    union: BaseGeometry = shapely.union_all(boxes)
    simple = shapely.simplify(union, 0)
    return MultiPolygon([simple]) if isinstance(simple, Polygon) else simple
