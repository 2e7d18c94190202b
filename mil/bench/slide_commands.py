"""`mil bench read`, `features` and `tile`: work on slides, at the command line."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.bench.options import Json, Repeats
from mil.config import DEFAULT_ENCODER
from mil.config.options import Device, Threads

Slides = Annotated[
    list[Path] | None,
    typer.Argument(help="Files of slides; default: two synthetic slides of 60 000 x 60 000 px."),
]
TilePx = Annotated[int, typer.Option(min=16, help="Side of a tile, pixels.")]
TargetMpp = Annotated[
    float, typer.Option(min=0.01, help="Resolution of a tile, micrometres per pixel.")
]


def bench_read(
    slides: Slides = None,
    threads: Threads = 1,
    tiles: Annotated[
        int, typer.Option(min=1, help="Approximate number of tiles of each slide.")
    ] = 1000,
    tile_px: TilePx = 256,
    target_mpp: TargetMpp = 0.5,
    repeats: Repeats = 3,
    json: Json = None,
) -> None:
    """Time reading: tiles a second by stage, beside a plain loop over OpenSlide."""
    from mil.bench.read import run
    from mil.bench.results_table import show

    show(
        run(
            slides or [],
            threads=threads,
            tiles=tiles,
            tile_px=tile_px,
            target_mpp=target_mpp,
            repeats=repeats,
        ),
        json,
    )


def bench_features(
    slides: Slides = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of an encoder in configs/encoders.yaml; repeat for several; "
            f"default: {DEFAULT_ENCODER}."
        ),
    ] = None,
    threads: Threads = 1,
    tiles: Annotated[
        int, typer.Option(min=1, help="Approximate largest number of tiles of each slide.")
    ] = 1000,
    repeats: Repeats = 3,
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(help="Precision of the encoder; auto: one that the device is fast in."),
    ] = "auto",
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="Use random weights instead of downloaded ones."),
    ] = False,
    json: Json = None,
) -> None:
    """Time feature extraction: tiles a second of reading, of an encoder, and of both."""
    from mil.bench.features import run
    from mil.bench.results_table import show

    outcome = run(
        slides or [],
        encoders=encoder or [DEFAULT_ENCODER],
        threads=threads,
        tiles=tiles,
        repeats=repeats,
        device=device,
        precision=precision,
        random_weights=random_weights,
    )
    show(outcome, json)


def bench_tile(
    slides: Slides = None, tile_px: TilePx = 224, target_mpp: TargetMpp = 0.5, json: Json = None
) -> None:
    """Time tiling: seconds a slide by stage, beside OpenSlide's own thumbnail."""
    from mil.bench.results_table import show
    from mil.bench.tile import run

    show(run(slides or [], tile_px=tile_px, target_mpp=target_mpp), json)
