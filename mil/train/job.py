"""One head to train: what its trainings have in common, their checkpoints and reports."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mil.config import Recipe, TrainConfig
from mil.io.atomic import remove_abandoned
from mil.train.fold import FoldData
from mil.train.state import Checkpoint, History
from mil.train.tensorboard import TensorBoardWriter

# Between the seeds of two trainings of a head; far more than the seeds of any study.
SEED_STRIDE = 1_000_003


@dataclass(frozen=True, kw_only=True)
class HeadJob:
    """One head to train.

    Attributes:
        title: Name in messages and progress bars.
        fold: Training and validation bags, with the concrete recipe.
        seed: Random seed.
        out: Folder of the head, with checkpoints while its job lasts.
        inputs: Everything that decides the last bit of the weights, as JSON values.
        curves: Folder of TensorBoard's curves of the first training; None: no curves.
        is_one_of_several: Whether other heads are trained in the same job, which may
            fail after this one is finished.
    """

    title: str
    fold: FoldData
    seed: int
    out: Path
    inputs: Mapping[str, object]
    curves: Path | None
    is_one_of_several: bool

    @property
    def recipe(self) -> Recipe:
        """Concrete recipe of the head."""
        return self.fold.recipe

    def seed_of(self, number: int) -> int:
        """Random seed of a training by its number among those of the head."""
        return self.seed + SEED_STRIDE * number

    def print(self, message: str) -> None:
        """Print a message about this head."""
        print(f"{self.title}: {message}", file=sys.stderr, flush=True)

    def checkpoint_files(self) -> list[Path]:
        """Checkpoint files of all its trainings."""
        return sorted(self.out.glob("checkpoint*.safetensors"))

    def remove_checkpoints(self) -> None:
        """Remove the checkpoint files, once the head and its job are finished.

        Those too that a killed run was writing.
        """
        for checkpoint in self.checkpoint_files():
            checkpoint.unlink()
        remove_abandoned(self.out)

    def checkpoint(self, number: int, stage: str = "", *, is_only: bool) -> Checkpoint:
        """Checkpoint of one training, or of restarts that are trained together.

        Args:
            number: Number of the (first) training among those of the head.
            stage: Name of a training before the main one, which is "".
            is_only: Whether nothing else is trained for the head.
        """
        words = ["checkpoint"]
        if number:
            words.append(f"training{number}")
        if stage:
            words.append(stage)
        inputs: dict[str, object] = {**self.inputs, "stage": stage}
        if number:
            inputs["training"] = number
        return Checkpoint(
            self.out / f"{'_'.join(words)}.safetensors",
            inputs,
            f"{self.title}, {stage} stage" if stage else self.title,
            # Saved at its end too if other trainings follow before the head is saved.
            save_last=bool(stage) or not is_only or self.is_one_of_several,
        )


class TrainingReport:
    """Progress bar and curves of one training, by its history.

    Args:
        advance: Function that moves the progress bar.
        config: Section `train` of the recipe.
        curves: Folder of TensorBoard's curves; None: no curves.
    """

    def __init__(
        self, advance: Callable[[int], object], config: TrainConfig, curves: Path | None = None
    ) -> None:
        self._advance = advance
        self._config = config
        self._writer = None if curves is None else TensorBoardWriter(curves)
        self._num_reported = 0

    def __call__(self, history: History) -> None:
        """Report the epochs that are new since the last call."""
        # A resumed training reports several epochs at once.
        self._advance(len(history.train) - self._num_reported)
        self._num_reported = len(history.train)
        if self._writer is not None:
            self._writer.write(history, self._config)

    def close(self) -> None:
        """Finish the curves."""
        if self._writer is not None:
            self._writer.close()
