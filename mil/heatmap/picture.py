"""The pictures of a slide: one for each kind of map, and one of all branches."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from shapely import MultiPolygon

from mil.heatmap.canvas import Canvas, Positions
from mil.heatmap.grid import TileGrid, covered_means
from mil.heatmap.maps import SlideMaps
from mil.heatmap.page import NOTHING
from mil.heatmap.render import draw, draw_grid, outlined, overlay, rings_of
from mil.heatmap.scales import TITLES, Scale, shading_of
from mil.io.atomic import atomic_path
from mil.statistics.attention import almost_uniform, entropy_share, ranks_note
from mil.trained.tile_maps import MapKind, TileMap

# Share of the heads by which a tile is outlined as selected: with one head its own
# selection, with several their majority.
MAJORITY = 0.5


class Footprints(NamedTuple):
    """Footprints of tiles, whole pixels of an image.

    Attributes:
        first: Left and upper edges.
        last: Right and lower edges.
    """

    first: Int[np.ndarray, "tiles 2"]
    last: Int[np.ndarray, "tiles 2"]


class DrawnSlide(NamedTuple):
    """What all pictures of a slide share.

    Attributes:
        canvas: Image to draw on.
        footprints: Footprints of the tiles, pixels of the image.
        tissue: Tissue to outline, pixels of level 0.
        regions: Annotated regions to outline, pixels of level 0.
        title: Title of the pictures.
    """

    canvas: Canvas
    footprints: Footprints
    tissue: MultiPolygon
    regions: MultiPolygon
    title: str


def footprints_of(positions: Positions, grid: TileGrid, canvas: Canvas) -> Footprints:
    """Footprints of tiles on a canvas.

    Fractions of a pixel are rounded at both edges, so that neighbours meet. Corners of
    tiles are rounded to whole pixels of the slide, so edges of the grid are taken where
    there is one.
    """
    if not grid.is_exact:
        corners = (positions.corners - np.array(canvas.origin)) / canvas.scale
        side = positions.side / canvas.scale
        return Footprints(_whole(corners), _whole(corners + side))
    edges = [_whole((grid.edges(axis) - canvas.origin[axis]) / canvas.scale) for axis in (0, 1)]
    first, last = grid.first, grid.first + grid.span
    return Footprints(
        np.stack([edges[axis][first[:, axis]] for axis in (0, 1)], axis=1),
        np.stack([edges[axis][last[:, axis]] for axis in (0, 1)], axis=1),
    )


def _whole(places: np.ndarray) -> Int[np.ndarray, "*places"]:
    return np.rint(places).astype(np.int64)


def draw_map(
    out: Path,
    drawn: DrawnSlide,
    maps: SlideMaps,
    kind: MapKind,
    scale: Scale,
    about: Mapping[str, str] = NOTHING,
) -> None:
    """Draw one kind of map beside the slide.

    Args:
        out: PNG to write.
        drawn: Slide, tiles and outlines.
        maps: Maps of the slide.
        kind: Kind of map, one that the maps hold.
        scale: Scale of attention.
        about: Texts that the PNG carries, by name.
    """
    canvas = drawn.canvas
    shading = shading_of(maps.kinds[kind], scale)
    coloured = overlay(canvas.image, _raster(drawn, shading.values), shading)
    heading = TITLES[kind]
    if maps.selected is not None:
        chosen = maps.selected >= MAJORITY
        coloured = outlined(coloured, drawn.footprints.first[chosen], drawn.footprints.last[chosen])
        heading += ", selected tiles outlined"
    with atomic_path(out) as scratch:
        draw(
            scratch,
            canvas.image,
            coloured,
            title=drawn.title,
            shading=shading,
            um_per_px=canvas.um_per_px,
            name=canvas.name,
            heading=heading,
            note=_caution(maps, kind, scale),
            tissue=rings_of(drawn.tissue, canvas.scale, canvas.origin),
            annotated=rings_of(drawn.regions, canvas.scale, canvas.origin),
            about=about,
        )


def _caution(maps: SlideMaps, kind: MapKind, scale: Scale) -> str:
    if kind != "attention":
        return ""
    if scale == "percentile":
        return ranks_note(maps.attention)
    return almost_uniform(entropy_share(maps.attention))


def draw_branches(
    out: Path, drawn: DrawnSlide, branches: Float[np.ndarray, "tiles branches"], scale: Scale
) -> None:
    """Draw the attention of all branches on one picture.

    Args:
        out: PNG to write.
        drawn: Slide, tiles and outlines.
        branches: Attention of each branch, which sums to 1 over the tiles.
        scale: Scale of attention; the colours of `raw` end at the most of all branches.
    """
    shadings = [shading_of(TileMap("attention", one, "", ""), scale) for one in branches.T]
    # One colour bar is of all branches.
    high = max(shading.high for shading in shadings)
    shadings = [shading._replace(high=high) for shading in shadings]
    images = [
        overlay(drawn.canvas.image, _raster(drawn, shading.values), shading) for shading in shadings
    ]
    with atomic_path(out) as scratch:
        draw_grid(
            scratch,
            images,
            [f"attention of branch {number}" for number in range(1, len(images) + 1)],
            title=drawn.title,
            shading=shadings[0],
            um_per_px=drawn.canvas.um_per_px,
            annotated=rings_of(drawn.regions, drawn.canvas.scale, drawn.canvas.origin),
        )


def _raster(
    drawn: DrawnSlide, values: Float[np.ndarray, " tiles"]
) -> Float[np.ndarray, "height width"]:
    first, last = drawn.footprints
    return covered_means(first, last, values, drawn.canvas.image.size)
