"""`mil compare`."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    evaluated: Annotated[
        list[Path],
        typer.Option(help="Folder written by `mil evaluate`; repeat the option for each head."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder to write comparison.json, .csv, .md and .tex to.")
    ],
    baseline: Annotated[
        str,
        typer.Option(
            help="Recipe among them that the best head is held against, such as linear_probe."
        ),
    ] = "",
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Compare on the slides that all heads were tested on."
        ),
    ] = False,
) -> None:
    """Compare heads and encoders on the same test slides."""
    from mil.compare.stage import run

    pairs = run(evaluated, out, baseline=baseline, allow_missing=allow_missing).tests.pairs
    # A pair in which nothing varies has no p value: it was not tested, and is not
    # counted.
    p_values = [pair.p_holm for pair in pairs if pair.p_holm is not None]
    heads = "1 head" if len(evaluated) == 1 else f"{len(evaluated)} heads"
    tested = ""
    if pairs:
        differ = sum(p < 0.05 for p in p_values)
        tested = f", {differ} of {len(p_values)} pairs differ (p < 0.05 after Holm)"
    typer.echo(f"compare {heads}{tested}: {out / 'comparison.md'}")
