"""Slide in; tiles file, tissue outline, overview and QC image out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry

from mil.config import TileConfig
from mil.config.datasets import GeojsonFrame
from mil.errors import CoarseSlideError, MissingResolutionError, SlideError
from mil.io.annotations import feature, write_geojson
from mil.io.atomic import atomic_path, check_not_inputs
from mil.io.h5 import check_replaceable
from mil.io.pictures import write_jpeg
from mil.io.slides import Overview, Resolution, SlideReader
from mil.io.slides.scanner import scanner_of
from mil.io.tiles import FORMAT, TileGeometry, Tiles, write_tiles
from mil.tile.checks import check_any_tile, check_loss, check_scale, remarks_of
from mil.tile.outlines import outlines
from mil.tile.plan import TilePlan, UserMasks, plan_tiles, read_overview, shrink_for_people
from mil.tile.qc_image import draw_qc_image
from mil.tile.quality import assess

# How QuPath shows a region of tissue; it can be edited there at once.
TISSUE = {
    "objectType": "annotation",
    "name": "Tissue",
    "classification": {"name": "Tissue", "color": [0, 150, 136]},
    "isLocked": False,
}
# Stands for the overview of a slide that does not open.
BLANK = Overview(Image.new("RGB", (256, 256), (224, 224, 224)), 1.0, 0.0)
JPEG_QUALITY = 90


def ignore(sentence: str) -> None:
    """Say nothing."""


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
    made_from: str = "",
    scene: str = "",
    say: Callable[[str], object] = ignore,
) -> tuple[TileGeometry, int]:
    """Tile one slide; any fault of the slide becomes its named state, never an error.

    Args:
        slide: the slide's file.
        name: the slide's id.
        out: the tiles file; `.geojson` (tissue) and `.jpg` (overview) go beside it,
            `grid/NAME.jpg` (the QC image) into a folder there.
        tile_px: side of a tile as the encoder sees it, pixels.
        target_mpp: resolution the encoder sees, micrometres per pixel.
        mpp: resolution of level 0 from the slide table, which overrides the slide's own;
            None: not given.
        config: section `tile`.
        tissue: the user's own mask, instead of the tissue that would be found; see
            `mil.io.regions`.
        region: mask of the part of the slide from which tiles may be taken.
        geojson_frame: corner that the user's GeoJSON counts from; see
            `mil.config.datasets`.
        made_from: digest of what the tiles depend on; see `mil.io.provenance`.
        scene: name or number of one of several images of the file; see `SlideReader`.
        say: called with each sentence about the slide that its user must know of.

    Returns:
        Geometry with the slide's state, and the number of tiles.

    Raises:
        FormatError: `tissue` or `region` cannot be used; nothing is written.
        DatasetError: the slide or a mask would be replaced by a file of the result.
        ConfigError: the tiles are so small that there would be millions.
    """
    check_not_inputs([out, *files_beside(out)], [slide, tissue, region])
    # Before the files beside it are written.
    check_replaceable(out, FORMAT)
    user_masks = UserMasks(tissue, region, geojson_frame)
    tiled = _TiledSlide(_no_tiles(name, tile_px, target_mpp, scene))
    state = "ok"
    reason = ""
    try:
        _tile(slide, tiled, mpp, config, user_masks, say)
    except SlideError as error:
        state = error.state
        reason = error.reason
    geometry = replace(tiled.tiles.geometry, state=state, reason=reason)
    tiles = replace(tiled.tiles, geometry=geometry)
    _write(out, tiles, tiled.overview, tiled.regions, made_from)
    return geometry, len(tiles.coords)


@dataclass
class _TiledSlide:
    """What is known of a slide so far; a fault leaves it as it is.

    Attributes:
        tiles: Tiles and geometry.
        overview: Overview that people see.
        regions: Outlines of the tissue, level-0 pixels.
    """

    tiles: Tiles
    overview: Overview = BLANK
    regions: list[BaseGeometry] = field(default_factory=list)


def _tile(
    slide: Path,
    tiled: _TiledSlide,
    mpp: float | None,
    config: TileConfig,
    user_masks: UserMasks,
    say: Callable[[str], object],
) -> None:
    """Open, look at and tile a slide.

    Raises:
        SlideError: the slide cannot be used; what is known of it is in `tiled`.
    """
    request = tiled.tiles.geometry
    with SlideReader(slide, scene=request.scene) as reader:
        overview, resolution = _read(reader, mpp, request.target_mpp, config)
        tiled.overview = shrink_for_people(overview)
        geometry = _with_size(request, reader, tiled.overview)
        tiled.tiles = replace(tiled.tiles, geometry=geometry)
        if isinstance(resolution, SlideError):
            raise resolution
        for remark in remarks_of(reader, resolution):
            say(f"tile {request.slide}: {remark}")
        check_loss(slide, overview.lost)
        plan = plan_tiles(
            reader,
            resolution.mpp,
            tile_px=request.tile_px,
            target_mpp=request.target_mpp,
            config=config,
            user_masks=user_masks,
            overview=overview,
        )
        tiled.tiles = _tiles(reader, plan, resolution, geometry, user_masks)
        tiled.regions = outlines(plan.mask, plan.mask_scale, reader.origin_px)
        check_any_tile(
            reader,
            len(plan.coords),
            side_level0_px=plan.side_level0_px,
            tissue_mm2=plan.tissue_mm2,
            user_masks=user_masks,
            overview=overview,
        )


def _no_tiles(name: str, tile_px: int, target_mpp: float, scene: str) -> Tiles:
    """The tiles of a slide that does not open."""
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
        scene=scene,
    )
    return Tiles(geometry, np.empty((0, 2), np.int32), np.empty(0, np.float32))


def _read(
    reader: SlideReader, mpp: float | None, target_mpp: float, config: TileConfig
) -> tuple[Overview, Resolution | SlideError]:
    """The slide's overview and resolution; a slide without resolution has an overview too."""
    try:
        resolution = reader.resolution(mpp, allow_objective_power=config.objective_power)
        check_scale(reader, resolution, target_mpp, config.max_upsample)
    except (MissingResolutionError, CoarseSlideError) as error:
        return read_overview(reader, None), error
    return read_overview(reader, resolution.mpp), resolution


