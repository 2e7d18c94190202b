"""Tasks: what a head is trained to predict, one file each, stored with the head.

A slide has one label, a string in the slide table. A task makes a target of it,
predictions of a head's logits, and metrics of both; the head itself only has as many
logits as the task needs. Nothing here imports torch; losses are in `mil.losses`.

A task is found by the name of its file, whose class is called `TASK`.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated

from pydantic import PlainValidator, ValidationError

from mil.config import DatasetConfig, Section, checked, dataset_path, read_yaml
from mil.config.labels import known_task
from mil.errors import ConfigError
from mil.tasks._defaults import TaskDefaults
from mil.tasks.base import EvaluationSet, Headline, PairedTest, Task
from mil.tasks.classification import Classification
from mil.tasks.multilabel import Multilabel
from mil.tasks.ordinal import Ordinal
from mil.tasks.regression import Regression
from mil.tasks.survival_cox import SurvivalCox
from mil.tasks.survival_discrete import SurvivalDiscrete

# Task of a loss where no dataset names one: classes of any number, all of one weight.
CLASSES = Classification(classes=["0", "1"], positive="1")


def task_class(kind: str) -> type[TaskDefaults]:
    """Class of a task, by its name.

    Raises:
        ValueError: There is no such task.
    """
    # Only names of files in this folder are imported: `kind` may come from the record
    # of a head that somebody else made.
    task: type[TaskDefaults] = import_module(f"mil.tasks.{known_task(kind)}").TASK
    return task


def fit_task(dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> Task:
    """Task of a dataset, with what it learns from the training slides.

    Args:
        dataset: Dataset, which names the task and its classes.
        labels: Labels of the training slides only.
        balanced: Whether to weigh classes by one over their frequency, so that each
            counts the same in the loss.

    Raises:
        DatasetError: nothing can be learnt of these labels: numbers that do not differ,
            no event.
        ConfigError: a task without classes was to be balanced.
    """
    return task_class(dataset.task).fitted(dataset, labels, balanced)


def unfitted_task(kind: str, classes: Sequence[str], positive: str = "") -> Task:
    """Task without what it learns from training slides.

    Enough for labels, strata, metrics and tables; not for targets of a loss or for
    predictions of logits.

    Args:
        kind: Name of the task.
        classes: Names of the classes; empty where labels are numbers.
        positive: Class of interest; empty: the last.
    """
    # The same default as `DatasetConfig.positive_class`.
    last = classes[-1] if classes else ""
    return task_class(kind).unfitted(classes, positive or last)


def task_of(dataset: DatasetConfig) -> Task:
    """Task of a dataset without what it learns from training slides."""
    return unfitted_task(dataset.task, dataset.classes, dataset.positive_class)


def load_dataset(name: str) -> DatasetConfig:
    """Yaml of a dataset, by name or by path, checked by its task too.

    Raises:
        ConfigError: It is missing, or its settings do not fit the task.
    """
    path = dataset_path(name)
    dataset = checked(DatasetConfig, read_yaml(path), str(path))
    try:
        task_class(dataset.task).check_classes(dataset.classes)
    except ValueError as error:
        raise ConfigError(f"{path}: {error} (task: {dataset.task})") from None
    return dataset


def _read_task(raw: object) -> Task:
    """Task as recipe.json has it; for pydantic, which wants ValueErrors."""
    if isinstance(raw, Section) and isinstance(raw, Task):
        return raw
    if not isinstance(raw, Mapping):
        raise ValueError("a mapping with `kind` is needed")
    try:
        task = task_class(str(raw.get("kind"))).model_validate(raw)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise ValueError("; ".join(fault.removeprefix(": ") for fault in faults)) from None
    # For mypy: the base class alone does not keep the contract.
    assert isinstance(task, Task)
    return task


# Field of a pydantic model that holds a task of any kind. A union of the classes would
# have to name each of them, and a new task would be known in one place more.
AnyTask = Annotated[Task, PlainValidator(_read_task)]

__all__ = [
    "CLASSES",
    "AnyTask",
    "Classification",
    "EvaluationSet",
    "Headline",
    "Multilabel",
    "Ordinal",
    "PairedTest",
    "Regression",
    "SurvivalCox",
    "SurvivalDiscrete",
    "Task",
    "fit_task",
    "load_dataset",
    "task_class",
    "task_of",
    "unfitted_task",
]
