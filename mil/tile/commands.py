"""`mil tile` at the command line; the work is imported when the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config import DEFAULT_ENCODER, TileConfig, checked, load_encoder
from mil.config.options import (
    DatasetPart,
    GeojsonFrame,
    MaxUpsample,
    MinArea,
    MinTissue,
    ObjectivePower,
    PartTable,
    RequireSlides,
    SlidesDir,
    option,
)
from mil.errors import ConfigError

DEFAULTS = TileConfig()


def tile(
    slide: Annotated[
        Path | None, typer.Option(help="Path of the slide image, such as a .svs or .tif.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Tiles file to write, .h5; its pictures go beside it.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Id of the slide; empty: its file's name without the ending.")
    ] = "",
    encoder: Annotated[
        str,
        typer.Option(help="Encoder (configs/encoders.yaml) that sets tile size and resolution."),
    ] = DEFAULT_ENCODER,
    size_px: Annotated[int | None, option(TileConfig, "size_px", min=16)] = DEFAULTS.size_px,
    target_mpp: Annotated[float | None, option(TileConfig, "mpp", min=0.001)] = DEFAULTS.mpp,
    mpp: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Pixel size of level 0, micrometres; it overrides what the slide's file states.",
        ),
    ] = None,
    scene: Annotated[
        str,
        typer.Option(
            help="Name or number of the image to read where the slide's file holds several; "
            "empty: the largest that is neither a label nor an overview."
        ),
    ] = "",
    min_tissue: MinTissue = DEFAULTS.min_tissue,
    min_area_mm2: MinArea = DEFAULTS.min_area_mm2,
    max_upsample: MaxUpsample = DEFAULTS.max_upsample,
    objective_power: ObjectivePower = DEFAULTS.objective_power,
    tissue: Annotated[
        Path | None,
        typer.Option(
            help="Mask of the tissue that replaces detection: .geojson, .xml, .png, .tif."
        ),
    ] = None,
    region: Annotated[
        Path | None,
        typer.Option(help="Region that tiles are restricted to: .geojson, .xml, .png, .tif."),
    ] = None,
    geojson_frame: GeojsonFrame = "scanned",
    dataset: Annotated[
        str, typer.Option(help="Dataset to tile, with --out-dir in place of --slide and --out.")
    ] = "",
    slides_dir: SlidesDir = None,
    out_dir: Annotated[
        Path | None, typer.Option(help="Folder for the tiles files of a dataset.")
    ] = None,
    part: DatasetPart = "",
    table: PartTable = None,
    require_slides: RequireSlides = False,
) -> None:
    """Find tissue on slides and cut it into tiles at an exact physical scale.

    Of a dataset, tiles that are current stay, and a slide that fails stops no other.

    Example: mil tile --dataset demo --out-dir tiles --part 3/8
    """
    from mil.io.part_jobs import finish, run_jobs
    from mil.io.tables import id_of
    from mil.io.tables.parts import parse_part
    from mil.memory import keep_freed_memory
    from mil.tile.part import TileJob, TileSettings, jobs_of_part, tile_slide

    of_dataset = bool(dataset and out_dir)
    if of_dataset == bool(slide and out):
        raise ConfigError(
            "mil tile: one slide is --slide and --out, a dataset is --dataset and --out-dir; give "
            "one of the two"
        )
    if of_dataset and (name or mpp or scene or tissue or region):
        raise ConfigError(
            "mil tile: --name, --mpp, --scene, --tissue and --region are of one slide; for a "
            "dataset give them as columns of its slide table"
        )
    entry = load_encoder(encoder)
    settings = {
        "min_tissue": min_tissue,
        "min_area_mm2": min_area_mm2,
        "max_upsample": max_upsample,
        "objective_power": objective_power,
    }
    shared = TileSettings(
        tile_px=size_px or entry.tile_px,
        target_mpp=target_mpp or entry.mpp,
        config=checked(TileConfig, settings, "mil tile"),
    )
    # Without it a quarter of the time goes into fresh pages.
    keep_freed_memory()
    if slide and out:
        job = TileJob(
            slide=name or id_of(slide),
            file=slide,
            out=out,
            settings=shared,
            mpp=mpp,
            tissue=tissue,
            region=region,
            geojson_frame=geojson_frame,
            scene=scene,
        )
        typer.echo(f"tile {tile_slide(job, job.outputs())}")
    elif out_dir:
        jobs = jobs_of_part(
            dataset,
            slides_dir,
            out_dir,
            shared,
            parse_part(part),
            require_slides=require_slides,
        )
        finish("tile", run_jobs("tile", jobs, tile_slide), [table] if table else [])
