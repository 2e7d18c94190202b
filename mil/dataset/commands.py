"""`mil dataset …` at the command line."""

from pathlib import Path
from typing import Annotated

import typer

dataset_app = typer.Typer(help="Describe your own slides.", no_args_is_help=True)


@dataset_app.command("init")
def dataset_init(
    name: Annotated[str, typer.Argument(help="What to call it: `--config dataset=NAME`.")],
    slides: Annotated[Path, typer.Option(help="Folder of the slides; they may lie at any depth.")],
    labels: Annotated[
        Path | None, typer.Option(help="Spreadsheet of their labels: .csv, .tsv or .xlsx.")
    ] = None,
    slide_column: Annotated[str | None, typer.Option(help="Its column of slide names.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Its column of labels.")] = None,
    patient_column: Annotated[str | None, typer.Option(help="Its column of patients.")] = None,
    positive: Annotated[
        str | None, typer.Option(help="The class of interest; default: the last.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where NAME.yaml and NAME.csv go.")] = Path(
        "configs/datasets"
    ),
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a dataset of that name.")
    ] = False,
) -> None:
    """Make a dataset of a folder of slides and a spreadsheet."""
    from mil.dataset.init import init

    made = init(
        name,
        slides=slides,
        labels=labels,
        out=out,
        slide_column=slide_column,
        label_column=label_column,
        patient_column=patient_column,
        positive=positive,
        force=force,
    )
    typer.echo(made)
    typer.echo(f"now: snakemake --cores all --config dataset={name}")
