"""What a label may be, task by task: the grammar of the slide table's column `label`."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

TaskName = Literal[
    "classification", "multilabel", "ordinal", "regression", "survival_discrete", "survival_cox"
]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
OF_CLASSES: tuple[TaskName, ...] = ("classification", "multilabel", "ordinal")
SURVIVAL: tuple[TaskName, ...] = ("survival_discrete", "survival_cox")
BETWEEN = ";"  # between the classes of a slide that has several
CENSORED = "+"  # after the time of a slide whose event was not seen
_HAPPENED = {
    "1": True,
    "1.0": True,
    "true": True,
    "yes": True,
    "0": False,
    "0.0": False,
    "false": False,
    "no": False,
}


class Survival(NamedTuple):
    """How long somebody was followed, and whether the event ended it."""

    time: float
    event: bool


def number_of(label: str) -> float:
    """A label that is a number.

    Raises:
        ValueError: it is none, or not a finite one.
    """
    try:
        number = float("" if "_" in label else label)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("a number is needed, such as 27.5")
    return number


def survival_of(label: str) -> Survival:
    """A label that is a time: `27.5`, the event came then; `27.5+`, none was seen until then (censored).

    Raises:
        ValueError: it is neither.
    """
    try:
        time = number_of(label.removesuffix(CENSORED).rstrip())
    except ValueError:
        time = -1.0
    if time < 0:
        raise ValueError(
            "a time is needed: 27.5 (the event came then) or 27.5+ (none was seen until then)"
        )
    return Survival(time, not label.endswith(CENSORED))


def survival_label(time: str, event: str) -> str:
    """The label of two cells: a time, and whether the event came then (1, true, yes; 0, false, no; `1:DECEASED`).

    Raises:
        ValueError: the second says neither, or the first says it too.
    """
    if time.rstrip().endswith(CENSORED):
        raise ValueError(
            f"time {time!r} says that it is censored, which the event does; take the {CENSORED} "
            "away"
        )
    happened = _HAPPENED.get(event.partition(":")[0].strip().lower())
    if happened is None:
        raise ValueError(f"event {event!r} is neither 1 (it came) nor 0 (censored)")
    return time if happened else f"{time}{CENSORED}"


def classes_of(label: str) -> list[str]:
    """The classes of a slide that may have several, or none."""
    return [name.strip() for name in label.split(BETWEEN) if name.strip()]


def checked_label(task: TaskName, classes: Sequence[str], label: str) -> str:
    """A slide's label, if it is one of the task's; one way of writing for each (several classes in their order).

    Args:
        task: of the dataset.
        classes: its classes; none where labels are numbers.
        label: without spaces around it.

    Raises:
        ValueError: what it may be.
    """
    if task == "regression":
        number_of(label)
    elif task in SURVIVAL:
        survival_of(label)
        return label.replace(" ", "")
    else:
        named = classes_of(label) if task == "multilabel" else [label]
        if not set(named) <= set(classes):
            raise ValueError(f"the dataset's classes are: {', '.join(classes)}")
        if len(set(named)) < len(named):
            raise ValueError("it names a class twice")
        if task == "multilabel":
            return BETWEEN.join(name for name in classes if name in named)
    return label


def column_of_interest(task: TaskName, positive: str) -> str:
    """The column of predictions.csv that report and heatmaps speak of.

    Args:
        task: of the dataset.
        positive: its class of interest, if it has classes.
    """
    numbers = {"regression": "predicted", "survival_discrete": "risk", "survival_cox": "log_risk"}
    return numbers.get(task, f"p_{positive}")


def spoken(column: str) -> str:
    """A column of predictions.csv as people read it: `p(tumour)`, `log risk`."""
    return f"p({column[2:]})" if column.startswith("p_") else column.replace("_", " ")


def is_positive(task: TaskName, positive: str, label: str) -> bool:
    """Whether a slide is of the class of interest; never where labels are numbers."""
    return task in OF_CLASSES and positive in (
        classes_of(label) if task == "multilabel" else [label]
    )
