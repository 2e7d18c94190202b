"""What attention is drawn on: the overview of a tiled slide, the slide itself, or white glass."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Num
from PIL import Image

from mil.errors import FormatError, MilError
from mil.heatmap.render import painted
from mil.io.bags import Bag
from mil.io.slides import SlideReader, draw_overview
from mil.io.tiles import read_tiles

WHITE = (255, 255, 255)
GREY = (205, 205, 205)
LONGEST_PX = 1200  # long side of white glass, and of a picture read from a slide
FARTHEST_UM = 1e9  # no tile is there, nor at a place that is not a number
SLIMMEST = 1 / 8  # short side of white glass over its long one, at least


class Places(NamedTuple):
    """Where the valid tiles of a bag are: corners and side in a unit of which `unit_um` says the micrometres, or 0."""

    corners: Num[np.ndarray, "tiles 2"]
    side: float
    unit_um: float


@dataclass(frozen=True)
class Canvas:
    """A picture to draw attention on, and where it lies.

    Attributes:
        image: RGB.
        scale: units of length per pixel of the image; the unit is a level-0 pixel, or
            what `Places` counts in.
        origin: where the image begins, the same unit.
        scanned_px: where the scanned part of the slide begins, level-0 pixels; GeoJSON
            counts from there.
        um_per_px: micrometres per pixel of the image; 0: not known.
        name: of the picture without attention.
        tissue: file of the tissue's outline.
    """

    image: Image.Image
    scale: float
    origin: tuple[int, int]
    scanned_px: tuple[int, int]
    um_per_px: float
    name: str = "tissue found"
    tissue: Path | None = None


def places_of(bag: Bag) -> Places | None:
    """Where a bag's valid tiles are: in level-0 pixels, else in micrometres if it counts in those; None: not said."""
    in_px = bag.places()
    if in_px is not None:
        return Places(*in_px, bag.mpp_level0 or 0.0)
    if bag.coords_um is None or not (bag.tile_px and bag.target_mpp):
        return None
    corners = bag.coords_um[bag.valid]
    return (
        Places(corners, bag.tile_px * bag.target_mpp, 1.0)
        if (np.abs(corners) < FARTHEST_UM).all()
        else None
    )


def canvas_of(
    bag: Bag, places: Places, tiles: Path | None, slide: Path | None
) -> tuple[Canvas, str]:
    """What a bag's attention is drawn on, and why not on the slide if that was wished but cannot be.

    Args:
        bag: of the slide.
        places: where its tiles are.
        tiles: the tiles file, if the slide was tiled here.
        slide: else the slide's file, if it is there.
    """
    if bag.places() is not None and tiles is not None:
        return tiled_slide(tiles), ""
    if bag.places() is not None and slide is not None:
        try:
            return slide_itself(slide, bag, places), ""
        except MilError as error:
            return white_glass(bag, places), f"; drawn without the slide: {error}"
    return white_glass(bag, places), ""


def tiled_slide(tiles: Path) -> Canvas:
    """The overview and the tissue's outline that lie beside a tiles file.

    Raises:
        FormatError: there is no overview.
    """
    geometry = read_tiles(tiles).geometry
    picture = tiles.with_suffix(".jpg")
    try:
        image = Image.open(picture).convert("RGB")
    except OSError as error:
        raise FormatError(
            f"{picture}: no overview picture ({error}); tile the slide again"
        ) from None
    origin = geometry.origin_x_level0_px, geometry.origin_y_level0_px
    um_per_px = geometry.mpp_level0 * geometry.overview_scale
    return Canvas(
        image,
        geometry.overview_scale,
        origin,
        origin,
        um_per_px,
        tissue=tiles.with_suffix(".geojson"),
    )


def slide_itself(slide: Path, bag: Bag, places: Places) -> Canvas:
    """The picture of a slide that was not tiled here.

    Raises:
        SlideError: it cannot be read.
        FormatError: it is larger or smaller than the slide that the bag was made from.
    """
    with SlideReader(slide) as reader:
        size = np.array(reader.size_px)
        said = bag.width_level0_px or size[0], bag.height_level0_px or size[1]
        inside = (places.corners >= 0).all() and (places.corners < size).all()
        if not (np.array_equal(said, size) and inside):
            raise FormatError(f"{slide}: is of another size than the slide of this bag")
        picture = draw_overview(reader, max(reader.extent_px) / LONGEST_PX)
        origin = reader.origin_px
        um_per_px = places.unit_um * picture.scale
    return Canvas(picture.image, picture.scale, origin, origin, um_per_px, name="slide")


def white_glass(bag: Bag, places: Places) -> Canvas:
    """Nothing but grey tiles: on the whole slide if the bag says how large that is, else with a margin of a tile."""
    corners, side, unit_um = places
    first = corners.min(0).astype(float)
    last = corners.max(0).astype(float) + side
    if bag.places() is not None and bag.width_level0_px and bag.height_level0_px:
        first = np.minimum(first, bag.origin_px)
        last = np.maximum(last, (bag.width_level0_px, bag.height_level0_px))
    else:
        first = np.floor(first - side)
        last = last + side
    extent = np.maximum(last - first, (last - first).max() * SLIMMEST)
    scale = float(extent.max()) / LONGEST_PX
    glass = Image.new("RGB", (round(extent[0] / scale), round(extent[1] / scale)), WHITE)
    shown = painted(
        glass,
        (corners - first) / scale,
        side / scale,
        np.full((len(corners), 3), GREY),
        opacity=1.0,
    )
    origin = int(first[0]), int(first[1])
    return Canvas(shown, scale, origin, bag.origin_px, unit_um * scale, name="tiles of the bag")
