"""All files of a slide's maps: pictures, QuPath layer, OME-TIFF and table, or its state."""

from collections.abc import Sequence
from pathlib import Path

from shapely import MultiPolygon

from mil.config.datasets import GeojsonFrame
from mil.heatmap.canvas import Canvas, canvas_of, corner_of_scan, positions_of, tiled_slide
from mil.heatmap.files import BESIDE, BRANCHES, DRAWN, PICTURES, beside, remove_others
from mil.heatmap.grid import Point, grid_of
from mil.heatmap.layers import Placed, write_empty_layers, write_layers
from mil.heatmap.maps import SlideMaps, maps_of
from mil.heatmap.picture import DrawnSlide, draw_branches, draw_map, shrunk
from mil.heatmap.render import draw, draw_message
from mil.heatmap.scales import Scale
from mil.io.annotations import PositiveClasses, few, read_annotation
from mil.io.atomic import atomic_path
from mil.io.bags import BagHeader, BagPositions
from mil.io.digests import statements
from mil.io.scores import HeadScores, MapKind
from mil.trained.record import Trained
from mil.trained.tile_maps import SIGNED

NO_POSITIONS = (
    "This bag does not say where its tiles are. Their attention cannot be drawn; it is in the "
    ".csv, tile by tile."
)


def draw_bundle(
    bag: BagPositions,
    records: Sequence[Trained],
    scores: Sequence[HeadScores],
    out: Path,
    *,
    title: str,
    tiles: Path | None,
    slide: Path | None = None,
    scene: str = "",
    annotation: Path | None = None,
    scale: Scale = "percentile",
    kinds: Sequence[MapKind] = DRAWN,
    branches: bool = False,
    geojson_frame: GeojsonFrame = "scanned",
    made_from: str = "",
    positive: PositiveClasses = PositiveClasses(),  # noqa: B008  an immutable tuple
) -> str:
    """Write pictures, layers and table of a slide's valid tiles; see `mil.heatmap.stage.run`.

    Args:
        bag: What is known of the slide and its tiles.
        records: Records of the heads that take part, of one recipe.
        scores: Scores by each of them.
        out: Picture of attention to write, a PNG.
        title: Title of the pictures.
        tiles: Tiles file, or None.
        slide: Slide file, or None.
        scene: Name or number of the image that is the slide, in a file of several.
        annotation: File of regions to outline, or None.
        scale: Scale of attention; see `mil.heatmap.scales.scaled`.
        kinds: Kinds of map that get a picture, where the scores hold them.
        branches: Whether to draw the attention of each branch, where there are several.
        geojson_frame: Origin of the coordinates of a GeoJSON annotation.
        made_from: Digest of what the picture depends on.
        positive: Rule by which classes of the annotation are outlined.

    Returns:
        An addition to the title; mostly empty.
    """
    maps = maps_of(records, scores)
    positions = positions_of(bag)
    if positions is None:
        endings = write_layers(out, bag, maps, None)
        remove_others(out, endings)
        # The picture of attention comes last: the others are there when it is.
        with atomic_path(out) as scratch:
            draw_message(scratch, title, NO_POSITIONS, about=_about(made_from, endings))
        return "; the bag does not say where its tiles are"
    canvas, note = canvas_of(bag, positions, tiles, slide, scene)
    # GeoJSON and XML are in pixels, which a bag in micrometres does not know.
    drawable = annotation if bag.positions() else None
    regions, about_regions = _regions(drawable, canvas, geojson_frame, positive)
    start = corner_of_scan(bag, canvas.scanned_px)
    grid = grid_of(positions.corners, positions.side, start, _end(bag))
    drawn = DrawnSlide(shrunk(canvas, grid), positions, grid, _tissue(canvas), regions, title)
    endings = write_layers(out, bag, maps, Placed(positions, grid, canvas.scanned_px))
    for kind in [kind for kind in PICTURES if kind in kinds and kind in maps.kinds]:
        draw_map(beside(out, PICTURES[kind]), drawn, maps, kind, scale)
        endings.append(PICTURES[kind])
    if branches and maps.branches is not None:
        draw_branches(beside(out, BRANCHES), drawn, maps.branches, scale)
        endings.append(BRANCHES)
    remove_others(out, endings)
    draw_map(out, drawn, maps, "attention", scale, _about(made_from, endings))
    return note + about_regions + _missing(maps, kinds)


def draw_state(out: Path, tiles: Path | None, bag: BagHeader, *, made_from: str = "") -> None:
    """Draw the overview of a slide without attention, with its state and its reason."""
    endings = write_empty_layers(out)
    remove_others(out, endings)
    about = _about(made_from, endings)
    title = f"{bag.slide}   {bag.state}: {bag.reason}"
    with atomic_path(out) as scratch:
        if tiles is None:
            reason = bag.reason or "This bag holds no tiles."
            title = f"{bag.slide}   {bag.state}"
            draw_message(scratch, title, reason, about=about)
        else:
            overview = tiled_slide(tiles, bag).image
            draw(
                scratch,
                overview,
                overview,
                title=title,
                shading=None,
                # The state may be that the pixel size is not known: no scale bar.
                um_per_px=0.0,
                tissue=[],
                annotated=[],
                heading="no attention",
                about=about,
            )


def _about(made_from: str, endings: Sequence[str]) -> dict[str, str]:
    """Texts that the picture of attention carries; see `mil.heatmap.files.files_of`."""
    digest = statements(made_from)
    return {**digest, BESIDE: " ".join(endings)}


def _missing(maps: SlideMaps, kinds: Sequence[MapKind]) -> str:
    """A note about kinds of map that the scores do not hold."""
    missing = [kind for kind in PICTURES if kind in kinds and kind not in maps.kinds]
    evidence = [kind for kind in missing if kind in SIGNED]
    note = f"; no map of {' and '.join(evidence)}: the scores hold none" if evidence else ""
    # Few heads have it: without being asked for, it is drawn where there is one.
    if "rollout" in missing and tuple(kinds) != DRAWN:
        note += f"; no map of rollout: {maps.recipe} has no mixing layers, or older scores"
    return note


def _end(bag: BagPositions) -> Point | None:
    """Lower right corner of the slide, pixels of level 0, where the bag knows it."""
    if bag.positions() is None or not (bag.width_level0_px and bag.height_level0_px):
        return None
    return bag.width_level0_px, bag.height_level0_px


def _tissue(canvas: Canvas) -> MultiPolygon:
    if canvas.tissue is None:
        return MultiPolygon()
    return read_annotation(canvas.tissue, canvas.scanned_px).outlines()


def _regions(
    path: Path | None, canvas: Canvas, frame: GeojsonFrame, positive: PositiveClasses
) -> tuple[MultiPolygon, str]:
    """The positive region of an annotation, and a note where it is not the whole file."""
    if path is None:
        return MultiPolygon(), ""
    # QuPath counts from the scanned part of a slide; see docs/explain/decisions.md.
    annotation = read_annotation(path, canvas.scanned_px if frame == "scanned" else (0, 0))
    regions = annotation.positive(positive)
    if regions.is_empty and annotation.content != "nothing":
        return regions, f"; no region to outline: {path.name} holds {annotation.content}"
    faults = f"; {path.name}: left out {few(annotation.faults)}" if annotation.faults else ""
    return regions, faults
