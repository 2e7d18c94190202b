"""`mil crate`."""

from pathlib import Path
from typing import Annotated

import typer


def crate(
    results: Annotated[
        Path, typer.Argument(help="Folder of a dataset's results, such as results/demo.")
    ],
    author: Annotated[
        list[str] | None,
        typer.Option(help="Name of an author of the study; repeat for several."),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the results: SPDX identifier, URL or text.")
    ] = "",
    date: Annotated[str, typer.Option(help="Day of publication, YYYY-MM-DD; default: today.")] = "",
    dataset: Annotated[
        str, typer.Option(help="Dataset, if it is not named like the folder of its results.")
    ] = "",
) -> None:
    """Describe a study's results as an RO-Crate, for an archive of research data.

    Writes ro-crate-metadata.json beside report.html: files with sizes and SHA-256,
    releases, authors and licence.

    Example: mil crate results/demo --author 'Jane Doe' --licence CC-BY-4.0
    """
    from datetime import date as day

    from mil.crate.stage import CrateFacts, run
    from mil.errors import ConfigError

    try:
        published = day.fromisoformat(date) if date else day.today()
    except ValueError:
        raise ConfigError(f"--date {date}: is no day; write it as 2026-11-30") from None
    facts = CrateFacts(tuple(author or ()), licence, published.isoformat())
    typer.echo(f"crate {run(results, facts, dataset=dataset)}")
