"""`mil bags fetch` and `mil bags sets` at the command line."""

from pathlib import Path
from typing import Annotated

import typer

from mil.interop.options import Datasets, Dtype


def bags_fetch(
    name: Annotated[
        str, typer.Argument(help="Name of a bag set in configs/bag_sets.yaml; see `mil bags sets`.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the bags; default: bags/NAME.")
    ] = None,
    dtype: Dtype = "float16",
    datasets: Datasets = Path("configs/datasets"),
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Write the dataset without slides whose file cannot be used."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print licence, citation and sizes, and download no features."
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Fetch all again, and overwrite bags and dataset."),
    ] = False,
) -> None:
    """Download published features of a dataset as bags, ready to train on.

    An interrupted download continues when the same command is run again.
    """
    from mil.config import dataset_argument
    from mil.interop.bag_set_fetch import FetchOptions
    from mil.interop.bag_sets import run

    options = FetchOptions(
        out=out or Path("bags") / name,
        datasets=datasets,
        dtype=dtype,
        allow_missing=allow_missing,
        force=force,
        dry_run=dry_run,
    )
    complete = run(name, options, typer.echo)
    if complete and not dry_run:
        dataset = dataset_argument(datasets / f"{name}.yaml")
        typer.echo(f"now: snakemake --cores all --config dataset={dataset}")
    raise typer.Exit(0 if complete else 1)


def bags_sets() -> None:
    """List the bag sets that `mil bags fetch` knows: size, access, encoder, licence."""
    from mil.interop.bag_set_listing import set_lines

    for line in set_lines():
        typer.echo(line)
