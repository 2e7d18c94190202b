"""`mil compare`."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    evaluated: Annotated[
        list[Path], typer.Option(help="Folder written by `mil evaluate`; repeat for each head.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder to write comparison.json, .csv, .md and .tex to.")
    ],
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Compare heads on the slides that all of them have predicted."
        ),
    ] = False,
) -> None:
    """Hold heads and encoders against one another on the same test slides."""
    from mil.compare.stage import run

    pairs = run(evaluated, out, allow_missing=allow_missing)["tests"]["pairs"]
    tests = [pair["p_holm"] for pair in pairs if pair["p_holm"] is not None]
    heads = "1 head" if len(evaluated) == 1 else f"{len(evaluated)} heads"
    tested = (
        f", {sum(p < 0.05 for p in tests)} of {len(tests)} pairs differ (p < 0.05 after Holm)"
        if pairs
        else ""
    )
    typer.echo(f"compare {heads}{tested}: {out / 'comparison.md'}")
