"""The files beside a heatmap's picture: QuPath layer, table and OME-TIFF."""

from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from mil.heatmap.canvas import Positions, corner_of_scan
from mil.heatmap.contours import Contour, contours_of
from mil.heatmap.files import LAYER, RASTER, TABLE, beside
from mil.heatmap.geojson import TilesOfLayer, layer_ending, write_layer
from mil.heatmap.grid import TileGrid
from mil.heatmap.maps import SlideMaps
from mil.heatmap.measurements import further_columns, measurements_of
from mil.heatmap.ome import Place, channels_of, write_raster
from mil.heatmap.scales import scaled
from mil.heatmap.table import empty_table, tile_names, write_table
from mil.io.bags import BagPositions
from mil.statistics.attention import entropy_share, ranks_note


class Placed(NamedTuple):
    """Where tiles are.

    Attributes:
        positions: Positions of the tiles.
        grid: Their grid.
        scanned_px: Corner of the scanned part of the slide, level-0 pixels.
    """

    positions: Positions
    grid: TileGrid
    scanned_px: tuple[int, int]


def write_layers(out: Path, bag: BagPositions, maps: SlideMaps, placed: Placed | None) -> list[str]:
    """Write the files beside a picture.

    Args:
        out: The picture.
        bag: What is known of the slide and its tiles.
        maps: Maps of its valid tiles.
        placed: Where the tiles are; None: not known.

    Returns:
        Endings of the files.
    """
    measurements = measurements_of(maps)
    in_px = bag.positions()
    tiles = None if in_px is None else TilesOfLayer(*in_px, measurements)
    contours: list[tuple[Contour, float]] = []
    if tiles is not None and placed is not None:
        percentiles = scaled(maps.attention, "percentile")
        contours = [
            (contour, float(maps.attention[contour.tiles].sum()))
            for contour in contours_of(tiles.corners, tiles.side, placed.grid, percentiles)
        ]
    about: dict[str, JsonValue] = {
        "entropy_share": entropy_share(maps.attention),
        "note": ranks_note(maps.attention, "percentiles are ranks"),
    }
    scanned_px = bag.origin_px if placed is None else placed.scanned_px
    layer = LAYER if tiles is None else layer_ending(len(tiles.corners))
    identity = f"{bag.slide}/{maps.head}"
    write_layer(beside(out, layer), identity, tiles, contours, scanned_px, {"attention": about})
    names = tile_names(bag)
    write_table(beside(out, TABLE), {**names, **measurements, **further_columns(maps)})
    if placed is None:
        return [layer, TABLE]
    place = Place(
        placed.grid,
        corner_of_scan(bag, placed.scanned_px),
        placed.positions.unit_um,
        "µm" if in_px is None else "pixels of level 0",
    )
    write_raster(beside(out, RASTER), bag.slide, maps.recipe, channels_of(maps), place)
    return [layer, TABLE, RASTER]


def write_empty_layers(out: Path) -> list[str]:
    """Write the files beside a picture of a slide without tiles; their endings."""
    write_layer(beside(out, LAYER), "", None)
    write_table(beside(out, TABLE), empty_table())
    return [LAYER, TABLE]
