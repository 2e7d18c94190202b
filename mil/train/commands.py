"""`mil train` at the command line; torch is imported when the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config.options import BagsDir, Dataset, Device, Folds, Threads


def train(
    dataset: Dataset,
    bags: BagsDir,
    folds: Folds,
    out: Annotated[Path, typer.Option(help="Folder of the trained head.")],
    head: Annotated[
        str, typer.Option(help="Recipe: a name in configs/heads, or the path of its yaml.")
    ] = "abmil",
    fold: Annotated[int, typer.Option(min=0, help="Number of the fold, from 0.")] = 0,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed for initialisation, bag order and masking.")
    ] = 1,
    threads: Threads = 1,
    device: Device = "auto",
    cache_mb: Annotated[
        int,
        typer.Option(
            min=0, help="Memory for bags, MiB; bags beyond it are read again in each epoch."
        ),
    ] = 8000,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard's curves of each training.")
    ] = None,
) -> None:
    """Train one head on the bags of the training slides, or resume an interrupted training."""
    from mil.train.stage import run

    trained = run(
        dataset,
        bags,
        folds,
        out,
        recipe=head,
        fold=fold,
        seed=seed,
        threads=threads,
        device=device,
        cache_mb=cache_mb,
        tensorboard=tensorboard,
    )
    typer.echo(
        f"train {trained.recipe_name} seed {trained.seed} fold {trained.fold}: "
        f"kept epoch {trained.epoch} in {out}"
    )
