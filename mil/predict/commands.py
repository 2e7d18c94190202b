"""`mil predict` at the command line. What it does is imported when it is called."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config.options import Threads
from mil.errors import DatasetError


def predict(
    slides: Annotated[
        list[Path], typer.Argument(metavar="SLIDE...", help="Files of the new slides.")
    ],
    head: Annotated[
        Path,
        typer.Option(
            help="Folder of a trained head, or a folder of several of one recipe, whose "
            "predictions are averaged."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder to write predictions.csv and heatmap/SLIDE.png, .geojson, .csv and "
            ".tiles.jpg to."
        ),
    ],
    mpp: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Pixel size of level 0 of all slides, micrometres; it overrides what their "
            "files state.",
        ),
    ] = None,
    scene: Annotated[
        str,
        typer.Option(
            help="Name or number of the image to read where a slide's file holds several; "
            "empty: the largest that is neither a label nor an overview."
        ),
    ] = "",
    no_heatmap: Annotated[
        bool, typer.Option("--no-heatmap", help="Write no heatmaps, only the table.")
    ] = False,
    keep_bags: Annotated[
        Path | None,
        typer.Option(help="Folder to keep the slides' bags in; default: they are not kept."),
    ] = None,
    curve: Annotated[
        bool,
        typer.Option(
            "--curve",
            help="Write curve/SLIDE.csv too: the prediction after every share of the tiles, in "
            "random order, and the share after which the class no longer changed.",
        ),
    ] = False,
    threads: Threads = 1,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Device of the encoder; auto: a GPU if there is one."),
    ] = "auto",
) -> None:
    """Predict new slides with a trained head: calibrated probability, named state and heatmap.

    The answer is shown as it settles, while tiles are still being read.

    A slide that cannot be used gets its state, and stops no other; exit code 1 then.

    Example: mil predict new/*.svs --head results/demo/train/TILING/ENCODER/abmil --out
        predicted
    """
    from mil.predict.stage import run

    for slide in slides:
        # A shell hands on a pattern that matches nothing.
        if any(mark in slide.name for mark in "*?[") and not slide.exists():
            raise DatasetError(f"{slide}: no file matches this pattern; look at the folder")
    predictions = run(
        slides,
        head,
        out,
        mpp=mpp,
        threads=threads,
        device=device,
        heatmaps=not no_heatmap,
        keep_bags=keep_bags,
        scene=scene,
        curve=curve,
        say=typer.echo,
    )
    # A script notices by the exit code; the other slides have their predictions all the
    # same.
    if any(one.state != "ok" for one in predictions):
        raise typer.Exit(1)
