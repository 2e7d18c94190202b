"""What a head is trained to say of a slide: one file for each task, stored with the head.

A slide has one label, a string in the slide table. A task makes a target of it, a loss
of a head's logits, and an answer of them; the head itself only has as many logits as
the task wants.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from mil.config import DatasetConfig
from mil.tasks.base import Task
from mil.tasks.classification import Classification
from mil.tasks.multilabel import Multilabel
from mil.tasks.ordinal import Ordinal
from mil.tasks.regression import Regression
from mil.tasks.survival_cox import SurvivalCox
from mil.tasks.survival_discrete import SurvivalDiscrete

AnyTask = Annotated[
    Classification | Multilabel | Ordinal | Regression | SurvivalDiscrete | SurvivalCox,
    Field(discriminator="kind"),
]
TASK_OF: dict[
    str, type[Classification | Multilabel | Ordinal | Regression | SurvivalDiscrete | SurvivalCox]
] = {
    "classification": Classification,
    "multilabel": Multilabel,
    "ordinal": Ordinal,
    "regression": Regression,
    "survival_discrete": SurvivalDiscrete,
    "survival_cox": SurvivalCox,
}
# What a loss is of where nobody says: classes of any number, all of one weight.
CLASSES = Classification(classes=["0", "1"], positive="1")


def fit_task(dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> AnyTask:
    """The task of a dataset, with what it has to know of the training slides.

    Args:
        dataset: says which task, and the classes.
        labels: of the training slides, and of no others.
        balanced: weigh classes by one over how often they occur, so that each counts
            the same in the loss.

    Raises:
        DatasetError: nothing can be learnt of these labels: numbers that do not differ,
            no event.
        ConfigError: what has no classes was to be balanced.
    """
    return TASK_OF[dataset.task].fitted(dataset, labels, balanced)


__all__ = [
    "CLASSES",
    "AnyTask",
    "Classification",
    "Multilabel",
    "Ordinal",
    "Regression",
    "SurvivalCox",
    "SurvivalDiscrete",
    "Task",
    "fit_task",
]
