"""The bags of one fold, in a store that other folds may share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from mil.config import Cohort, DatasetConfig, Recipe
from mil.errors import DatasetError
from mil.io.bags.patients import FoldBag, check_labels
from mil.losses.tasks import target_tensor
from mil.tasks import AnyTask
from mil.train.auto import plan_recipe
from mil.train.data import in_order
from mil.train.facts import StudySize, cohort_of
from mil.train.initial import InitialHead
from mil.train.inner import InnerFold
from mil.train.loop import TrainingData
from mil.train.prepare import make_task
from mil.train.store import BagStore, BagSubset
from mil.trained.scaling import FeatureScaling, Whitening, ZScore

# Share of the store's budget for the scaled features of one training, beside the store:
# the workflow gives the store five eighths of a job's memory.
SCALED_SHARE = 0.25
BYTES_OF_FLOAT32 = 4


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
        initial: Head whose weights trainings start from; None: random weights.
        targets: Target of each bag.
        scalings: Fitted scalings by indices of their bags in the store.
    """

    store: BagStore
    bags: Sequence[FoldBag]
    places: Sequence[int]
    task: AnyTask
    recipe: Recipe
    planned_from: Cohort | None
    device: torch.device
    initial: InitialHead | None = None
    targets: Sequence[Tensor] = field(init=False)
    scalings: dict[tuple[int, ...], FeatureScaling | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        targets = [target_tensor(self.task, bag.label) for bag in self.bags]
        object.__setattr__(self, "targets", targets)

    @property
    def dim(self) -> int:
        """Number of features per tile."""
        return self.store.dim

    @property
    def head_dim(self) -> int:
        """Number of features per tile that a head takes, after scaling."""
        return self.recipe.train.scaled_dim(self.dim)

    def bags_of(self, split: str) -> list[FoldBag]:
        """Bags of the fold's own training (train) or validation (val)."""
        return [bag for bag in self.bags if bag.split == split]

    def store_indices(self, indices: Sequence[int]) -> list[int]:
        """Indices in the store of some of the fold's bags."""
        return [self.places[index] for index in indices]

    def training_data(self, part: InnerFold, scaling: FeatureScaling | None) -> TrainingData:
        """Bags of an inner fold, or of the fold's own split."""
        return TrainingData(
            task=self.task,
            train=self._subset(part.train, scaling),
            train_labels=[self.bags[index].label for index in part.train],
            valid=self._subset(part.valid, scaling),
            device=self.device,
        )

    def fit_scaling(self, part: InnerFold) -> FeatureScaling | None:
        """Scaling of the features by the tiles of a part's training bags; None: none.

        With inner folds all bags of the fold are training bags of some part, and share
        one scaling, which uses no labels. Weights of another head are for features as
        that head scales them.
        """
        if self.initial is not None:
            return self.initial.scaling
        train = self.recipe.train
        indices = list(part.train)
        if train.inner_folds:
            indices = list(range(len(self.bags)))
        places = tuple(self.store_indices(indices))
        # The seeds of a job share the fold's bags, and principal components take longer
        # than a training of a small cohort.
        if places not in self.scalings:
            self.scalings[places] = self._fit(indices)
        return self.scalings[places]

    def scaled_in_memory(self, part: InnerFold, scaling: FeatureScaling | None) -> TrainingData:
        """Bags of `training_data`, scaled once if they fit in memory beside the store.

        Whitened features take a fraction of the room of the bags themselves, which are
        then not read again in every epoch.
        """
        data = self.training_data(part, scaling)
        if scaling is None:
            return data
        places = self.store_indices([*part.train, *part.valid])
        num_tiles = sum(self.store.tile_counts[place] for place in places)
        if num_tiles * self.head_dim * BYTES_OF_FLOAT32 > SCALED_SHARE * self.store.budget:
            return data
        train = list(in_order(data.train, range(len(data.train))))
        valid = list(in_order(data.valid, range(len(data.valid))))
        return replace(data, train=train, valid=valid)

    def _fit(self, indices: Sequence[int]) -> FeatureScaling | None:
        train = self.recipe.train
        if not train.scales_features:
            return None
        subset = self._subset(indices, None)
        features = (bag.features for bag in subset.read_ahead(range(len(subset))))
        if train.whiten is None:
            return ZScore.fitted(features, self.dim)
        return Whitening.fitted(features, len(subset), self.dim, train.scaled_dim(self.dim))

    def _subset(self, indices: Sequence[int], scaling: FeatureScaling | None) -> BagSubset:
        targets = [self.targets[index] for index in indices]
        return self.store.subset(self.store_indices(indices), targets, scaling)


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
        others = sorted({bag.fold for bag in bags if bag.split == "train"})
        listed = ", ".join(map(str, others)) or "none"
        raise DatasetError(
            f"{folds}: fold {fold} has no training slides; folds that have some: {listed}"
        )
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
    initial: InitialHead | None = None,
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
        initial: Head whose weights trainings start from; None: random weights.

    Raises:
        ConfigError: The recipe balances classes, and the task has none; or it is of
            another head than `initial`.
        DatasetError: The labels do not allow training.
    """
    written = recipe
    labels = [bag.label for bag in bags]
    train_labels = [bag.label for bag in bags if bag.split == "train"]
    cohort = None
    if recipe.train.auto:
        task = make_task(recipe, dataset, train_labels)
        cohort = cohort_of(size, task, labels, store.subset(places), store.dim)
        recipe = plan_recipe(recipe, cohort)
    if initial is not None:
        recipe = initial.followed_by(written, recipe, store.dim)
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
        initial=initial,
    )
