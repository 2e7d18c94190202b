"""`mil features` at the command line; torch is imported when the command runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import DEFAULT_ENCODER, FeaturesConfig, checked, load_encoder
from mil.config.options import Device, Threads, option
from mil.errors import ConfigError

DEFAULTS = FeaturesConfig()


def features(
    slide: Annotated[Path, typer.Option(help="File of the slide.")],
    tiles: Annotated[Path, typer.Option(help="Tiles file of the slide, written by `mil tile`.")],
    out: Annotated[
        list[Path], typer.Option(help="File of the bag to write, .h5; repeat for each encoder.")
    ],
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of an encoder in configs/encoders.yaml; repeat to read the slide once "
            f"for several; default: {DEFAULT_ENCODER}."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, option(FeaturesConfig, "batch_size", min=1)
    ] = DEFAULTS.batch_size,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], option(FeaturesConfig, "precision")
    ] = DEFAULTS.precision,
    dtype: Annotated[
        Literal["float16", "float32"], option(FeaturesConfig, "dtype")
    ] = DEFAULTS.dtype,
    max_corrupt: Annotated[float, option(FeaturesConfig, "max_corrupt")] = DEFAULTS.max_corrupt,
    compile: Annotated[bool, option(FeaturesConfig, "compile", "--compile")] = DEFAULTS.compile,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Embed a slide's tiles; the bag is all that later stages need."""
    names = encoder or [DEFAULT_ENCODER]
    if len(names) != len(out):
        raise ConfigError(
            f"mil features: {len(names)} --encoder, but {len(out)} --out; give one --out for each"
        )
    if len({path.resolve() for path in out}) != len(out):
        raise ConfigError(
            "mil features: the same --out twice; each encoder's bag needs a file of its own"
        )
    if folder := next((path for path in out if path.is_dir()), None):
        raise ConfigError(
            f"mil features: --out {folder} is a folder; give the bag's file, such as "
            f"{folder}/SLIDE.h5"
        )
    entries = [load_encoder(name) for name in names]
    raw = {
        "batch_size": batch_size,
        "precision": precision,
        "dtype": dtype,
        "max_corrupt": max_corrupt,
        "compile": compile,
    }
    config = checked(FeaturesConfig, raw, "mil features")
    from mil.features.stage import Target, run

    targets = [Target(*target) for target in zip(names, entries, out, strict=True)]
    typer.echo(run(slide, tiles, targets, config=config, threads=threads, device=device))
