"""`mil bench mix` at the command line."""

from typing import Annotated

import typer

from mil.bench.options import Json
from mil.config.options import Device, Threads


def bench_mix(
    mixer: Annotated[
        list[str] | None,
        typer.Option(help="Name of a mixer; repeat for several; default: all."),
    ] = None,
    tiles: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Number of tiles of a bag; repeat for several; default: 1000 to 100 000."
        ),
    ] = None,
    full_up_to: Annotated[
        int, typer.Option(min=1, help="Largest number of tiles for full attention.")
    ] = 10_000,
    reference_up_to: Annotated[
        int,
        typer.Option(min=0, help="Largest number of tiles for the references in plain PyTorch."),
    ] = 3000,
    device: Device = "auto",
    threads: Threads = 1,
    json: Json = None,
) -> None:
    """Time the mixers of mixed_abmil by the length of a bag, beside full attention.

    Time, memory, and how far the mixed rows are from those of full attention.
    """
    from mil.bench.mix import run
    from mil.bench.results_table import show

    outcome = run(
        mixer or [],
        tiles or [],
        device=device,
        threads=threads,
        full_up_to=full_up_to,
        reference_up_to=reference_up_to,
    )
    show(outcome, json)
