"""Geometry of drawn objects: repaired, joined, and cut out of each other, within bounds.

GEOS cannot be stopped, and takes minutes where outlines cross each other or themselves many
times. An outline that does so is left out by a count, the same on every machine; all else of
more than a few corners runs in a process with limits (see `mil.io.guard`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon, make_valid
from shapely.geometry.base import BaseGeometry

from mil.errors import FormatError
from mil.io.annotations.objects import Drawn, Ring, Rings
from mil.io.guard import run_guarded

# Crossings of an outline with itself up to which it is repaired. Drawn by hand it has
# some; at this number the repair takes a tenth of a second.
MOST_CROSSINGS = 500
# The same for all outlines of a file.
MOST_CROSSINGS_IN_ALL = 1000
# Pairs of sides that are tried to count crossings.
PAIRS = 1_000_000
# Corners of a file up to which no process of its own is needed: to repair them, where
# crossings are counted, and to join them.
FEW_TO_REPAIR = 2000
FEW_TO_JOIN = 200
# Limits of that process, seconds.
SECONDS_TO_REPAIR = 3.0
SECONDS_TO_JOIN = 4.0


def repaired(path: Path, drawn: Sequence[Drawn]) -> tuple[list[MultiPolygon], list[str]]:
    """Area of each object, level-0 pixels, and a sentence about each that has none.

    Raises:
        FormatError: The objects are too complicated.
    """
    if sum(item.corners for item in drawn) <= FEW_TO_REPAIR:
        areas, faults = _repair(drawn)
    else:
        sent = _guarded(_repair_apart, drawn, path=path, seconds=SECONDS_TO_REPAIR)
        areas = list(shapely.from_wkb(sent[0]))
        faults = sent[1]
    return areas, faults


def joined(
    path: Path, regions: Sequence[BaseGeometry], holes: Sequence[BaseGeometry]
) -> MultiPolygon:
    """Union of regions without the union of holes.

    Raises:
        FormatError: They are too complicated.
    """
    if len(regions) == 1 and not holes:
        return polygons_of(regions)
    corners = sum(shapely.get_num_coordinates(item) for item in (*regions, *holes))
    if corners <= FEW_TO_JOIN:
        return _join(regions, holes)
    sent = _guarded(_join_apart, regions, holes, path=path, seconds=SECONDS_TO_JOIN)
    return polygons_of([shapely.from_wkb(sent)])


def _guarded(function: Callable[..., Any], *arguments: Any, path: Path, seconds: float) -> Any:
    try:
        return run_guarded(function, *arguments, path=path, seconds=seconds)
    except FormatError as error:
        raise FormatError(
            f"{path}: its regions are too complicated to be joined; simplify them "
            f"({str(error).removeprefix(f'{path}: ').partition(';')[0]})"
        ) from None


def _repair(drawn: Sequence[Drawn]) -> tuple[list[MultiPolygon], list[str]]:
    parts: list[list[BaseGeometry]] = [[] for _ in drawn]
    faults = []
    left = MOST_CROSSINGS_IN_ALL
    owners = [number for number, item in enumerate(drawn) for _ in item.polygons]
    outlines = [rings for item in drawn for rings in item.polygons]
    polygons = _polygons(outlines)
    # The check ends at the first crossing; the count is slow.
    valid = shapely.is_valid(polygons)
    for number, rings, polygon, is_valid in zip(owners, outlines, polygons, valid, strict=True):
        crossings = 0 if is_valid else _crossings(rings)
        left -= crossings if crossings <= MOST_CROSSINGS else 0
        if crossings > MOST_CROSSINGS or left < 0:
            too_often = f"its outline crosses itself some {crossings} times, too often"
            faults.append(f"{drawn[number].label}: {too_often}")
            continue
        area = polygon if is_valid else polygons_of([make_valid(polygon)])
        if area.is_empty:
            faults.append(f"{drawn[number].label}: its corners lie on a line")
        parts[number].append(area)
    return [polygons_of(areas) for areas in parts], faults


def _polygons(outlines: Sequence[Rings]) -> list[Polygon]:
    """Polygons of rings, all at once: one by one they take most of the time."""
    if not outlines:
        return []
    rings = [ring for rings in outlines for ring in rings]
    of_ring = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    of_polygon = np.repeat(np.arange(len(outlines)), [len(rings) for rings in outlines])
    closed = shapely.linearrings(np.concatenate(rings), indices=of_ring)
    return list(shapely.polygons(closed, indices=of_polygon))


def _repair_apart(drawn: Sequence[Drawn]) -> tuple[list[str], list[str]]:
    areas, faults = _repair(drawn)
    return list(shapely.to_wkb(areas, hex=True)), faults


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
    step = -(-(len(starts) ** 2) // PAIRS)
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
