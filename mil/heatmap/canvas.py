"""The canvas of a heatmap: overview of a tiled slide, the slide itself, or blank."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Num
from PIL import Image

from mil.errors import FormatError, MilError
from mil.heatmap.grid import Point, TileGrid, covered_means, grid_of
from mil.io.bags import BagHeader, BagPositions
from mil.io.tiles import read_tiles

WHITE = (255, 255, 255)
GREY = (205, 205, 205)
# Long side of a blank canvas, and of an image read from a slide.
LONGEST_PX = 1200
# No slide is a kilometre wide: coordinates beyond that, or not finite, are damage.
FARTHEST_UM = 1e9
# Short side of a blank canvas over its long one, at least.
SLIMMEST = 1 / 8


class Positions(NamedTuple):
    """Positions of a bag's valid tiles, in a unit of `unit_um` micrometres.

    `unit_um` is 0 where the length of the unit is not known.
    """

    corners: Num[np.ndarray, "tiles 2"]
    side: float
    unit_um: float


@dataclass(frozen=True)
class Canvas:
    """An image to draw attention on, and where it lies.

    Attributes:
        image: RGB image.
        scale: Units of length per pixel of the image; the unit is a level-0 pixel, or
            that of `Positions`.
        origin: Top left corner of the image, in the same unit.
        scanned_px: Top left corner of the scanned part of the slide, level-0 pixels;
            GeoJSON counts from there.
        um_per_px: Micrometres per pixel of the image; 0: not known.
        name: Caption of the image without attention.
        tissue: File of the tissue's outline.
    """

    image: Image.Image
    scale: float
    origin: tuple[int, int]
    scanned_px: tuple[int, int]
    um_per_px: float
    name: str = "tissue found"
    tissue: Path | None = None


def positions_of(bag: BagPositions) -> Positions | None:
    """Positions of a bag's valid tiles, in level-0 pixels or else in micrometres.

    None where they are not known.
    """
    in_px = bag.positions()
    if in_px is not None:
        return Positions(*in_px, bag.mpp_level0 or 0.0)
    if bag.coords_um is None or not (bag.tile_px and bag.target_mpp):
        return None
    corners = bag.coords_um[bag.valid]
    if not (np.abs(corners) < FARTHEST_UM).all():
        return None
    return Positions(corners, bag.tile_px * bag.target_mpp, 1.0)


def corner_of_scan(bag: BagPositions, scanned_px: tuple[int, int]) -> Point:
    """Corner of the scanned part of the slide, in the unit of the positions.

    Args:
        bag: Bag of the slide.
        scanned_px: The corner, level-0 pixels.
    """
    # A bag that counts in micrometres knows no origin.
    return scanned_px if bag.positions() is not None else (0, 0)


def footprints_of(
    positions: Positions, grid: TileGrid, origin: Point, scale: float
) -> tuple[Int[np.ndarray, "tiles 2"], Int[np.ndarray, "tiles 2"]]:
    """Left and upper edges of tiles on an image, and right and lower ones, whole pixels.

    Fractions of a pixel are rounded at both edges of a tile, so that neighbours meet.
    Corners are whole pixels of the slide, so edges of the grid are taken where there is one.

    Args:
        positions: Positions of the tiles.
        grid: Grid of the tiles.
        origin: Top left corner of the image, in the unit of the positions.
        scale: Units per pixel of the image.
    """
    if not grid.is_exact:
        corners = (positions.corners - np.array(origin)) / scale
        return whole(corners), whole(corners + positions.side / scale)
    edges = [whole((grid.edges(axis) - origin[axis]) / scale) for axis in (0, 1)]
    ends = [grid.first, grid.first + grid.span]
    first, last = (
        np.stack([edges[axis][cells[:, axis]] for axis in (0, 1)], axis=1) for cells in ends
    )
    return first, last


def whole(places: np.ndarray) -> Int[np.ndarray, "*places"]:
    """Places rounded to whole pixels."""
    return np.rint(places).astype(np.int64)


def canvas_of(
    bag: BagPositions,
    positions: Positions,
    tiles: Path | None,
    slide: Path | None,
    scene: str = "",
) -> tuple[Canvas, str]:
    """Choose the canvas, and say why it is not the slide if that cannot be used.

    Args:
        bag: Bag of the slide.
        positions: Positions of its valid tiles.
        tiles: Tiles file, if the slide was tiled here.
        slide: Otherwise the slide file, if there is one.
        scene: Name or number of the image that is the slide, in a file of several.

    Returns:
        The canvas, and an addition to the title; mostly empty.
    """
    if bag.positions() is not None and tiles is not None:
        return tiled_slide(tiles, bag), ""
    if bag.positions() is not None and slide is not None:
        try:
            return slide_itself(slide, bag, positions, scene), ""
        # The slide is only the background: attention that was asked for is drawn
        # without it.
        except MilError as error:
            return blank_canvas(bag, positions), f"; drawn without the slide: {error}"
    return blank_canvas(bag, positions), ""


def tiled_slide(tiles: Path, bag: BagHeader) -> Canvas:
    """The overview and the tissue's outline that lie beside a tiles file.

    Args:
        tiles: Tiles file.
        bag: Bag that it must be of: attention must not be drawn on another slide, nor at
            other tiles.

    Raises:
        FormatError: the tiles are of another slide or another tiling, or there is no
            overview.
    """
    read = read_tiles(tiles)
    geometry = read.geometry
    if geometry.slide != bag.slide:
        raise FormatError(
            f"{tiles}: is of {geometry.slide}, but the bag is of {bag.slide}; give the tiles file "
            "of that slide"
        )
    # Imported bags, and those of slides without tiles, do not name theirs.
    if bag.tile_digest and bag.tile_digest != read.digest:
        raise FormatError(
            f"{tiles}: holds other tiles than the bag of {bag.slide} was made from; give the tiles "
            "file of that bag, or extract its features again"
        )
    overview = tiles.with_suffix(".jpg")
    try:
        image = Image.open(overview).convert("RGB")
    except OSError as error:
        raise FormatError(
            f"{overview}: no overview picture ({error}); tile the slide again"
        ) from None
    # The overview shows the scanned part alone: image and GeoJSON have the same origin.
    origin = geometry.origin_x_level0_px, geometry.origin_y_level0_px
    return Canvas(
        image,
        geometry.overview_scale,
        origin,
        origin,
        geometry.mpp_level0 * geometry.overview_scale,
        tissue=tiles.with_suffix(".geojson"),
    )


def slide_itself(slide: Path, bag: BagPositions, positions: Positions, scene: str = "") -> Canvas:
    """An image of a slide that was not tiled here.

    Raises:
        SlideError: the slide cannot be read.
        FormatError: it is larger or smaller than the slide of the bag.
    """
    # Most heatmaps need no slide, whose libraries take a tenth of a second to import.
    from mil.io.slides import SlideReader, draw_overview

    # Any file may lie under the slide's name: attention must not be drawn on another slide.
    with SlideReader(slide, scene=scene) as reader:
        size = np.array(reader.size_px)
        size_of_bag = bag.width_level0_px or size[0], bag.height_level0_px or size[1]
        # Where a bag does not know the size of its slide, its tiles tell the least size.
        inside = (positions.corners >= 0).all() and (positions.corners < size).all()
        if not (np.array_equal(size_of_bag, size) and inside):
            raise FormatError(f"{slide}: is of another size than the slide of this bag")
        overview = draw_overview(reader, max(reader.extent_px) / LONGEST_PX)
        origin = reader.origin_px
    um_per_px = positions.unit_um * overview.scale
    return Canvas(overview.image, overview.scale, origin, origin, um_per_px, name="slide")


def blank_canvas(bag: BagPositions, positions: Positions) -> Canvas:
    """White, with every tile grey.

    It spans the whole slide if the bag knows its size, else the tiles with a margin.
    """
    corners, side, unit_um = positions
    first = corners.min(0).astype(float)
    last = corners.max(0).astype(float) + side
    if bag.positions() is not None and bag.width_level0_px and bag.height_level0_px:
        first = np.minimum(first, bag.origin_px)
        last = np.maximum(last, (bag.width_level0_px, bag.height_level0_px))
    else:
        first = np.floor(first - side)
        last = last + side
    # A row of tiles would give an image of a few pixels' height, which nothing can be
    # drawn on.
    extent = np.maximum(last - first, (last - first).max() * SLIMMEST)
    scale = float(extent.max()) / LONGEST_PX
    white = Image.new("RGB", (round(extent[0] / scale), round(extent[1] / scale)), WHITE)
    origin = int(first[0]), int(first[1])
    grid = grid_of(corners, side, corner_of_scan(bag, bag.origin_px))
    starts, ends = footprints_of(Positions(corners, side, unit_um), grid, origin, scale)
    pixels = np.array(white)
    covered = covered_means(starts, ends, np.zeros(len(corners)), white.size)
    pixels[~np.isnan(covered)] = GREY
    image = Image.fromarray(pixels)
    return Canvas(image, scale, origin, bag.origin_px, unit_um * scale, name="tiles of the bag")
