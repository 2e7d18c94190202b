"""`mil fewshot` at the command line; the work is imported when the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config.options import Dataset, Folds


def fewshot(
    dataset: Dataset,
    vectors: Annotated[
        list[Path],
        typer.Option(help="Folder of vectors that `mil embed` wrote; repeat for more curves."),
    ],
    folds: Folds,
    out: Annotated[Path, typer.Option(help="Folder for fewshot.csv and fewshot.svg.")],
    draws: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of draws of each number of slides.")
    ] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the draws.")] = 0,
    allow_empty: Annotated[
        bool,
        typer.Option(
            "--allow-empty", help="A table without curves where every fold lacks slides of a class."
        ),
    ] = False,
) -> None:
    """Measure how many training slides a linear probe on slide vectors needs.

    1, 2, 4, ... training slides of each class are drawn, a logistic regression is fitted
    to their vectors, and its AUROC on the test slides is averaged over draws and folds.
    Survival, numbers and ordered or several labels of a slide have no such classes.

    Example: mil fewshot --dataset mine --vectors VECTORS --folds folds.csv --out fewshot
    """
    from mil.fewshot.stage import run

    for line in run(dataset, vectors, folds, out, draws=draws, seed=seed, allow_empty=allow_empty):
        typer.echo(f"fewshot {line}")
