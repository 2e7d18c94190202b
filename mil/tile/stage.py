"""Slide in; tiles file, tissue outline, overview picture and a sheet to look at out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry

from mil.config import TileConfig
from mil.config.datasets import GeojsonFrame
from mil.errors import MissingResolutionError, SlideError
from mil.io.annotations import feature, write_geojson
from mil.io.atomic import atomic_path
from mil.io.slides import Picture, Resolution, SlideReader
from mil.io.tiles import TileGeometry, Tiles, write_tiles
from mil.tile.checks import check_any, check_loss, check_scale
from mil.tile.plan import Drawn, TilePlan, look, overview, plan_tiles
from mil.tile.qc_image import draw_sheet
from mil.tile.quality import assess
from mil.tile.tissue import outlines

# How QuPath shows a piece of tissue; it can be edited there at once.
TISSUE = {
    "objectType": "annotation",
    "name": "Tissue",
    "classification": {"name": "Tissue", "color": [0, 150, 136]},
    "isLocked": False,
}
BLANK = Picture(Image.new("RGB", (256, 256), (224, 224, 224)), 1.0, 0.0)


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
        out: the tiles file; `.geojson` (tissue) and `.jpg` (overview) go beside it,
            `grid/NAME.jpg` (overview with outline and tiles) into a folder there.
        tile_px: side of a tile as the encoder sees it, pixels.
        target_mpp: resolution the encoder sees, micrometres per pixel.
        mpp: resolution of level 0 from the slide table, over what the slide says.
        config: section `tile`.
        tissue: the user's own mask, instead of the tissue that would be found; see
            `mil.io.regions`.
        region: tiles are taken only inside it.
        geojson_frame: what GeoJSON of the user counts from; see `mil.config.datasets`.

    Returns:
        Geometry with the slide's state, and the number of tiles.

    Raises:
        FormatError: `tissue` or `region` cannot be used; nothing is written.
    """
    drawn = Drawn(tissue, region, geojson_frame)
    view = BLANK
    pieces = []
    tiles = _nothing(name, tile_px, target_mpp)
    try:
        with SlideReader(slide) as reader:
            seen, resolution = _see(reader, mpp, target_mpp, config)
            view = overview(seen)
            tiles = replace(tiles, geometry=_placed(tiles.geometry, reader, view))
            if isinstance(resolution, MissingResolutionError):
                raise resolution
            check_loss(slide, seen.lost)
            plan = plan_tiles(
                reader,
                resolution.mpp,
                tile_px=tile_px,
                target_mpp=target_mpp,
                config=config,
                drawn=drawn,
                view=seen,
            )
            tiles = _tiles(reader, plan, resolution, tiles.geometry, drawn)
            pieces = outlines(plan.mask, plan.mask_scale, reader.origin_px)
            side = plan.side_level0_px
            area = plan.tissue_mm2
            check_any(reader, len(plan.coords), side_level0_px=side, tissue_mm2=area, drawn=drawn)
        state = "ok"
        reason = ""
    except SlideError as error:
        state = error.state
        reason = error.reason
    tiles = replace(tiles, geometry=replace(tiles.geometry, state=state, reason=reason))
    _write(out, tiles, view, pieces)
    return tiles.geometry, len(tiles.coords)


def _nothing(name: str, tile_px: int, target_mpp: float) -> Tiles:
    geometry = TileGeometry(
        slide=name,
        state="unreadable",
        reason="",
        tile_px=tile_px,
        target_mpp=target_mpp,
        mpp_level0=0.0,
        side_level0_px=0.0,
        width_level0_px=0,
        height_level0_px=0,
        origin_x_level0_px=0,
        origin_y_level0_px=0,
        tissue_mm2=0.0,
        overview_scale=1.0,
    )
    return Tiles(geometry, np.empty((0, 2), np.int32), np.empty(0, np.float32))


def _see(
    reader: SlideReader, mpp: float | None, target_mpp: float, config: TileConfig
) -> tuple[Picture, Resolution | MissingResolutionError]:
    """The slide's picture and scale; a slide without scale can be seen all the same."""
    try:
        resolution = reader.resolution(mpp, allow_objective_power=config.objective_power)
        check_scale(reader.path, resolution.mpp, target_mpp, config.max_upsample)
    except MissingResolutionError as error:
        return look(reader, None), error
    return look(reader, resolution.mpp), resolution


def _placed(geometry: TileGeometry, reader: SlideReader, view: Picture) -> TileGeometry:
    (width, height), (left, top) = reader.size_px, reader.origin_px
    return replace(
        geometry,
        width_level0_px=width,
        height_level0_px=height,
        origin_x_level0_px=left,
        origin_y_level0_px=top,
        overview_scale=view.scale,
    )


def _tiles(
    reader: SlideReader,
    plan: TilePlan,
    resolution: Resolution,
    geometry: TileGeometry,
    drawn: Drawn,
) -> Tiles:
    again = " on a second, more sensitive try" if plan.found.second_try else ""
    geometry = replace(
        geometry,
        mpp_level0=resolution.mpp,
        mpp_source=resolution.source,
        side_level0_px=plan.side_level0_px,
        tissue_mm2=plan.tissue_mm2,
        tissue_source=drawn.tissue.name if drawn.tissue else f"found{again}",
    )
    return Tiles(geometry, plan.coords, plan.tissue, assess(reader, plan, resolution.mpp))


def _write(out: Path, tiles: Tiles, view: Picture, pieces: list[BaseGeometry]) -> None:
    geometry = tiles.geometry
    origin = (geometry.origin_x_level0_px, geometry.origin_y_level0_px)
    scale = view.scale
    write_geojson(out.with_suffix(".geojson"), [feature(piece, TISSUE) for piece in pieces], origin)
    onto = (1 / scale, 0, 0, 1 / scale, -origin[0] / scale, -origin[1] / scale)
    sheet = draw_sheet(
        view.image,
        _title(tiles),
        (tiles.coords - np.array(origin)) / scale,
        geometry.side_level0_px / scale,
        tiles.quality,
        [affine_transform(piece, onto) for piece in pieces],
    )
    for picture, path in (
        (view.image, out.with_suffix(".jpg")),
        (sheet, out.parent / "grid" / f"{out.stem}.jpg"),
    ):
        with atomic_path(path) as scratch:
            picture.save(scratch, quality=90)
    write_tiles(out, tiles)


def _title(tiles: Tiles) -> str:
    geometry = tiles.geometry
    if geometry.state != "ok":
        return f"{geometry.slide}: {geometry.state}"
    side_um = geometry.tile_px * geometry.target_mpp
    return f"{geometry.slide}: {len(tiles.coords)} tiles of {side_um:g} µm on {geometry.tissue_mm2:.1f} mm² of tissue"
