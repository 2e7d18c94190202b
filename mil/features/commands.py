"""`mil features` at the command line; torch is imported when the command runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import FeaturesConfig, checked, load_encoder
from mil.errors import ConfigError

DEFAULT_ENCODER = "efficientnet_lite0"


def features(
    slide: Annotated[Path, typer.Option(help="The slide.")],
    tiles: Annotated[Path, typer.Option(help="Its tiles file.")],
    out: Annotated[list[Path], typer.Option(help="Where the bag goes; one for each encoder.")],
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Of configs/encoders.yaml; repeat to read the slide once for several. [default: efficientnet_lite0]"
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tiles per step; default: 16 on a CPU, what the memory holds on a GPU."
        ),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(help="auto: what the device is fast in."),
    ] = "auto",
    dtype: Annotated[
        Literal["float16", "float32"], typer.Option(help="Of the features in the bag.")
    ] = "float16",
    max_corrupt: Annotated[float, typer.Option(help="Largest share of unreadable tiles.")] = 0.01,
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile; slow to start.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the CPU.")] = 1,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")
    ] = "auto",
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
