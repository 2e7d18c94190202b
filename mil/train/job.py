"""One training with everything it is made of: of a head, or of the first head of a two-stage one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mil.config import LossWeight, Recipe
from mil.progress import progress
from mil.tasks import AnyTask
from mil.train.augment import training_batches
from mil.train.checkpoint import Checkpoint
from mil.train.data import Part
from mil.train.loop import Fitted, Objective, fit
from mil.train.sampling import epoch_length
from mil.train.state import History
from mil.train.tensorboard import Board
from mil.train.validate import validate


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the stage `train` was asked for, with its bags."""

    title: str
    recipe: Recipe
    task: AnyTask
    train: Part
    labels: Sequence[str]  # of `train`
    valid: Part
    seed: int
    device: torch.device
    out: Path  # where checkpoints are, while it runs
    decisive: Mapping[str, Any]  # everything that decides the outcome, as JSON can hold it
    board: Board | None = None

    def fit(self, head: nn.Module, losses: Mapping[str, LossWeight], stage: str = "") -> Fitted:
        """Train a head in place, or go on with it.

        Args:
            head: to be trained.
            losses: weight of each term.
            stage: a name for what is not the main training; it has a checkpoint of its
                own.
        """
        how = self.recipe.train
        if not self.valid:
            how = how.model_copy(
                update={"select": "last"}
            )  # each epoch is better than the one before
        title = f"{self.title}, {stage} stage" if stage else self.title
        name = f"checkpoint_{stage}.safetensors" if stage else "checkpoint.safetensors"
        checkpoint = Checkpoint(
            self.out / name, {**self.decisive, "stage": stage}, title, to_the_end=bool(stage)
        )
        order = torch.Generator().manual_seed(self.seed)
        done = 0
        with progress(title, how.epochs, "epochs") as advance:

            def report(history: History) -> None:
                nonlocal done
                advance(len(history.train) - done)
                done = len(history.train)
                if self.board is not None and not stage:
                    self.board.write(history, how)

            return fit(
                head,
                lambda: training_batches(self.train, self.labels, how, self.device, order),
                lambda h: validate(h, self.valid, self.task, self.recipe.train.select, self.device),
                objective=Objective(losses, self.task),
                config=how,
                bags=epoch_length(self.labels, how),
                order=order,
                checkpoint=checkpoint,
                report=report,
            )

    def checkpoints(self) -> list[Path]:
        """Those that are there."""
        return sorted(self.out.glob("checkpoint*.safetensors"))
