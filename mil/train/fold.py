"""The bags of one fold, in a store that other folds may share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mil.config import Cohort, DatasetConfig, Recipe
from mil.errors import DatasetError
from mil.io.bags.patients import FoldBag, check_labels
from mil.losses.tasks import target_tensor
from mil.tasks import AnyTask
from mil.train.auto import plan_recipe
from mil.train.facts import StudySize, cohort_of
from mil.train.inner import InnerFold
from mil.train.loop import TrainingData
from mil.train.prepare import make_task
from mil.train.store import BagStore, BagSubset
from mil.trained.assembled import ZScore


@dataclass(frozen=True, kw_only=True)
class FoldData:
    """Training and validation bags of a fold; its test bags cannot be reached from here.

    Attributes:
        store: Store of the bags of all folds of a job.
        bags: Training bags, then validation bags.
        places: Index of each of them in the store.
        task: Task, with what it takes from the training labels.
        recipe: Concrete recipe.
        planned_from: Facts that the recipe was planned from; None: it was not planned.
        device: Device of heads and batches.
        targets: Target of each bag.
    """

    store: BagStore
    bags: Sequence[FoldBag]
    places: Sequence[int]
    task: AnyTask
    recipe: Recipe
    planned_from: Cohort | None
    device: torch.device
    targets: Sequence[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        targets = [target_tensor(self.task, bag.label) for bag in self.bags]
        object.__setattr__(self, "targets", targets)

    @property
    def dim(self) -> int:
        """Number of features per tile."""
        return self.store.dim

    def bags_of(self, split: str) -> list[FoldBag]:
        """Bags of the fold's own training (train) or validation (val)."""
        return [bag for bag in self.bags if bag.split == split]

    def store_indices(self, indices: Sequence[int]) -> list[int]:
        """Indices in the store of some of the fold's bags."""
        return [self.places[index] for index in indices]

    def training_data(self, part: InnerFold, zscore: ZScore | None) -> TrainingData:
        """Bags of an inner fold, or of the fold's own split."""
        return TrainingData(
            task=self.task,
            train=self._subset(part.train, zscore),
            train_labels=[self.bags[index].label for index in part.train],
            valid=self._subset(part.valid, zscore),
            device=self.device,
        )

    def fit_zscore(self, part: InnerFold) -> ZScore:
        """Standardisation by the training tiles of an inner fold."""
        train = self._subset(part.train, None)
        features = (bag.features for bag in train.read_ahead(range(len(train))))
        return ZScore.fitted(features, self.dim)

    def _subset(self, indices: Sequence[int], zscore: ZScore | None) -> BagSubset:
        targets = [self.targets[index] for index in indices]
        return self.store.subset(self.store_indices(indices), targets, zscore)


def bags_of_fold(
    bags: Sequence[FoldBag], fold: int, folds: Path, dataset: DatasetConfig
) -> list[FoldBag]:
    """Training bags of a fold, then its validation bags.

    Args:
        bags: Bags of all folds.
        fold: Number of the fold.
        folds: File of the folds, for messages.
        dataset: Dataset, whose task the labels must suit.

    Raises:
        DatasetError: The fold has no training slides, or a label does not suit the task.
    """
    train = [bag for bag in bags if bag.fold == fold and bag.split == "train"]
    valid = [bag for bag in bags if bag.fold == fold and bag.split == "val"]
    if not train:
        raise DatasetError(f"{folds}: fold {fold} has no training slides")
    used = [*train, *valid]
    check_labels(used, folds, dataset.task, dataset.classes)
    return used


def fold_data(
    bags: Sequence[FoldBag],
    places: Sequence[int],
    store: BagStore,
    *,
    recipe: Recipe,
    dataset: DatasetConfig,
    size: StudySize,
    device: torch.device,
) -> FoldData:
    """A fold ready for training, with its task and its concrete recipe.

    Args:
        bags: Training bags, then validation bags.
        places: Index of each of them in the store.
        store: Store of the bags.
        recipe: Recipe, planned here if it says `train: auto`.
        dataset: Dataset of the task.
        size: Size of the study, for the plan.
        device: Device of heads and batches.

    Raises:
        ConfigError: The recipe balances classes, and the task has none.
        DatasetError: The labels do not allow training.
    """
    labels = [bag.label for bag in bags]
    train_labels = [bag.label for bag in bags if bag.split == "train"]
    cohort = None
    if recipe.train.auto:
        task = make_task(recipe, dataset, train_labels)
        cohort = cohort_of(size, task, labels, store.subset(places), store.dim)
        recipe = plan_recipe(recipe, cohort)
    # Inner folds train on validation slides too, whose labels then count like the others.
    known = labels if recipe.train.inner_folds else train_labels
    return FoldData(
        store=store,
        bags=bags,
        places=places,
        task=make_task(recipe, dataset, known),
        recipe=recipe,
        planned_from=cohort,
        device=device,
    )
