"""`mil plan` at the command line."""

from pathlib import Path
from typing import Annotated

import typer


def plan(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARGUMENT]...",
            help="Arguments of the snakemake command whose jobs are counted, such as --config "
            "dataset=NAME; with --cost, the name of the dataset.",
        ),
    ] = None,
    cost: Annotated[
        bool,
        typer.Option(
            "--cost", help="Estimate hours, disk, download and price of a dataset's features."
        ),
    ] = False,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Encoder to estimate with --cost; repeat for several; default: those of "
            "configs/config.yaml."
        ),
    ] = None,
    machine: Annotated[
        str,
        typer.Option(
            help="Machine to estimate for: name of a yaml in configs/machines, or its path."
        ),
    ] = "",
    bench: Annotated[
        list[Path] | None,
        typer.Option(
            help="JSON file of `mil bench features` or `mil bench tile` with rates of a machine; "
            "repeat for several."
        ),
    ] = None,
    doctor: Annotated[
        Path | None,
        typer.Option(help="JSON file of `mil doctor` with the numbers of tiles and sizes."),
    ] = None,
    tiles: Annotated[
        float | None,
        typer.Option(min=1, help="Average number of tiles of a slide, where no file tells it."),
    ] = None,
) -> None:
    """Show what a run would do: jobs by rule, why, and for how many slides. Nothing is run.

    Examples: mil plan --config dataset=mine seeds=5; mil plan camelyon16 --cost --machine epyc_core
    """
    if not cost:
        from mil.plan.summary import plan_summary

        typer.echo(plan_summary(arguments or []))
        return
    from mil.errors import ConfigError
    from mil.plan.cost import cost_table
    from mil.plan.cost_facts import CostOptions

    if len(arguments or []) != 1:
        raise ConfigError("mil plan --cost: name one dataset, such as mil plan camelyon16 --cost")
    options = CostOptions(
        encoders=encoder or [],
        machine=machine,
        bench=bench or [],
        doctor=doctor,
        tiles=tiles,
    )
    typer.echo(cost_table((arguments or [""])[0], options))
