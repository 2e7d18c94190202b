"""`mil train` at the command line; torch is imported when the command runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mil.config.options import BagsDir, Dataset, Device, FoldNumbers, Folds, Threads
from mil.train.runs import HeadRun, head_runs

if TYPE_CHECKING:
    from mil.trained import Trained


def train(
    dataset: Dataset,
    bags: BagsDir,
    folds: Folds,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the trained head; for several heads with {seed} and {fold} in its "
            "name, such as heads/seed{seed}_fold{fold}."
        ),
    ],
    head: Annotated[
        str, typer.Option(help="Recipe: a name in configs/heads, or the path of its yaml.")
    ] = "abmil",
    fold: FoldNumbers = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Random seed for initialisation, bag order and masking; repeat for several. "
            "Default: 1.",
        ),
    ] = None,
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
    """Train a head on the bags of the training slides, or one for each seed and fold.

    Bags are read once for all heads. Interrupted trainings resume; finished heads are kept.

    Example: mil train --seed 1 --seed 2 --fold 0 --fold 1 --out 'heads/seed{seed}_fold{fold}' …
    """
    from mil.train.stage import run_all

    run_all(
        dataset,
        bags,
        folds,
        head_runs(out, seed or [], fold or []),
        recipe=head,
        threads=threads,
        device=device,
        cache_mb=cache_mb,
        tensorboard=tensorboard,
        # A line as soon as its folder is there, for a list may be long.
        report=lambda head_run, trained: typer.echo(_outcome(head_run, trained)),
    )


def _outcome(head_run: HeadRun, trained: "Trained") -> str:
    """Line about a finished head."""
    kept = f"kept epoch {trained.epoch}"
    if len(trained.members) > 1:
        epochs = ", ".join(str(member.epoch) for member in trained.members)
        kept = f"kept {len(trained.members)} members, epochs {epochs},"
    name = f"train {trained.recipe_name} seed {trained.seed} fold {trained.fold}"
    return f"{name}: {kept} in {head_run.out}"
