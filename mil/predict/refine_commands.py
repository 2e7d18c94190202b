"""`mil refine` at the command line; the work is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config.options import Device, Threads


def refine(
    slide: Annotated[Path, typer.Argument(help="Slide file.")],
    head: Annotated[
        Path, typer.Option(help="Folder of a trained head, or of several of one recipe.")
    ],
    bag: Annotated[Path, typer.Option(help="Bag of the slide.")],
    out: Annotated[
        Path, typer.Option(help="Picture to write (.png); a table of its cells goes beside it.")
    ],
    tiles: Annotated[
        Path | None,
        typer.Option(help="Tiles file of the slide; needed where its file holds several images."),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="File of the folds, to use only heads that did not train on the slide."),
    ] = None,
    stride: Annotated[
        float, typer.Option(help="Distance of neighbouring tiles, as a share of a tile.")
    ] = 0.25,
    percentile: Annotated[
        float,
        typer.Option(
            min=0, max=100, help="Percentile of attention from which tiles are read again."
        ),
    ] = 90.0,
    most: Annotated[
        int, typer.Option(min=1, max=100_000, help="Largest number of tiles to read.")
    ] = 4096,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Draw a finer map: the attended region read again with overlapping tiles.

    Example: mil refine demo_12.tif --head TRAINED/abmil --bag BAGS/demo_12.h5 --out fine.png
    """
    from mil.config import Config, checked, config_path, read_yaml
    from mil.predict.ensemble import load_ensemble, runner_of
    from mil.predict.refine import RefineSettings, check_independent, per_side_of, run

    per_side = per_side_of(stride)
    config_file = config_path("config.yaml")
    config = checked(Config, read_yaml(config_file), str(config_file))
    ensemble = load_ensemble(head)
    # Before the encoder is built, which takes seconds.
    check_independent(ensemble)
    runner = runner_of(ensemble, head, config.features, device)
    settings = RefineSettings(per_side, config.features, percentile, most, threads)
    line = run(slide, bag, tiles, ensemble, runner, out, settings, folds=folds)
    typer.echo(f"refine {line}")
