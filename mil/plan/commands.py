"""`mil plan` at the command line."""

from typing import Annotated

import typer


def plan(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARGUMENT]...",
            help="Arguments of the snakemake command whose jobs are counted, such as --config "
            "dataset=NAME.",
        ),
    ] = None,
) -> None:
    """Show what a run would do: jobs by rule, why, and for how many slides. Nothing is run.

    Example: mil plan --config dataset=mine seeds=5
    """
    from mil.plan.summary import plan_summary

    typer.echo(plan_summary(arguments or []))
