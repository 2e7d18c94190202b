"""`mil bench train` and `mil bench classical`: heads on bags, at the command line."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.bench.options import Json
from mil.config.options import Threads


def bench_train(
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            help="Name of a recipe; repeat for several; default: the recipe named like each head.",
        ),
    ] = None,
    tiles: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of tiles of a bag; repeat for several; default: 10 000."),
    ] = None,
    dim: Annotated[int, typer.Option(min=2, help="Feature dimension.")] = 1024,
    precision: Annotated[
        Literal["fp32", "bf16", "both"], typer.Option(help="Precision of the matrix products.")
    ] = "fp32",
    threads: Threads = 1,
    repeats: Annotated[
        int,
        typer.Option(min=1, help="Number of rounds of the comparison; the fastest is reported."),
    ] = 3,
    literal: Annotated[
        bool, typer.Option(help="Compare ACMIL with a plain PyTorch implementation.")
    ] = True,
    json: Json = None,
) -> None:
    """Time training: milliseconds and memory of a step, by head, on the CPU."""
    from mil.bench.results_table import show
    from mil.bench.train import run

    outcome = run(
        recipe or [],
        tiles=tiles or [10_000],
        dim=dim,
        threads=threads,
        repeats=repeats,
        precisions=["fp32", "bf16"] if precision == "both" else [precision],
        literal=literal,
    )
    show(outcome, json)


def bench_classical(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the data sets: NAME.jld files and NAME_mat folders.")
    ],
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Name of a data set, such as musk1; repeat for several; default: all."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a recipe; repeat for several; default: all but those of publications."
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of repeats of the cross-validation.")
    ] = 5,
    folds: Annotated[
        int, typer.Option(min=2, help="Number of folds of each cross-validation.")
    ] = 10,
    threads: Annotated[
        int, typer.Option(min=1, help="Number of parallel processes, one thread each.")
    ] = 1,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="JSON file of the results, written after each head; an existing one is resumed.",
        ),
    ] = None,
) -> None:
    """Cross-validate the heads on the classical MIL data sets, beside published accuracy."""
    from mil.bench.classical import run
    from mil.bench.results_table import show

    outcome = run(
        folder,
        datasets=dataset or [],
        heads=head or [],
        repeats=repeats,
        folds=folds,
        threads=threads,
        json=json,
    )
    show(outcome, None)
