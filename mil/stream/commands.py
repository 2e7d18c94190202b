"""`mil stream` at the command line; the work is imported when the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config import (
    FeaturesConfig,
    FetchConfig,
    TileConfig,
    checked,
    encoder_name,
    load_encoder,
)
from mil.config.options import (
    BagTables,
    BatchSize,
    Compile,
    Dataset,
    DatasetPart,
    Device,
    FeatureDtype,
    MaxCorrupt,
    MaxUpsample,
    MinArea,
    MinTissue,
    ObjectivePower,
    Precision,
    RequireSlides,
    SlidesDir,
    StainNorm,
    Threads,
    option,
)
from mil.errors import ConfigError

TILE = TileConfig()
FEATURES = FeaturesConfig()
FETCH = FetchConfig()


def stream(
    encoder: Annotated[
        list[str],
        typer.Option(help="Name of an encoder in configs/encoders.yaml; repeat for several."),
    ],
    tiles: Annotated[
        list[Path], typer.Option(help="Folder for the tiles files; repeat for each encoder.")
    ],
    bags: Annotated[list[Path], typer.Option(help="Folder for the bags; repeat for each encoder.")],
    dataset: Dataset,
    slides_dir: SlidesDir = None,
    part: DatasetPart = "",
    table: BagTables = None,
    require_slides: RequireSlides = False,
    slots: Annotated[int, option(FetchConfig, "slots", min=1)] = FETCH.slots,
    trust_urls: Annotated[
        bool,
        typer.Option(
            "--trust-urls",
            help="Permission for file: URLs outside the dataset's folder, and for http: URLs "
            "without a checksum.",
        ),
    ] = False,
    size_px: Annotated[
        list[int] | None,
        typer.Option(min=16, help="Side of a tile, pixels; repeat for each encoder."),
    ] = None,
    target_mpp: Annotated[
        list[float] | None,
        typer.Option(
            min=0.001, help="Resolution of a tile, micrometres per pixel; repeat for each encoder."
        ),
    ] = None,
    min_tissue: MinTissue = TILE.min_tissue,
    min_area_mm2: MinArea = TILE.min_area_mm2,
    max_upsample: MaxUpsample = TILE.max_upsample,
    objective_power: ObjectivePower = TILE.objective_power,
    batch_size: BatchSize = FEATURES.batch_size,
    precision: Precision = FEATURES.precision,
    dtype: FeatureDtype = FEATURES.dtype,
    stain_norm: StainNorm = FEATURES.stain_norm,
    max_corrupt: MaxCorrupt = FEATURES.max_corrupt,
    compile: Compile = FEATURES.compile,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Fetch, tile and encode slides one after another, and remove each that was fetched.

    Tiles and bags that are current stay, and their slide is not fetched. A slide that fails
    stops no other.

    Example: mil stream --dataset demo --encoder uni --tiles tiles --bags bags --part 3/8
    """
    names = [encoder_name(name) for name in encoder]
    entries = [load_encoder(name) for name in names]
    sizes = size_px or [entry.tile_px for entry in entries]
    resolutions = target_mpp or [entry.mpp for entry in entries]
    tables = table or []
    counts = {
        "--tiles": len(tiles),
        "--bags": len(bags),
        "--table": len(tables or names),
        "--size-px": len(sizes),
        "--target-mpp": len(resolutions),
    }
    for flag, count in counts.items():
        if count != len(names):
            raise ConfigError(
                f"mil stream: {len(names)} encoders, but {count} {flag}; give one {flag} for each "
                "--encoder"
            )
    tile_settings = {
        "min_tissue": min_tissue,
        "min_area_mm2": min_area_mm2,
        "max_upsample": max_upsample,
        "objective_power": objective_power,
    }
    feature_settings = {
        "batch_size": batch_size,
        "precision": precision,
        "dtype": dtype,
        "stain_norm": stain_norm,
        "max_corrupt": max_corrupt,
        "compile": compile,
    }
    # Everything is checked before torch is imported, which takes seconds.
    tile_config = checked(TileConfig, tile_settings, "mil stream")
    features_config = checked(FeaturesConfig, feature_settings, "mil stream")
    from mil.features.part import FeatureSettings
    from mil.io.part_jobs import finish
    from mil.io.tables.parts import parse_part
    from mil.memory import keep_freed_memory
    from mil.stream.part import Streamed, stream_part
    from mil.tile.part import TileSettings

    streamed = [
        Streamed(name, entry, tiles_dir, bags_dir, TileSettings(tile_px, mpp, tile_config))
        for name, entry, tiles_dir, bags_dir, tile_px, mpp in zip(
            names, entries, tiles, bags, sizes, resolutions, strict=True
        )
    ]
    # As for `tile`: without it a quarter of the time goes into fresh pages.
    keep_freed_memory()
    results = stream_part(
        dataset,
        slides_dir,
        streamed,
        FeatureSettings(features_config, threads, device),
        parse_part(part),
        slots=slots,
        trust_urls=trust_urls,
        require_slides=require_slides,
    )
    finish("stream", results, tables)
