"""`mil doctor` at the command line; the work is imported when the command runs."""

import sys
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated

import typer


def doctor(
    dataset: Annotated[
        str, typer.Argument(help="Dataset: a name in configs/datasets, or the path of its yaml.")
    ],
    slides_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the slides; default: that of a run on the dataset."),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of an encoder in configs/encoders.yaml; repeat for several. "
            "Default: those of configs/config.yaml."
        ),
    ] = None,
    slide_encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a published slide encoder in configs/slide_encoders; repeat for "
            "several. Default: those of configs/config.yaml."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="JSON file to write all findings to.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of slides inspected at a time.")] = 4,
    no_tissue: Annotated[
        bool, typer.Option("--no-tissue", help="Skip tissue detection: much faster.")
    ] = False,
) -> None:
    """Inspect slides and weights before any GPU time; exit code 1 if a run would fail."""
    from mil.doctor.show import show
    from mil.doctor.stage import run

    diagnosis = run(
        dataset,
        slides_dir=slides_dir,
        encoders=encoder or [],
        slide_encoders=slide_encoder or [],
        json=json,
        threads=threads,
        tissue=not no_tissue,
    )
    in_terminal = sys.stdout.isatty()
    # A file or a pipe has no width, and its lines may go through grep.
    width = get_terminal_size().columns if in_terminal else None
    typer.echo(show(diagnosis, width, colour=in_terminal), nl=False)
    raise typer.Exit(1 if diagnosis.faults else 0)