def _with_size(geometry: TileGeometry, reader: SlideReader, overview: Overview) -> TileGeometry:
    width, height = reader.size_px
    left, top = reader.origin_px
    return replace(
        geometry,
        width_level0_px=width,
        height_level0_px=height,
        origin_x_level0_px=left,
        origin_y_level0_px=top,
        overview_scale=overview.scale,
        scanner=scanner_of(reader.vendor, reader.properties),
    )


def _tiles(
    reader: SlideReader,
    plan: TilePlan,
    resolution: Resolution,
    geometry: TileGeometry,
    user_masks: UserMasks,
) -> Tiles:
    tissue_source = "found"
    if plan.detected.second_try:
        tissue_source = "found on a second, more sensitive try"
    if user_masks.tissue:
        tissue_source = user_masks.tissue.name
    geometry = replace(
        geometry,
        mpp_level0=resolution.mpp,
        mpp_source=resolution.source,
        side_level0_px=plan.side_level0_px,
        tissue_mm2=plan.tissue_mm2,
        tissue_source=tissue_source,
    )
    return Tiles(geometry, plan.coords, plan.tissue, assess(reader, plan, resolution.mpp))


def _write(
    out: Path,
    tiles: Tiles,
    overview: Overview,
    regions: list[BaseGeometry],
    made_from: str,
) -> None:
    geometry = tiles.geometry
    origin = (geometry.origin_x_level0_px, geometry.origin_y_level0_px)
    scale = overview.scale
    features = [feature(region, TISSUE) for region in regions]
    tissue_file, overview_file, qc_image_file = files_beside(out)
    write_geojson(tissue_file, features, origin)
    # Matrix of an affine transformation: x' = x / scale - left / scale, y' likewise.
    to_overview = (1 / scale, 0, 0, 1 / scale, -origin[0] / scale, -origin[1] / scale)
    qc_image = draw_qc_image(
        overview.image,
        _title(tiles),
        (tiles.coords - np.array(origin)) / scale,
        geometry.side_level0_px / scale,
        tiles.quality,
        [affine_transform(region, to_overview) for region in regions],
    )
    _save(overview.image, overview_file)
    _save(qc_image, qc_image_file)
    # Last: with it the stage has ended.
    write_tiles(out, tiles, made_from=made_from)


def files_beside(out: Path) -> tuple[Path, Path, Path]:
    """Files of the tissue outline, overview and QC image that belong to a tiles file."""
    return (
        out.with_suffix(".geojson"),
        out.with_suffix(".jpg"),
        out.parent / "grid" / f"{out.stem}.jpg",
    )


def _save(image: Image.Image, path: Path) -> None:
    with atomic_path(path) as scratch:
        write_jpeg(scratch, image, quality=JPEG_QUALITY)


def _title(tiles: Tiles) -> str:
    geometry = tiles.geometry
    if geometry.state != "ok":
        return f"{geometry.slide}: {geometry.state}"
    side_um = geometry.tile_px * geometry.target_mpp
    count = f"{len(tiles.coords)} tiles of {side_um:g} µm"
    return f"{geometry.slide}: {count} on {geometry.tissue_mm2:.1f} mm² of tissue"
