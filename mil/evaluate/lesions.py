"""Lesions of a slide from its annotated regions, after CAMELYON16's evaluation script."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int
from shapely import MultiPolygon, Polygon

from mil.io.guard import run_guarded

# Every region is widened by this much on all sides, so that regions closer than 75 um, some
# five tumour cells, are one lesion and a detection may lie a little beside it.
WIDENED_UM = 75 / 2
# Largest diameters of isolated tumour cells and of micrometastases, without the widening.
ITC_UM = 200.0
MICRO_UM = 2000.0
SIZES = ("itc", "micro", "macro")
# Corners of regions up to which no process of its own is needed.
FEW_CORNERS = 20_000
SECONDS = 20.0


class Lesions(NamedTuple):
    """Lesions of one slide.

    Attributes:
        areas: Widened regions without holes, level-0 pixels; no two touch.
        diameter_um: Major axis of each without the widening, micrometres.
    """

    areas: list[Polygon]
    diameter_um: Float[np.ndarray, " lesions"]

    @property
    def sizes(self) -> list[str]:
        """Size of each lesion: `itc` below 200 um, `micro` up to 2 mm, `macro` above."""
        edges = [ITC_UM, np.nextafter(MICRO_UM, np.inf)]
        return [SIZES[number] for number in np.digitize(self.diameter_um, edges)]

    @property
    def target(self) -> Bool[np.ndarray, " lesions"]:
        """Lesions that count: all but isolated tumour cells."""
        return self.diameter_um >= ITC_UM


NO_LESIONS = Lesions([], np.zeros(0))


def lesions_of(path: Path, regions: MultiPolygon, mpp: float) -> Lesions:
    """Connected annotated regions, widened, with their holes filled.

    The major axis is that of the ellipse with the same second moments. The official script
    measures it on widened regions and calls less than 275 um isolated tumour cells. It
    widens a mask of 7.8 um pixels, which reaches half a pixel less far on each side.

    Args:
        path: Annotation file, for the message.
        regions: Its positive region, level-0 pixels.
        mpp: Micrometres per pixel of level 0.

    Raises:
        FormatError: The regions are too complicated.
    """
    if regions.is_empty:
        return NO_LESIONS
    if shapely.get_num_coordinates(regions) <= FEW_CORNERS:
        areas = _areas(regions, mpp)
    else:
        text = run_guarded(_areas_apart, regions, mpp, path=path, seconds=SECONDS)
        areas = _polygons(shapely.from_wkb(text))
    axes = np.array([major_axis(area) for area in areas])
    return Lesions(areas, axes * mpp - 2 * WIDENED_UM)


def _areas(regions: MultiPolygon, mpp: float) -> list[Polygon]:
    widened = shapely.buffer(regions, WIDENED_UM / mpp)
    # Filled, a ring holds what lies in its hole.
    filled = [Polygon(part.exterior) for part in _polygons(widened)]
    return _polygons(shapely.union_all(filled))


def _areas_apart(regions: MultiPolygon, mpp: float) -> str:
    return shapely.to_wkb(MultiPolygon(_areas(regions, mpp)), hex=True)


def _polygons(geometry: shapely.Geometry) -> list[Polygon]:
    return [part for part in shapely.get_parts(geometry) if not part.is_empty]


def major_axis(area: Polygon) -> float:
    """Major axis of the ellipse with the same second moments as a polygon without holes.

    Its moments are integrals over the outline (Green's theorem). The axis is four times
    the square root of the larger variance along the principal axes.
    """
    corners = shapely.get_coordinates(area.exterior)
    # Near the origin, where differences of large numbers lose no digits.
    x, y = (corners - corners.mean(0)).T
    x0, x1, y0, y1 = x[:-1], x[1:], y[:-1], y[1:]
    cross = x0 * y1 - x1 * y0
    size = cross.sum() / 2
    centre_x = ((x0 + x1) * cross).sum() / 6 / size
    centre_y = ((y0 + y1) * cross).sum() / 6 / size
    xx = ((x0**2 + x0 * x1 + x1**2) * cross).sum() / 12 / size - centre_x**2
    yy = ((y0**2 + y0 * y1 + y1**2) * cross).sum() / 12 / size - centre_y**2
    mixed = x0 * y1 + 2 * x0 * y0 + 2 * x1 * y1 + x1 * y0
    xy = (mixed * cross).sum() / 24 / size - centre_x * centre_y
    larger = (xx + yy) / 2 + (((xx - yy) / 2) ** 2 + xy**2) ** 0.5
    return float(4 * larger**0.5)


def lesion_at(
    lesions: Lesions, points: Float[np.ndarray, "points 2"]
) -> Int[np.ndarray, " points"]:
    """Number of the lesion that each point lies in; -1: in none.

    Args:
        lesions: Lesions of the slide.
        points: Points, level-0 pixels.
    """
    numbers = np.full(len(points), -1)
    if not lesions.areas:
        return numbers
    tree = shapely.STRtree(lesions.areas)
    of_point, of_lesion = tree.query(shapely.points(points), predicate="intersects")
    numbers[of_point] = of_lesion
    return numbers
