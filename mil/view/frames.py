"""Frame of a slide on the page, its overview and its outlines."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from PIL import Image
from shapely import MultiPolygon

from mil.errors import FormatError, MilError
from mil.io.annotations import PositiveClasses, read_annotation
from mil.io.bags import BagPositions, read_positions
from mil.io.tiles import TileGeometry, read_tiles
from mil.view.maps import places_of
from mil.view.pyramid import Frame
from mil.view.study import Study

# Outlines are drawn by the browser: one pixel of an overview is fine enough.
SIMPLIFY_TO = 1 / 4000
# Margin around the tiles of a bag that does not know the size of its slide, tiles.
MARGIN = 1


@dataclass(frozen=True, eq=False)
class SlideFrame:
    """What of a slide is shown, without its scores.

    Attributes:
        frame: The rectangle and its unit; None: nothing is known of the slide.
        size_px: Width and height of level 0; None: not known.
        overview: Overview beside the tiles file; None: there is none.
        tissue: File of the tissue's outline beside it; None: there is none.
        scene: Image of the slide's file that was tiled; empty: its only one.
        is_level0: Whether the unit is a level-0 pixel.
        notes: Sentences on what is not there.
    """

    frame: Frame | None
    size_px: tuple[int, int] | None
    overview: Path | None
    tissue: Path | None
    scene: str
    is_level0: bool
    notes: Sequence[str]


def frame_of(study: Study, slide: str) -> SlideFrame:
    """Frame of a slide: of its tiles file, else of its bag.

    Args:
        study: The study.
        slide: Id of the slide.
    """
    notes: list[str] = []
    for tiling in study.tilings:
        path = study.tiles_path(tiling, slide)
        if not path.is_file():
            continue
        try:
            return _of_tiles(path, read_tiles(path).geometry, notes)
        except FormatError as error:
            notes.append(f"The tiles file is not used: {error}")
    for head in study.heads:
        path = study.bag_path(head, slide)
        if path.is_file():
            try:
                return _of_bag(read_positions(path), notes)
            except FormatError as error:
                notes.append(f"The bag is not used: {error}")
    return SlideFrame(None, None, None, None, "", True, notes)


def _of_bag(bag: BagPositions, notes: Sequence[str]) -> SlideFrame:
    """Frame of a slide that was not tiled here: the slide, or its tiles with a margin."""
    size = None
    if bag.width_level0_px and bag.height_level0_px:
        size = bag.width_level0_px, bag.height_level0_px
    places, unit_um, is_level0 = places_of(bag)
    if is_level0 and size:
        frame = Frame(0.0, 0.0, float(size[0]), float(size[1]), unit_um)
        return SlideFrame(frame, size, None, None, "", True, notes)
    if places is None or not len(places.corners):
        return SlideFrame(None, size, None, None, "", True, notes)
    first = places.corners.min(0) - MARGIN * places.side
    last = places.corners.max(0) + (1 + MARGIN) * places.side
    left, top = map(float, first)
    width, height = map(float, last - first)
    frame = Frame(left, top, width, height, unit_um)
    return SlideFrame(frame, size, None, None, "", is_level0, notes)


def _of_tiles(path: Path, geometry: TileGeometry, notes: Sequence[str]) -> SlideFrame:
    size = geometry.width_level0_px, geometry.height_level0_px
    left = geometry.origin_x_level0_px
    top = geometry.origin_y_level0_px
    width: float = size[0] - left
    height: float = size[1] - top
    overview = path.with_suffix(".jpg")
    pixels = size_of_image(overview)
    if pixels is not None:
        # It shows the scanned part alone, which may end before the slide does.
        width, height = _extent(pixels, geometry.overview_scale, (width, height))
    frame = None
    if width > 0 and height > 0:
        mpp = geometry.mpp_level0
        frame = Frame(left, top, width, height, mpp if isfinite(mpp) else 0.0)
    tissue = path.with_suffix(".geojson")
    return SlideFrame(
        frame,
        size if all(size) else None,
        None if pixels is None else overview,
        tissue if tissue.is_file() else None,
        geometry.scene,
        True,
        notes,
    )


def size_of_image(path: Path) -> tuple[int, int] | None:
    """Width and height of an image, pixels; None where there is none, or no image."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, Image.DecompressionBombError):
        return None


def _extent(
    pixels: tuple[int, int], scale: float, most: tuple[float, float]
) -> tuple[float, float]:
    """Width and height of the scanned part, by its overview and that image's scale."""
    # The overview is a whole number of pixels: within one of them the slide decides.
    extent = [
        edge if abs(edge - shown * scale) <= scale else shown * scale
        for edge, shown in zip(most, pixels, strict=True)
    ]
    return extent[0], extent[1]


@dataclass(frozen=True)
class Outlines:
    """Rings of outlines, units of the frame.

    Attributes:
        tissue: Rings of the tissue.
        annotated: Rings of the annotated positive region.
        notes: Sentences on what is left out.
    """

    tissue: Sequence[Sequence[tuple[float, float]]]
    annotated: Sequence[Sequence[tuple[float, float]]]
    notes: Sequence[str]


def outlines_of(study: Study, slide: str, shown: SlideFrame) -> Outlines:
    """Outlines of the tissue and of the annotated positive region, simplified.

    Args:
        study: The study.
        slide: Id of the slide.
        shown: Its frame.
    """
    if shown.frame is None or not shown.is_level0:
        return Outlines([], [], [])
    notes: list[str] = []
    scanned = int(shown.frame.left), int(shown.frame.top)
    tolerance = max(shown.frame.width, shown.frame.height) * SIMPLIFY_TO
    tissue = MultiPolygon()
    annotated = MultiPolygon()
    if shown.tissue is not None:
        try:
            tissue = read_annotation(shown.tissue, scanned).outlines()
        except MilError as error:
            notes.append(f"The tissue's outline is not drawn: {error}")
    path = study.annotation_file(slide)
    if path is not None and study.config is not None:
        # QuPath counts from the scanned part of a slide.
        origin = scanned if study.config.geojson_frame == "scanned" else (0, 0)
        rule = PositiveClasses(tuple(study.config.annotation_classes), study.config.positive_class)
        try:
            annotated = read_annotation(path, origin).positive(rule)
        except MilError as error:
            notes.append(f"The annotation is not drawn: {error}")
    return Outlines(_rings(tissue, tolerance), _rings(annotated, tolerance), notes)


def _rings(regions: MultiPolygon, tolerance: float) -> list[list[tuple[float, float]]]:
    rings = [ring for polygon in regions.geoms for ring in (polygon.exterior, *polygon.interiors)]
    simple = [ring.simplify(tolerance, preserve_topology=False) for ring in rings]
    return [
        [(round(x, 1), round(y, 1)) for x, y in np.asarray(ring.coords)[:, :2].tolist()]
        for ring in simple
        if len(ring.coords) > 3
    ]
