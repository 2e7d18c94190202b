"""Slide in; tiles file, tissue outline and overview picture out."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from PIL import Image
from shapely.geometry.base import BaseGeometry

from mil.config import TileConfig
from mil.config.datasets import GeojsonFrame
from mil.errors import MissingResolutionError, NoTissueError, SlideError
from mil.io.annotations import feature, write_geojson
from mil.io.atomic import atomic_path
from mil.io.regions import read_mask
from mil.io.slides import SlideReader, as_array
from mil.io.tiles import TileGeometry, Tiles, write_tiles
from mil.tile.grid import footprint_px, grid, share_inside
from mil.tile.tissue import outlines, tissue_mask

OVERVIEW_PX = 2048
MASK_UM_PER_PX = 4.0  # finer pictures are reduced to this for the mask
# How QuPath shows a piece of tissue; it can be edited there at once.
TISSUE = {
    "objectType": "annotation",
    "name": "Tissue",
    "classification": {"name": "Tissue", "color": [0, 150, 136]},
    "isLocked": False,
}


class Drawn(NamedTuple):
    """What the user drew on a slide, and what its GeoJSON counts from."""

    tissue: Path | None
    region: Path | None
    frame: GeojsonFrame


def run(
    slide: Path,
    name: str,
    out: Path,
    *,
    tile_px: int,
    target_mpp: float,
    mpp: float | None,
    config: TileConfig,
    tissue: Path | None = None,
    region: Path | None = None,
    geojson_frame: GeojsonFrame = "scanned",
) -> tuple[TileGeometry, int]:
    """Tile one slide; whatever is wrong with the slide becomes its named state, never an error.

    Args:
        slide: the slide's file.
        name: the slide's id.
        out: the tiles file; `.geojson` (tissue) and `.jpg` (overview) go beside it.
        tile_px: side of a tile as the encoder sees it, pixels.
        target_mpp: resolution the encoder sees, micrometres per pixel.
        mpp: resolution of level 0 from the slide table, over what the slide says.
        config: section `tile`.
        tissue: the user's own mask, instead of the tissue that would be found; see `mil.io.regions`.
        region: tiles are taken only inside it.
        geojson_frame: what GeoJSON of the user counts from; see `mil.config.datasets`.

    Returns:
        Geometry with the slide's state, and the number of tiles.

    Raises:
        FormatError: `tissue` or `region` cannot be used; nothing is written.
    """
    overview = Image.new("RGB", (256, 256), (224, 224, 224))
    pieces: list[BaseGeometry] = []
    drawn = Drawn(tissue, region, geojson_frame)
    tiles = _nothing(name, tile_px, target_mpp)
    try:
        with SlideReader(slide) as reader:
            picture = reader.picture(max(reader.extent_px) / OVERVIEW_PX)
            overview, scale = picture.image, picture.scale
            level0 = reader.resolution(mpp).mpp
            _check_scale(slide, level0, target_mpp, config.max_upsample)
            tiles, pieces = _tile(reader, overview, scale, level0, tiles.geometry, config, drawn)
        if len(tiles.coords) == 0:
            raise NoTissueError(slide, _why_empty(tiles.geometry, drawn))
        state, reason = "ok", ""
    except SlideError as error:
        state, reason = error.state, error.reason
    geometry = TileGeometry(**{**tiles.geometry.__dict__, "state": state, "reason": reason})
    origin = geometry.origin_x_level0_px, geometry.origin_y_level0_px
    write_geojson(out.with_suffix(".geojson"), [feature(piece, TISSUE) for piece in pieces], origin)
    with atomic_path(out.with_suffix(".jpg")) as scratch:
        overview.save(scratch, quality=90)
    write_tiles(out, Tiles(geometry, tiles.coords, tiles.tissue))
    return geometry, len(tiles.coords)


def _nothing(name: str, tile_px: int, target_mpp: float) -> Tiles:
    geometry = TileGeometry(
        slide=name, state="unreadable", reason="", tile_px=tile_px, target_mpp=target_mpp, mpp_level0=0.0,
        side_level0_px=0.0, width_level0_px=0, height_level0_px=0, origin_x_level0_px=0, origin_y_level0_px=0,
        tissue_mm2=0.0, overview_scale=1.0,
    )  # fmt: skip
    return Tiles(geometry, np.empty((0, 2), np.int32), np.empty(0, np.float32))


def _check_scale(slide: Path, level0: float, target: float, max_upsample: float) -> None:
    if level0 > target * max_upsample:
        raise MissingResolutionError(
            slide, f"its finest level has {level0:g} µm/px, too coarse for tiles of {target:g} µm/px"
            " (an overview, not a scan?)"
        )  # fmt: skip


def _tile(
    reader: SlideReader,
    overview: Image.Image,
    scale: float,
    mpp: float,
    nothing: TileGeometry,
    config: TileConfig,
    drawn: Drawn,
) -> tuple[Tiles, list[BaseGeometry]]:
    factor = max(1, int(MASK_UM_PER_PX / (mpp * scale)))
    small, mask_scale = overview.reduce(factor), scale * factor  # its last row and column may hang over
    mask = _mask(reader, small, mask_scale, mpp, config.min_area_mm2, drawn)
    side = footprint_px(nothing.tile_px, nothing.target_mpp, mpp)
    corners = grid(reader.extent_px, side, reader.origin_px)
    share = share_inside(mask, (corners - reader.origin_px) / mask_scale, side / mask_scale)
    keep = share >= max(config.min_tissue, 1e-6)
    (width, height), (left, top) = reader.size_px, reader.origin_px
    geometry = TileGeometry(**{
        **nothing.__dict__,
        "mpp_level0": mpp,
        "side_level0_px": side,
        "width_level0_px": width,
        "height_level0_px": height,
        "origin_x_level0_px": left,
        "origin_y_level0_px": top,
        "tissue_mm2": float(mask.sum()) * (mpp * mask_scale / 1000) ** 2,
        "overview_scale": scale,
    })  # fmt: skip
    return Tiles(geometry, corners[keep], share[keep]), outlines(mask, mask_scale, reader.origin_px)


def _mask(
    reader: SlideReader, small: Image.Image, mask_scale: float, mpp: float, min_area_mm2: float, drawn: Drawn
) -> Bool[np.ndarray, "height width"]:
    """The user's tissue or what is found, cut to the user's region."""

    def read(path: Path) -> Bool[np.ndarray, "height width"]:
        return read_mask(
            path, origin_px=reader.origin_px, extent_px=reader.extent_px, size_px=reader.size_px,
            shape=(small.height, small.width), pitch_px=mask_scale, geojson_frame=drawn.frame,
        )  # fmt: skip

    mask = read(drawn.tissue) if drawn.tissue else tissue_mask(as_array(small), mpp * mask_scale, min_area_mm2)
    return mask & read(drawn.region) if drawn.region else mask


def _why_empty(geometry: TileGeometry, drawn: Drawn) -> str:
    if min(geometry.width_level0_px, geometry.height_level0_px) < geometry.side_level0_px:
        return (
            f"the slide ({geometry.width_level0_px} x {geometry.height_level0_px} px) is smaller than one tile "
            f"({geometry.side_level0_px:.0f} px)"
        )
    where = f"in mask {drawn.tissue.name}" if drawn.tissue else "found"
    inside = f" inside region {drawn.region.name}" if drawn.region else ""
    return f"no tile with enough tissue ({geometry.tissue_mm2:.3f} mm² of tissue {where}{inside})"
