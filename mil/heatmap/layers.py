"""The files beside a heatmap's picture: QuPath layer, table and OME-TIFF."""

from pathlib import Path

from pydantic import JsonValue

from mil.heatmap.canvas import Canvas, Positions
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


def write_layers(
    out: Path, bag: BagPositions, maps: SlideMaps, placed: tuple[Positions, TileGrid, Canvas] | None
) -> list[str]:
    """Write the files beside a picture.

    Args:
        out: The picture.
        bag: What is known of the slide and its tiles.
        maps: Maps of its valid tiles.
        placed: Positions of the tiles, their grid and their canvas; None: not known.

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
            for contour in contours_of(tiles.corners, tiles.side, placed[1], percentiles)
        ]
    about: dict[str, JsonValue] = {
        "entropy_share": entropy_share(maps.attention),
        "note": ranks_note(maps.attention, "percentiles are ranks"),
    }
    layer = LAYER if tiles is None else layer_ending(len(tiles.corners))
    scanned_px = bag.origin_px if placed is None else placed[2].scanned_px
    identity = f"{bag.slide}/{maps.head}"
    write_layer(beside(out, layer), identity, tiles, contours, scanned_px, {"attention": about})
    names = tile_names(bag)
    write_table(beside(out, TABLE), {**names, **measurements, **further_columns(maps)})
    if placed is None:
        return [layer, TABLE]
    place = _place(bag, *placed)
    write_raster(beside(out, RASTER), bag.slide, maps.recipe, channels_of(maps), place)
    return [layer, TABLE, RASTER]


def _place(bag: BagPositions, positions: Positions, grid: TileGrid, canvas: Canvas) -> Place:
    in_px = bag.positions() is not None
    return Place(
        grid,
        corner_of_scan(bag, canvas),
        positions.unit_um,
        "pixels of level 0" if in_px else "µm",
    )


def corner_of_scan(bag: BagPositions, canvas: Canvas) -> tuple[float, float]:
    """Corner of the scanned part of the slide, in the unit of the positions."""
    # A bag that counts in micrometres knows no origin.
    return canvas.scanned_px if bag.positions() is not None else (0.0, 0.0)


def write_empty_layers(out: Path) -> list[str]:
    """Write the files beside a picture of a slide without tiles; their endings."""
    write_layer(beside(out, LAYER), "", None)
    write_table(beside(out, TABLE), empty_table())
    return [LAYER, TABLE]
