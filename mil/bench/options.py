"""Options that several benchmarks share."""

from pathlib import Path
from typing import Annotated

import typer

Threads = Annotated[int, typer.Option(min=1, help="Number of CPU threads.")]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json", help="JSON file to write the table and a description of the machine to."
    ),
]
