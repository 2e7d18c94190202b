"""`mil report` and `mil summary` at the command line; the work is imported when they run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import HeatmapConfig
from mil.config.options import Dataset, option

# Guidelines that `mil.report.checklist` has, which is not imported here.
Guideline = Literal["stard-ai", "tripod-ai", "claim"]

DEFAULTS = HeatmapConfig()

TilesDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--tiles",
        help="Folder that `mil tile` wrote; repeat for each encoder; omit for precomputed "
        "(imported) bags.",
    ),
]
BagsDirs = Annotated[
    list[Path], typer.Option("--bags", help="Folder of the bags; repeat for each encoder.")
]


def report(
    dataset: Dataset,
    bags: BagsDirs,
    out: Annotated[Path, typer.Option(help="HTML page to write.")],
    evaluated: Annotated[
        list[Path],
        typer.Option(help="Folder of predictions.csv and metrics.json; repeat for each head."),
    ],
    heatmaps: Annotated[
        list[Path],
        typer.Option(help="Folder of a head's heatmaps; repeat in the order of --evaluated."),
    ],
    tiles: TilesDirs = None,
    comparison: Annotated[
        Path | None, typer.Option(help="File comparison.json, written by `mil compare`.")
    ] = None,
    folds: Annotated[
        list[Path] | None,
        typer.Option(
            help="File folds.csv, written by `mil split`; repeat in the order of --bags. Without "
            "it the flow diagram ends before the splits."
        ),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a head's score files, for its recipe; repeat in the order of "
            "--evaluated."
        ),
    ] = None,
    trained: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with the trained heads of a recipe; repeat in the order of --evaluated."
        ),
    ] = None,
    fewshot: Annotated[
        list[Path] | None,
        typer.Option(help="File fewshot.csv, written by `mil fewshot`; repeat for each encoder."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings of the run as JSON, which the report lists.")
    ] = None,
    settings: Annotated[
        str, typer.Option(help="Settings of the run, as JSON text to write to --config first.")
    ] = "",
    drawn: Annotated[Literal["all", "test"], option(HeatmapConfig, "slides")] = DEFAULTS.slides,
) -> None:
    """Gather a study on one page, with a page for each slide; see also `mil report checklist`."""
    from mil.io.atomic import write_text
    from mil.report.stage import run

    if settings and config:
        write_text(config, f"{settings}\n")
    run(
        dataset,
        tiles or [],
        bags,
        evaluated,
        heatmaps,
        out,
        drawn,
        comparison,
        folds=folds or [],
        scores=scores or [],
        trained=trained or [],
        config=config,
        fewshot=fewshot or [],
    )
    typer.echo(f"report {out}")


def checklist(
    study: Annotated[
        Path, typer.Argument(help="Folder of a study's results, such as results/demo.")
    ],
    guideline: Annotated[
        Guideline, typer.Option("--for", help="Reporting guideline whose checklist is filled.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Markdown file to write; if unset, checklist_GUIDELINE.md beside the report."
        ),
    ] = None,
) -> None:
    """Fill the checklist of a reporting guideline from the report of a study."""
    from mil.report.checklist import run

    typer.echo(f"report checklist {run(study, guideline, out)}")


def summary(
    dataset: Dataset,
    bags: BagsDirs,
    tiles: TilesDirs = None,
    most: Annotated[
        int | None,
        typer.Option(
            min=0, help="Largest number of lines about lost slides; default: all of them."
        ),
    ] = None,
) -> None:
    """Count the slides of a dataset and those that can be used, with the reason for each loss."""
    from mil.io.bags.folder import describe_bags
    from mil.io.bags.status import gather
    from mil.io.bags.status import summary as describe_states
    from mil.io.tables import read_dataset

    _, rows = read_dataset(dataset)
    slides = [row.slide for row in rows]
    typer.echo(describe_states(gather(slides, tiles or [], bags), most))
    if not tiles:
        for folder in bags:
            typer.echo(describe_bags(folder, slides))
