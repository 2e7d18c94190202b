"""Frame of a slide on the page, its overview and its outlines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from shapely import MultiPolygon

from mil.errors import FormatError, MilError
from mil.io.annotations import PositiveClasses, read_annotation
from mil.io.bags import read_header
from mil.io.tiles import TileGeometry, read_tiles
from mil.view.maps import SlideScores
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


def frame_of(study: Study, slide: str, scores: Sequence[SlideScores]) -> SlideFrame:
    """Frame of a slide: of its tiles file, else of its bag, else of its tiles.

    Args:
        study: The study.
        slide: Id of the slide.
        scores: Scores of the slide by each head, for positions in micrometres.
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
    sized = _size_of_bag(study, slide)
    placed = next((one for one in scores if one.places is not None), None)
    if placed is None or placed.places is None:
        return SlideFrame(None, sized, None, None, "", True, notes)
    corners, side = placed.places
    first = corners.min(0) - MARGIN * side
    last = corners.max(0) + (1 + MARGIN) * side
    if placed.is_level0 and sized:
        first = np.minimum(corners.min(0), 0)
        last = np.maximum(corners.max(0) + side, sized)
    left, top = map(float, first)
    width, height = map(float, last - first)
    frame = Frame(left, top, width, height, placed.unit_um)
    return SlideFrame(frame, sized, None, None, "", placed.is_level0, notes)


def _of_tiles(path: Path, geometry: TileGeometry, notes: Sequence[str]) -> SlideFrame:
    size = geometry.width_level0_px, geometry.height_level0_px
    overview = path.with_suffix(".jpg")
    tissue = path.with_suffix(".geojson")
    left = geometry.origin_x_level0_px
    top = geometry.origin_y_level0_px
    width: float = size[0] - left
    height: float = size[1] - top
    if overview.is_file():
        # It shows the scanned part alone, which may end before the slide does.
        width, height = _extent(overview, geometry, (size[0] - left, size[1] - top))
    frame = None
    if width > 0 and height > 0:
        frame = Frame(left, top, width, height, geometry.mpp_level0)
    return SlideFrame(
        frame,
        size if all(size) else None,
        overview if overview.is_file() else None,
        tissue if tissue.is_file() else None,
        geometry.scene,
        True,
        notes,
    )


def _extent(overview: Path, geometry: TileGeometry, most: tuple[int, int]) -> tuple[float, float]:
    """Width and height of the scanned part, by its overview and that image's scale."""
    from PIL import Image

    try:
        with Image.open(overview) as image:
            shown = image.size
    except OSError:
        return most
    scale = geometry.overview_scale
    # The overview is a whole number of pixels: within one of them the slide decides.
    extent = [
        float(edge) if abs(edge - pixels * scale) <= scale else pixels * scale
        for edge, pixels in zip(most, shown, strict=True)
    ]
    return extent[0], extent[1]


def _size_of_bag(study: Study, slide: str) -> tuple[int, int] | None:
    for head in study.heads:
        path = study.bag_path(head, slide)
        if not path.is_file():
            continue
        try:
            header = read_header(path)
        except FormatError:
            continue
        if header.width_level0_px and header.height_level0_px:
            return header.width_level0_px, header.height_level0_px
    return None


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


def outlines_of(study: Study, slide: str, shown: SlideFrame, positive: str) -> Outlines:
    """Outlines of the tissue and of the annotated positive region, simplified.

    Args:
        study: The study.
        slide: Id of the slide.
        shown: Its frame.
        positive: Class of interest of the heads; empty: labels are numbers.
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
        rule = PositiveClasses(tuple(study.config.annotation_classes), positive)
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
