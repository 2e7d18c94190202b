"""What a head is trained to say of a slide: one file for each task, stored with the head.

A slide has one label, a string in the slide table. A task makes a target of it, a loss of a head's logits, and an
answer of them; the head itself only has as many logits as the task wants.
"""

from collections.abc import Sequence

from mil.config import DatasetConfig
from mil.tasks.base import Task
from mil.tasks.classification import Classification

AnyTask = Classification
# What a loss is of where nobody says: classes of any number, all of one weight.
CLASSES = Classification(classes=["0", "1"], positive="1")


def fit_task(dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> AnyTask:
    """The task of a dataset, with what it has to know of the training slides.

    Args:
        dataset: says which task, and the classes.
        labels: of the training slides, and of no others.
        balanced: weigh classes by one over how often they occur, so that each counts the same in the loss.
    """
    return Classification.fitted(dataset, labels, balanced)


__all__ = ["CLASSES", "AnyTask", "Classification", "Task", "fit_task"]
