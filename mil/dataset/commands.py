"""`mil dataset …` at the command line; the work is imported when a command runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config.options import (
    Classes,
    EventColumn,
    LabelColumn,
    PatientColumn,
    Relabel,
    SlideColumn,
    Task,
    TimeColumn,
)

DATASETS = Path("configs/datasets")

Out = Annotated[Path, typer.Option(help="Folder to write NAME.yaml and NAME.csv to.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a dataset of that name.")]

dataset_app = typer.Typer(help="Datasets of your own slides.", no_args_is_help=True)


@dataset_app.command("init")
def dataset_init(
    name: Annotated[
        str, typer.Argument(help="Name of the new dataset, for `--config dataset=NAME`.")
    ],
    slides: Annotated[
        Path, typer.Option(help="Folder of the slides, with subfolders of any depth.")
    ],
    labels: Annotated[
        Path,
        typer.Option(
            help="Spreadsheet of the labels: a .csv, .tsv or .xlsx with one row a slide and the "
            "columns slide, label and, where patients have several slides, patient."
        ),
    ],
    slide_column: SlideColumn = None,
    label_column: LabelColumn = None,
    patient_column: PatientColumn = None,
    task: Task = "classification",
    classes: Classes = "",
    time_column: TimeColumn = None,
    event_column: EventColumn = None,
    positive: Annotated[
        str | None, typer.Option(help="Class of interest; default: the last class.")
    ] = None,
    relabel: Relabel = None,
    out: Out = DATASETS,
    force: Force = False,
) -> None:
    """Make a dataset of a folder of slides and a spreadsheet of their labels."""
    from mil.config import dataset_argument
    from mil.dataset.init import init
    from mil.io.tables.label_options import LabelOptions

    report = init(
        name,
        slides=slides,
        labels=labels,
        out=out,
        slide_column=slide_column,
        label_column=label_column,
        patient_column=patient_column,
        label_options=LabelOptions(
            task=task, classes=classes, time_column=time_column, event_column=event_column
        ),
        positive=positive,
        relabel=relabel or [],
        force=force,
    )
    typer.echo(report)
    dataset = dataset_argument(report.yaml)
    typer.echo(f"now: mil doctor {dataset}")
    typer.echo(f"then: snakemake --cores all --config dataset={dataset}")


@dataset_app.command("camelyon-plus")
def dataset_camelyon_plus(
    table: Annotated[
        Path,
        typer.Argument(
            help="Table of CAMELYON+, downloaded from doi:10.57760/sciencedb.16442: .xlsx, .csv or "
            ".tsv with the columns slide and label."
        ),
    ],
    part: Annotated[
        Literal["camelyon16", "camelyon17", "both"],
        typer.Option(help="Slides to take: those of CAMELYON16, of CAMELYON17, or both."),
    ] = "camelyon16",
    classes: Annotated[
        int,
        typer.Option(
            min=2,
            max=4,
            help="Number of classes; 2: normal and tumour, isolated tumour cells included; 4: "
            "negative, itc, micro, macro.",
        ),
    ] = 2,
    name: Annotated[str, typer.Option(help="Name of the dataset.")] = "camelyonplus",
    out: Out = DATASETS,
    force: Force = False,
) -> None:
    """Make a dataset of CAMELYON+, the corrected labels of CAMELYON16 and 17."""
    from mil.config import dataset_argument
    from mil.dataset.camelyon_plus import make
    from mil.errors import ConfigError

    if classes == 3:
        raise ConfigError("--classes 3: choose 2 or 4")
    report = make(table, name, out, part=part, classes=classes, force=force)
    counts = ", ".join(f"{label} {count}" for label, count in report.counts.items())
    typer.echo(f"dataset {name}: {sum(report.counts.values())} slides ({counts}) in {out}")
    for note in report.notes:
        typer.echo(note)
    dataset = dataset_argument(out / f"{name}.yaml")
    typer.echo(f"now: snakemake --cores all --config dataset={dataset} slides_dir=DIR")
