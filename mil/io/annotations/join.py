"""Geometry of drawn objects: repaired, joined, and cut out of each other, within bounds.

GEOS cannot be stopped, and takes minutes where outlines cross each other or themselves many
times. An outline that does so is left out by a count, the same on every machine; all else of
more than a few corners runs in a process with limits (see `mil.io.guard`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon, make_valid
from shapely.geometry.base import BaseGeometry

from mil.errors import FormatError
from mil.io.annotations.objects import Drawn, Ring
from mil.io.guard import run_guarded

# Crossings of an outline with itself up to which it is repaired. Drawn by hand it has
# some; at this number the repair takes half a second.
MOST_CROSSINGS = 1000
# Pairs of sides that are tried to count crossings.
PAIRS = 1_000_000
# Corners of a file up to which no process of its own is needed.
FEW_CORNERS = 200


def repaired(path: Path, drawn: Sequence[Drawn]) -> tuple[list[MultiPolygon], list[str]]:
    """Area of each object, level-0 pixels, and a sentence about each that has none.

    Raises:
        FormatError: The objects are too complicated.
    """
    if sum(item.corners for item in drawn) <= FEW_CORNERS:
        areas, faults = _repair(drawn)
    else:
        sent = _guarded(_repair_apart, drawn, path=path)
        areas = [shapely.from_wkb(area) for area in sent[0]]
        faults = sent[1]
    return areas, faults


def joined(
    path: Path, regions: Sequence[BaseGeometry], holes: Sequence[BaseGeometry]
) -> MultiPolygon:
    """Union of regions without the union of holes.

    Raises:
        FormatError: They are too complicated.
    """
    corners = sum(shapely.get_num_coordinates(item) for item in (*regions, *holes))
    if corners <= FEW_CORNERS:
        return _join(regions, holes)
    area = shapely.from_wkb(_guarded(_join_apart, regions, holes, path=path))
    assert isinstance(area, MultiPolygon)
    return area


def _guarded(function, *arguments, path):  # type: ignore[no-untyped-def]
    try:
        return run_guarded(function, *arguments, path=path)
    except FormatError as error:
        raise FormatError(
            f"{path}: its regions are too complicated to be joined; simplify them "
            f"({str(error).removeprefix(f'{path}: ').partition(';')[0]})"
        ) from None


def _repair(drawn: Sequence[Drawn]) -> tuple[list[MultiPolygon], list[str]]:
    areas = []
    faults = []
    for item in drawn:
        parts = []
        for rings in item.polygons:
            polygon = Polygon(rings[0], rings[1:])
            # The check ends at the first crossing; the count is slow.
            if not polygon.is_valid:
                crossings = _crossings(rings)
                if crossings > MOST_CROSSINGS:
                    faults.append(
                        f"{item.label}: its outline crosses itself some {crossings} times, too often"
                    )
                    continue
            parts.append(polygon)
        area = polygons_of([make_valid(part) for part in parts])
        if parts and not area.geoms:
            faults.append(f"{item.label}: its corners lie on a line")
        areas.append(area)
    return areas, faults


def _repair_apart(drawn: Sequence[Drawn]) -> tuple[list[str], list[str]]:
    areas, faults = _repair(drawn)
    return [shapely.to_wkb(area, hex=True) for area in areas], faults


def _join(regions: Sequence[BaseGeometry], holes: Sequence[BaseGeometry]) -> MultiPolygon:
    union = shapely.union_all(list(regions))
    return polygons_of([union.difference(shapely.union_all(list(holes))) if holes else union])


def _join_apart(regions: Sequence[BaseGeometry], holes: Sequence[BaseGeometry]) -> str:
    return str(shapely.to_wkb(_join(regions, holes), hex=True))


def polygons_of(geometries: Sequence[BaseGeometry]) -> MultiPolygon:
    """The polygons of geometries, however deep their collections."""
    parts = list(geometries)
    while any(hasattr(part, "geoms") for part in parts):
        parts = [inner for part in parts for inner in getattr(part, "geoms", [part])]
    return MultiPolygon([part for part in parts if isinstance(part, Polygon) and not part.is_empty])


def _crossings(rings: Sequence[Ring]) -> int:
    """Number of crossings of sides, of many corners estimated from every so-manieth side."""
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    step = -(-len(starts) ** 2 // PAIRS)
    count = 0
    for number in range(0, len(starts), step):
        a, b = starts[number], ends[number]
        # Proper crossings only: sides that share a corner do not count.
        apart = _side(a, b, starts) * _side(a, b, ends) < 0
        apart &= _side(starts, ends, a) * _side(starts, ends, b) < 0
        count += int(apart.sum())
    return count * step // 2


def _side(a: np.ndarray, b: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Positive, negative or 0: left of the line from a to b, right of it, on it."""
    along = b - a
    to_point = point - a
    return np.sign(along[..., 0] * to_point[..., 1] - along[..., 1] * to_point[..., 0])
