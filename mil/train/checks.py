"""Whether a head and a recipe can be trained for a task."""

from torch import nn

from mil.config import Recipe
from mil.errors import ConfigError
from mil.losses import check_terms
from mil.tasks import AnyTask


def check_suits(task: AnyTask, recipe: Recipe, head: nn.Module) -> None:
    """Refuse what a task has no use for.

    Args:
        task: of the dataset.
        recipe: of the head.
        head: the head; one with `for_classes` true compares classes within.

    Raises:
        ConfigError: what does not go together, and what to do.
    """
    check_terms(recipe.losses, task)
    if getattr(head, "for_classes", False) and not task.one_of_classes:
        raise ConfigError(
            f"head {recipe.name}: compares classes, which the task {task.kind} does not; take "
            "another"
        )
    if recipe.train.select == "f1_auc" and not task.one_of_classes:
        raise ConfigError(
            f"train.select: f1_auc is of classes, which the task {task.kind} does not have; use "
            "loss"
        )
    if recipe.train.batch_bags < task.least_bags:
        raise ConfigError(
            f"task {task.kind}: compares the slides of a step with one another; set "
            "train.batch_bags in the recipe to "
            f"{task.least_bags} or more (32, say), not {recipe.train.batch_bags}"
        )
