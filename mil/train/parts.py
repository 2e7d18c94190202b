"""Parts of a head: its inner folds, each with the restarts that are trained on it.

Training m = part * restarts + restart has the random seed ``seed + SEED_STRIDE * m`` for
initialisation, dropout and masking. The order of bags and the sampling of tiles belong
to the part: its restarts see the same batches.
"""

from dataclasses import dataclass
from pathlib import Path

from mil.train.inner import InnerFold, inner_folds, largest_count, own_split
from mil.train.job import HeadJob
from mil.train.state import Checkpoint


@dataclass(frozen=True, kw_only=True)
class HeadPart:
    """One inner fold of a head, or the fold's own split, with the restarts on it.

    Attributes:
        job: Head to train.
        split: Bags to train on and to validate on.
        restarts: Number of trainings on this part.
        num_parts: Number of parts of the head.
    """

    job: HeadJob
    split: InnerFold
    restarts: int
    num_parts: int

    @property
    def numbers(self) -> range:
        """Numbers of its trainings among those of the head."""
        first = self.split.number * self.restarts
        return range(first, first + self.restarts)

    @property
    def title(self) -> str:
        """Name in progress bars."""
        if self.num_parts == 1:
            return self.job.title
        return f"{self.job.title}, part {self.split.number + 1} of {self.num_parts}"

    @property
    def order_seed(self) -> int:
        """Random seed of the order of bags and their sampling, which restarts share."""
        return self.job.seed_of(self.numbers[0])

    def checkpoint(self, number: int, stage: str = "") -> Checkpoint:
        """Checkpoint of one training, or of restarts that are trained together.

        Args:
            number: Number of the (first) training among those of the head.
            stage: Name of a training before the main one, which is "".
        """
        is_only = self.num_parts * self.restarts == 1
        return self.job.checkpoint(number, stage, is_only=is_only)

    def curves(self, number: int) -> Path | None:
        """Folder of TensorBoard's curves of a training; None: no curves."""
        folder = self.job.curves
        if folder is None or number == 0:
            return folder
        return folder.with_name(f"{folder.name}_member{number}")


def head_parts(job: HeadJob) -> list[HeadPart]:
    """Parts of a head, as far as its bags allow inner folds and restarts.

    Args:
        job: Head to train.
    """
    splits = _splits(job)
    restarts = job.recipe.train.restarts
    if restarts > 1 and not all(split.valid for split in splits):
        job.print("train.restarts: one training, for restarts are compared on validation slides")
        restarts = 1
    return [
        HeadPart(job=job, split=split, restarts=restarts, num_parts=len(splits)) for split in splits
    ]


def _splits(job: HeadJob) -> list[InnerFold]:
    """The fold's own split, or inner folds as far as there are patients for them."""
    wanted = job.recipe.train.inner_folds
    bags = job.fold.bags
    if wanted < 2:
        return [own_split(bags)]
    strata = job.fold.task.strata([bag.label for bag in bags])
    count = min(wanted, largest_count(bags, strata))
    if count < 2:
        job.print(
            "train.inner_folds: too few patients of a class to divide; the fold's own validation "
            "slides are used"
        )
        return [own_split(bags)]
    if count < wanted:
        job.print(
            f"train.inner_folds: {count} instead of {wanted}, the number of patients of the "
            "rarest class"
        )
    return inner_folds(bags, strata, count, job.seed)
