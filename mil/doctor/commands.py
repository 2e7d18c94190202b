"""`mil doctor`; what does the work is imported when it is called."""

import sys
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated

import typer


def doctor(
    dataset: Annotated[
        str, typer.Argument(help="A name in configs/datasets, or the path of a dataset's yaml.")
    ],
    slides_dir: Annotated[
        Path | None, typer.Option(help="Where the slides are; default: as in a run.")
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Of configs/encoders.yaml; repeat. Default: those of configs/config.yaml."
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write everything that was found to this file.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Slides looked at at once.")] = 4,
    no_tissue: Annotated[
        bool, typer.Option("--no-tissue", help="Do not look for tissue: much faster.")
    ] = False,
) -> None:
    """Look at slides and weights before any GPU time; exit code 1 when something stands in the way."""
    from mil.doctor.show import show
    from mil.doctor.stage import run

    found = run(
        dataset,
        slides_dir=slides_dir,
        encoders=encoder or [],
        json=json,
        threads=threads,
        tissue=not no_tissue,
    )
    watched = sys.stdout.isatty()
    typer.echo(
        show(found, get_terminal_size().columns if watched else None, colour=watched), nl=False
    )
    raise typer.Exit(1 if found.faults else 0)
