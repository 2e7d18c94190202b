"""The pictures of a slide: one for each kind of map, and one of all branches."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from shapely import MultiPolygon

from mil.heatmap.canvas import Canvas, Positions, footprints_of, whole
from mil.heatmap.colours import colours_of
from mil.heatmap.grid import TileGrid, cell_means, covered_means, spread
from mil.heatmap.maps import SlideMaps
from mil.heatmap.page import NOTHING, SHRINK_GAP
from mil.heatmap.render import draw, draw_grid, outlined, overlay, panel_size, rings_of
from mil.heatmap.scales import OPACITY, Scale, Shading, shading_of
from mil.io.atomic import atomic_path
from mil.io.scores import MapKind
from mil.statistics.attention import almost_uniform, entropy_share, ranks_note
from mil.trained.tile_maps import TITLES, TileMap

# Share of the heads by which a tile is outlined as selected: with one head its own
# selection, with several their majority.
MAJORITY = 0.5
# Tiles whose cells are so large where they are shown can be drawn there.
LARGE_PX = 12


class DrawnSlide(NamedTuple):
    """What all pictures of a slide share.

    Attributes:
        canvas: Image to draw on.
        positions: Positions of the tiles.
        grid: Grid of the tiles.
        tissue: Tissue to outline, pixels of level 0.
        regions: Annotated regions to outline, pixels of level 0.
        title: Title of the pictures.
    """

    canvas: Canvas
    positions: Positions
    grid: TileGrid
    tissue: MultiPolygon
    regions: MultiPolygon
    title: str


def shrunk(canvas: Canvas, grid: TileGrid) -> Canvas:
    """The canvas in the size in which it is shown, where tiles are large even then.

    Pictures of one slide then shrink it once. Small tiles are drawn first and shrunk with
    the slide, so that none is lost between pixels.
    """
    size = panel_size(*canvas.image.size)
    ratio = canvas.image.width / size[0]
    if ratio <= 1 or grid.cell / (canvas.scale * ratio) < LARGE_PX:
        return canvas
    image = canvas.image.resize(size, Image.Resampling.BICUBIC, reducing_gap=SHRINK_GAP)
    return replace(
        canvas, image=image, scale=canvas.scale * ratio, um_per_px=canvas.um_per_px * ratio
    )


def layer_of(
    drawn: DrawnSlide, shading: Shading
) -> tuple[UInt8[np.ndarray, "height width 4"], tuple[int, int]]:
    """Colours and opacity of a map, and its corner on the canvas.

    Fractions of a pixel are rounded at both edges of a tile, so that neighbours meet.
    """
    canvas, grid = drawn.canvas, drawn.grid
    if not grid.is_exact:
        first, last = _edges(drawn)
        values = covered_means(first, last, shading.values, canvas.image.size)
        return _coloured(values, shading), (0, 0)
    x, y = (
        whole((grid.edges(axis) - canvas.origin[axis]) / canvas.scale).clip(0, limit)
        for axis, limit in enumerate(canvas.image.size)
    )
    cells = _coloured(cell_means(grid, shading.values), shading)
    return spread(cells, x, y), (int(x[0]), int(y[0]))


def _coloured(
    values: Float[np.ndarray, "height width"], shading: Shading
) -> UInt8[np.ndarray, "height width 4"]:
    """Colours of values and their opacity, which is 0 where there is none."""
    covered = ~np.isnan(values)
    coloured = np.zeros((*values.shape, 4), np.uint8)
    coloured[covered, :3] = colours_of(shading.shares(values[covered]), shading.colours)
    coloured[covered, 3] = OPACITY
    return coloured


def _edges(drawn: DrawnSlide) -> tuple[Int[np.ndarray, "tiles 2"], Int[np.ndarray, "tiles 2"]]:
    canvas = drawn.canvas
    return footprints_of(drawn.positions, drawn.grid, canvas.origin, canvas.scale)


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
    # Signed colours would mix with those of the stain.
    below = _grey(canvas.image) if maps.kinds[kind].is_signed else canvas.image
    coloured = overlay(below, *layer_of(drawn, shading))
    heading = TITLES[kind]
    if maps.selected is not None:
        chosen = maps.selected >= MAJORITY
        if chosen.all():
            heading += ", all tiles selected"
        else:
            first, last = _edges(drawn)
            coloured = outlined(coloured, first[chosen], last[chosen])
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
    tile_map = maps.kinds[kind]
    if tile_map.is_signed:
        return ""
    if scale == "percentile":
        return ranks_note(tile_map.values)
    return almost_uniform(entropy_share(tile_map.values))


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
    images = [overlay(drawn.canvas.image, *layer_of(drawn, shading)) for shading in shadings]
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


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")
