"""Options that several benchmarks share; see also `mil.config.options`."""

from pathlib import Path
from typing import Annotated

import typer

Repeats = Annotated[
    int,
    typer.Option(min=1, help="Number of repeats of each measurement; the median is reported."),
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json", help="JSON file to write the table and a description of the machine to."
    ),
]
