"""`mil features` at the command line; torch is imported when the command runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import DEFAULT_ENCODER, FeaturesConfig, checked, encoder_name, load_encoder
from mil.config.options import Device, Threads, option
from mil.errors import ConfigError

DEFAULTS = FeaturesConfig()


def features(
    slide: Annotated[Path, typer.Option(help="Path of the slide image, such as a .svs or .tif.")],
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
    """Encode the tiles of a slide; its bag is all that later stages need."""
    names = encoder or [DEFAULT_ENCODER]
    if len(names) != len(out):
        raise ConfigError(
            f"mil features: {len(names)} encoders, but {len(out)} bags to write; give one --out "
            "for each --encoder"
        )
    # The second bag would replace the first.
    if len({path.resolve() for path in out}) != len(out):
        raise ConfigError(
            "mil features: two --out name the same file; each encoder's bag needs its own"
        )
    for path in out:
        if path.is_dir():
            raise ConfigError(
                f"mil features: --out {path} is a folder; give the file of the bag, such as "
                f"{path}/SLIDE.h5"
            )
    # The entry's name, not an alias: a bag states it, and folders of bags carry it.
    names = [encoder_name(name) for name in names]
    entries = [load_encoder(name) for name in names]
    settings = {
        "batch_size": batch_size,
        "precision": precision,
        "dtype": dtype,
        "max_corrupt": max_corrupt,
        "compile": compile,
    }
    # Everything is checked before torch is imported, which takes seconds.
    config = checked(FeaturesConfig, settings, "mil features")
    from mil.features.stage import Target, run

    targets = [Target(*target) for target in zip(names, entries, out, strict=True)]
    typer.echo(run(slide, tiles, targets, config=config, threads=threads, device=device))
