"""`mil tile` at the command line; the work is imported when the command runs."""

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
)
from mil.errors import ConfigError
from mil.tile import options

DEFAULTS = TileConfig()


def tile(
    slide: options.SlideFile = None,
    out: options.Out = None,
    name: options.Name = "",
    encoder: options.Encoder = DEFAULT_ENCODER,
    size_px: options.SizePx = DEFAULTS.size_px,
    target_mpp: options.TargetMpp = DEFAULTS.mpp,
    mpp: options.Mpp = None,
    scene: options.Scene = "",
    min_tissue: MinTissue = DEFAULTS.min_tissue,
    min_area_mm2: MinArea = DEFAULTS.min_area_mm2,
    max_upsample: MaxUpsample = DEFAULTS.max_upsample,
    objective_power: ObjectivePower = DEFAULTS.objective_power,
    tissue: options.TissueFile = None,
    region: options.RegionFile = None,
    geojson_frame: GeojsonFrame = "scanned",
    dataset: options.Dataset = "",
    slides_dir: SlidesDir = None,
    out_dir: options.OutDir = None,
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
