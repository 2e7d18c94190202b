"""Before training: the task of the labels, checks, and what some heads need first."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from torch import nn

from mil.bags import Bags
from mil.config import DatasetConfig, LossWeight, Recipe
from mil.errors import ConfigError
from mil.heads import FitsAtOnce, TwoStage, UsesGraph
from mil.losses import check_terms
from mil.tasks import AnyTask, fit_task
from mil.train.data import BagSource, batches
from mil.train.validate import F1_OF

# Losses of the first head of a two-stage head, which exists before any recipe's terms.
FIRST_STAGE_LOSSES = {"cross_entropy": LossWeight(start=1.0)}


def make_task(recipe: Recipe, dataset: DatasetConfig, labels: Sequence[str]) -> AnyTask:
    """Task of a dataset, with what it takes from the training labels.

    Args:
        recipe: Recipe, whose class weights and sampling must suit the task.
        dataset: Dataset with its task and classes.
        labels: Labels of the training bags.

    Raises:
        ConfigError: The recipe balances classes, and the task has none.
        DatasetError: The labels do not allow training, as when all are censored.
    """
    task = fit_task(dataset, labels, balanced=recipe.train.class_weights == "balanced")
    if recipe.train.sampling == "balanced" and not task.classes:
        raise ConfigError(
            f"train.sampling: balanced needs classes, which the task {task.kind} does not have"
        )
    return task


def check_compatible(task: AnyTask, recipe: Recipe, head: nn.Module) -> None:
    """Check that a head and a recipe can be trained for a task.

    Args:
        task: Task of the dataset.
        recipe: Recipe of the head.
        head: Head; an attribute `for_classes` that is true restricts it to
            classification.

    Raises:
        ConfigError: Head, loss, selection or batch size does not suit the task.
    """
    check_terms(recipe.losses, task)
    if getattr(head, "for_classes", False) and not task.one_of_classes:
        raise ConfigError(
            f"head {recipe.name}: compares classes, which the task {task.kind} does not have; "
            "choose another head"
        )
    if recipe.train.select in F1_OF and not task.one_of_classes:
        raise ConfigError(
            f"train.select: {recipe.train.select} needs classes, which the task {task.kind} does "
            "not have; set loss"
        )
    # A Cox loss of a single bag is zero: it orders the bags of one batch by risk.
    by_steps = isinstance(head, TwoStage) or not isinstance(head, FitsAtOnce)
    if by_steps and recipe.train.batch_bags < task.smallest_batch:
        raise ConfigError(
            f"task {task.kind}: its loss compares the bags of one batch; set "
            f"train.batch_bags in the recipe to {task.smallest_batch} or more (32, for example), "
            f"not {recipe.train.batch_bags}"
        )


def prepare(head: nn.Module, train: BagSource, train_first: Callable[[nn.Module], None]) -> None:
    """Give a head what it takes from the training bags before it is trained.

    Args:
        head: Head before training. Afterwards it can build graphs of bags.
        train: Training bags.
        train_first: Function that trains the first head of a two-stage head in place
            with `FIRST_STAGE_LOSSES` and leaves it with the weights to keep.
    """
    # A head that is fitted at once may have buffers alone.
    device = next(chain(head.parameters(), head.buffers())).device

    def single_bags() -> Iterator[Bags]:
        # A fresh iterator for each user; none of them holds more than one bag.
        return (bags for bags, _ in batches(train, 1, device))

    if isinstance(head, TwoStage):
        first = head.first_stage().to(device)
        train_first(first)
        head.follow(first.eval(), single_bags())
    if isinstance(head, UsesGraph):
        head.see_training(single_bags())
