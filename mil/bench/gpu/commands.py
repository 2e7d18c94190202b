"""`mil bench gpu` at the command line."""

from pathlib import Path
from typing import Annotated

import typer


def bench_gpu(
    minutes: Annotated[
        float, typer.Option(min=0.01, help="Time for all parts; those that do not fit are named.")
    ] = 9.0,
    json: Annotated[
        Path | None, typer.Option("--json", help="JSON file of the rows, written as they come.")
    ] = None,
    tuned: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of the measured block sizes; mil/kernels/tuned.json is what the "
            "kernels read."
        ),
    ] = None,
    dry: Annotated[
        bool, typer.Option(help="Tiny sizes on the CPU, where Triton interprets its kernels.")
    ] = False,
) -> None:
    """Prove and time kernels, heads, encoders and stacked training on a GPU.

    The exit code is 1 if a check failed or a target of speed was missed.

    Example: mil bench gpu --minutes 9 --json gpu.json
    """
    from mil.bench.gpu.run import run

    raise typer.Exit(run(minutes=minutes, json=json, tuned=tuned, dry=dry))
