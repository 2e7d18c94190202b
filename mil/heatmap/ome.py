"""The maps of a slide as a pyramidal OME-TIFF: a channel a map, a pixel a cell of the grid.

It covers the scanned part of the slide from its corner, where viewers begin to count: laid
over the slide by its physical size alone, tiles lie on their places. QuPath reads no other
position; OMERO keeps that of the planes too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from jaxtyping import Float, Float32

from mil.heatmap.grid import Point, TileGrid, cell_means
from mil.heatmap.maps import SlideMaps
from mil.heatmap.scales import scaled, shading_of
from mil.io.atomic import atomic_path
from mil.trained.tile_maps import TITLES
from mil.versions import TOOL_VERSION

# Side of a tile of the file, pixels; TIFF asks for multiples of 16.
TILE = 256
TILE_STEP = 16
UM_PER_CM = 1e4
# Level of zlib.
COMPRESSION = 6


class Place(NamedTuple):
    """Where the raster lies.

    Attributes:
        grid: Grid of the tiles.
        start: Corner of the scanned part of the slide, in the unit of the grid.
        um_per_unit: Micrometres per unit of the grid; 0: not known.
        unit: Name of the unit.
    """

    grid: TileGrid
    start: Point
    um_per_unit: float
    unit: str


def channels_of(maps: SlideMaps) -> dict[str, Float[np.ndarray, " tiles"]]:
    """Values of the tiles by the name of the channel."""
    channels = {
        "attention, times uniform": scaled(maps.attention, "relative"),
        "attention, percentile": scaled(maps.attention, "percentile"),
    }
    for kind, tile_map in maps.kinds.items():
        if tile_map.is_signed:
            channels[shading_of(tile_map, "raw").label] = tile_map.values
        elif kind != "attention":
            channels[f"{TITLES[kind]}, times uniform"] = scaled(tile_map.values, "relative")
    return channels


def write_raster(
    path: Path, slide: str, head: str, channels: Mapping[str, np.ndarray], place: Place
) -> None:
    """Write an OME-TIFF, whole or not at all.

    Args:
        path: File to write.
        slide: Id of the slide.
        head: Name of the heads' recipe.
        channels: Values of the tiles by the name of the channel.
        place: Where the raster lies.
    """
    # Here, for slides whose tiles have no places, and for the command's help.
    import tifffile

    raster = np.stack(
        [cell_means(place.grid, values).astype(np.float32) for values in channels.values()]
    )
    levels = _pyramid(raster)
    side = min(TILE, -(-max(raster.shape[1:]) // TILE_STEP) * TILE_STEP)
    settings: dict[str, Any] = {
        "photometric": "minisblack",
        "tile": (side, side),
        "compression": "zlib",
        "compressionargs": {"level": COMPRESSION},
        # Worker threads of a job that has one core.
        "maxworkers": 1,
    }
    with atomic_path(path) as scratch, tifffile.TiffWriter(scratch, ome=True) as file:
        for number, pixels in enumerate(levels):
            first = {
                "subifds": len(levels) - 1,
                "metadata": _metadata(slide, head, channels, place),
            }
            further = {"subfiletype": 1, "metadata": None} if number else first
            file.write(
                pixels,
                **settings,
                **further,
                **_resolution(place, 2**number),
                software=f"mil {TOOL_VERSION}",
            )


def _pyramid(raster: Float32[np.ndarray, "channels rows columns"]) -> Sequence[np.ndarray]:
    """The raster and halves of it, until one fits a tile."""
    levels = [raster]
    while max(levels[-1].shape[1:]) > TILE:
        levels.append(_halved(levels[-1]))
    return levels


def _halved(pixels: np.ndarray) -> np.ndarray:
    """Means of two by two pixels, of those that are not NaN."""
    channels, rows, columns = pixels.shape
    even = np.pad(pixels, ((0, 0), (0, rows % 2), (0, columns % 2)), constant_values=np.nan)
    blocks = even.reshape(channels, (rows + 1) // 2, 2, (columns + 1) // 2, 2)
    counts = (~np.isnan(blocks)).sum((2, 4))
    with np.errstate(invalid="ignore"):
        return (np.nansum(blocks, (2, 4)) / counts).astype(np.float32)


def _resolution(place: Place, reduction: int) -> dict[str, Any]:
    if place.um_per_unit <= 0:
        return {}
    per_cm = UM_PER_CM / (place.grid.cell * place.um_per_unit * reduction)
    return {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}


def _metadata(
    slide: str, head: str, channels: Mapping[str, np.ndarray], place: Place
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "axes": "CYX",
        # Else both would hold a time and the machine's address.
        "UUID": uuid5(NAMESPACE_URL, f"mil:{slide}/{head}").urn,
        "Creator": f"mil {TOOL_VERSION}",
        "Name": f"{slide} {head}",
        "Description": _description(slide, head, place),
        "Channel": {"Name": list(channels)},
    }
    if place.um_per_unit <= 0:
        return metadata
    um = place.grid.cell * place.um_per_unit
    metadata |= {"PhysicalSizeX": um, "PhysicalSizeY": um}
    metadata |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    # Of the corner, from that of the scanned part of the slide.
    x, y = (
        (corner - start) * place.um_per_unit
        for corner, start in zip(place.grid.corner, place.start, strict=True)
    )
    planes = len(channels)
    metadata["Plane"] = {
        "PositionX": [x] * planes,
        "PositionY": [y] * planes,
        "PositionXUnit": ["µm"] * planes,
        "PositionYUnit": ["µm"] * planes,
    }
    return metadata


def _description(slide: str, head: str, place: Place) -> str:
    grid = place.grid
    (left, top), cell = grid.corner, grid.cell
    right, bottom = (grid.edges(axis)[-1] for axis in (0, 1))
    tiles = "is a tile" if grid.span == 1 else f"is 1/{grid.span} of a tile's side"
    exact = "" if grid.is_exact else " Tiles lie on no common grid; their edges are rounded to it."
    return (
        f"Maps of the tiles of slide {slide} by {head}; NaN where there is no tile; mean where "
        f"tiles overlap. A pixel {tiles} and spans {cell:.10g} {place.unit}. The image covers x "
        f"{left:.10g} to {right:.10g} and y {top:.10g} to {bottom:.10g} {place.unit} of the whole "
        f"slide, whose scanned part begins at {place.start[0]:.10g}, {place.start[1]:.10g}.{exact}"
    )
