"""`mil features` at the command line; torch is imported when the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config import DEFAULT_ENCODER, FeaturesConfig, checked, encoder_name, load_encoder
from mil.config.options import (
    BagTables,
    BatchSize,
    Compile,
    DatasetPart,
    Device,
    FeatureDtype,
    MaxCorrupt,
    Precision,
    SlidesDir,
    StainNorm,
    Threads,
)
from mil.errors import ConfigError

DEFAULTS = FeaturesConfig()


def features(
    slide: Annotated[
        Path | None, typer.Option(help="Path of the slide image, such as a .svs or .tif.")
    ] = None,
    tiles: Annotated[
        Path | None,
        typer.Option(
            help="Tiles file of the slide, written by `mil tile`; with --dataset their folder."
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(help="File of the bag to write, .h5; repeat for each encoder."),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            help="Id of the slide, as its tiles state it; empty: that of its file's name."
        ),
    ] = "",
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of an encoder in configs/encoders.yaml; repeat to read the slide once "
            f"for several; default: {DEFAULT_ENCODER}."
        ),
    ] = None,
    batch_size: BatchSize = DEFAULTS.batch_size,
    precision: Precision = DEFAULTS.precision,
    dtype: FeatureDtype = DEFAULTS.dtype,
    stain_norm: StainNorm = DEFAULTS.stain_norm,
    max_corrupt: MaxCorrupt = DEFAULTS.max_corrupt,
    compile: Compile = DEFAULTS.compile,
    threads: Threads = 1,
    device: Device = "auto",
    devices: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of GPUs to encode a dataset on; each takes the next slide as soon as it "
            "is free; default: all that are visible.",
        ),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(help="Dataset to encode, with --bags in place of --slide and --out."),
    ] = "",
    slides_dir: SlidesDir = None,
    bags: Annotated[
        list[Path] | None,
        typer.Option(help="Folder for the bags of a dataset; repeat for each encoder."),
    ] = None,
    part: DatasetPart = "",
    table: BagTables = None,
) -> None:
    """Encode the tiles of slides; their bags are all that later stages need.

    Of a dataset, bags that are current stay, and a slide that fails stops no other.

    Example: mil features --dataset demo --tiles tiles --bags bags --part 3/8
    """
    names = encoder or [DEFAULT_ENCODER]
    of_dataset = bool(dataset and bags)
    if of_dataset == bool(slide and out) or tiles is None:
        raise ConfigError(
            "mil features: one slide is --slide, --tiles and --out, a dataset is --dataset, "
            "--tiles and --bags; give one of the two"
        )
    if of_dataset and name:
        raise ConfigError(
            "mil features: --name is of one slide; a dataset has it as a column of its slide table"
        )
    if devices is not None and (slide or device == "cpu"):
        raise ConfigError(
            "mil features: --devices is a number of GPUs for a dataset; leave it out with --slide "
            "and with --device cpu"
        )
    _check_outputs(names, bags or out or [], "--bags" if of_dataset else "--out")
    tables = table or []
    if tables:
        _check_outputs(names, tables, "--table")
    # The entry's name, not an alias: a bag states it, and folders of bags carry it.
    names = [encoder_name(name) for name in names]
    entries = [load_encoder(name) for name in names]
    settings = {
        "batch_size": batch_size,
        "precision": precision,
        "dtype": dtype,
        "stain_norm": stain_norm,
        "max_corrupt": max_corrupt,
        "compile": compile,
    }
    # Everything is checked before torch is imported, which takes seconds.
    config = checked(FeaturesConfig, settings, "mil features")
    from mil.features.gpus import encode_slides
    from mil.features.part import FeatureJob, FeatureSettings, encode_slide, jobs_of_part
    from mil.features.stage import Target
    from mil.io.part_jobs import finish
    from mil.io.probe import probe
    from mil.io.tables.ids import id_of
    from mil.io.tables.parts import parse_part

    shared = FeatureSettings(config, threads, device)
    if bags:
        encoders = list(zip(names, entries, bags, strict=True))
        jobs = jobs_of_part(dataset, slides_dir, tiles, encoders, shared, parse_part(part))
        probe([job.tiles for job in jobs])
        finish("features", encode_slides(jobs, shared, devices), tables, jobs)
    elif slide and out:
        targets = tuple(Target(*target) for target in zip(names, entries, out, strict=True))
        job = FeatureJob(name or id_of(slide), slide, tiles, targets, shared)
        typer.echo(f"features {encode_slide(job, job.outputs())}")


def _check_outputs(names: list[str], paths: list[Path], flag: str) -> None:
    if len(names) != len(paths):
        raise ConfigError(
            f"mil features: {len(names)} encoders, but {len(paths)} {flag}; give one {flag} for "
            "each --encoder"
        )
    # The second bag would replace the first.
    if len({path.resolve() for path in paths}) != len(paths):
        raise ConfigError(
            f"mil features: two {flag} name the same file; each encoder's bag needs its own"
        )
    for path in paths:
        if path.is_dir() and flag == "--out":
            raise ConfigError(
                f"mil features: --out {path} is a folder; give the file of the bag, such as "
                f"{path}/SLIDE.h5"
            )
