"""Labels of a new dataset by its task: which columns hold them, and which are accepted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mil.config.labels import TASKS
from mil.errors import ConfigError, unknown_name
from mil.io.tables.columns import choose_column, require_column
from mil.io.tables.faults import Faults
from mil.io.tables.spreadsheet import Sheet
from mil.text import clean, is_empty

# Tasks import numpy, which the many who only want `Slide` or `write_csv` can do without.
if TYPE_CHECKING:
    from mil.tasks import Task

CLASSIFICATION = "classification"
# Columns that stand for the label of survival tasks.
TIME_AND_EVENT = ("time", "event")
# Remedies of a column with too many labels for classes.
OTHER_TASKS = (
    "name the column of the classes with --label-column NAME; or, where labels are numbers or "
    "times, the task: --task regression, survival_cox or survival_discrete"
)


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Options of `mil dataset init` and `mil bags import` about labels.

    Attributes:
        task: name of the task.
        classes: names of the classes in order, separated by commas, for tasks other than
            classification; empty: labels are numbers.
        time_column: column of the follow-up times; None: recognised.
        event_column: column of the events; None: recognised.

    Raises:
        ConfigError: there is no such task, or it lacks or cannot have one of the others.
    """

    task: str = CLASSIFICATION
    classes: str = ""
    time_column: str | None = None
    event_column: str | None = None

    def __post_init__(self) -> None:
        from mil.tasks import task_class

        if self.task not in TASKS:
            raise ConfigError(f"--task: {unknown_name('task', self.task, TASKS)}")
        kind = task_class(self.task)
        has_times = kind.label_columns == TIME_AND_EVENT
        if (self.time_column or self.event_column) and not has_times:
            raise ConfigError(
                f"--time-column, --event-column: not of the task {self.task}; give --task "
                "survival_cox or survival_discrete"
            )
        if self.is_classification:
            if self.classes:
                raise ConfigError(
                    "--classes: of the tasks ordinal and multilabel; of classification, they are "
                    "the labels, and --positive names the last"
                )
            return
        doubled = [name for name, count in Counter(self.class_names).items() if count > 1]
        if doubled:
            raise ConfigError(f"--classes: {doubled[0]} stands there twice; name each class once")
        try:
            kind.check_classes(self.class_names)
        except ValueError as error:
            remedy = "leave out --classes" if self.classes else "give --classes LOW,MIDDLE,HIGH"
            raise ConfigError(f"--task {self.task}: {error}; {remedy}") from None

    @property
    def is_classification(self) -> bool:
        """Whether the classes are the labels themselves."""
        return self.task == CLASSIFICATION

    @property
    def class_names(self) -> list[str]:
        """Names of the classes by the user."""
        return [name for text in self.classes.split(",") if (name := clean(text))]

    def unfitted(self) -> "Task":
        """Task with the grammar of the labels; not for classification."""
        from mil.tasks import unfitted_task

        return unfitted_task(self.task, self.class_names)

    def positive_of(self, positive: str | None) -> str:
        """Class of interest of a task other than classification; empty where there are none.

        Args:
            positive: that of the user; empty or None: the last.

        Raises:
            ConfigError: it is none of the classes.
        """
        names = self.class_names
        if positive and positive not in names:
            none = f"labels of the task {self.task} are numbers; leave it out"
            raise ConfigError(
                f"--positive: {unknown_name('class', positive, names) if names else none}"
            )
        return positive or (names[-1] if names else "")


def with_labels(
    sheet: Sheet, user_column: str | None, options: LabelOptions, faults: Faults
) -> tuple[Sheet, str | None]:
    """The table with a column of labels, and the name of that column; None: it is missing.

    Times and events of survival become one column in place of the two.

    Args:
        sheet: the table.
        user_column: column of the labels by the user; None: recognised.
        options: task and its columns.
        faults: faults of the table, to which others may be added.
    """
    names = _time_and_event(sheet, user_column, options, faults)
    if not names:
        return sheet, require_column(sheet, "label", user_column, faults)
    if None in names:
        return sheet, None
    columns = [str(name) for name in names]
    joined = " and ".join(columns)
    rows = []
    for line, row in sheet.rows:
        label = _joined([row[name] for name in columns], f"line {line}", options, faults)
        rest = {name: cell for name, cell in row.items() if name not in columns}
        # Without them, a column of events is no subgroup of the slides.
        rows.append((line, {**rest, joined: label}))
    header = [name for name in sheet.header if name not in columns]
    return replace(sheet, header=[*header, joined], rows=rows), joined


def _time_and_event(
    sheet: Sheet, user_column: str | None, options: LabelOptions, faults: Faults
) -> list[str | None]:
    """Columns of time and event; empty where the label is one column."""
    from mil.tasks import task_class

    if user_column is not None and (options.time_column or options.event_column):
        raise ConfigError(
            "--label-column: a column of labels such as `27.5+`, in place of --time-column and "
            "--event-column; leave one kind out"
        )
    if user_column is not None or task_class(options.task).label_columns != TIME_AND_EVENT:
        return []
    stated = (options.time_column, options.event_column)
    recognised = [choose_column(sheet, name, None, Faults(sheet.path)) for name in TIME_AND_EVENT]
    label = choose_column(sheet, "label", None, Faults(sheet.path))
    # One column of labels such as `27.5+`.
    if None in recognised and label is not None and not any(stated):
        return []
    return [
        require_column(sheet, name, column, faults)
        for name, column in zip(TIME_AND_EVENT, stated, strict=True)
    ]


def _joined(cells: Sequence[str], place: str, options: LabelOptions, faults: Faults) -> str:
    """Label of the cells of a row; empty where one of them is."""
    if any(map(is_empty, cells)):
        return ""
    try:
        return options.unfitted().joined_label(*cells)
    except ValueError as error:
        faults.add(f": {error}", place)
        return ""


def check_labels(
    labels: Iterable[tuple[str, str]], options: LabelOptions, faults: Faults
) -> dict[str, str]:
    """Canonical form of each label of a task other than classification.

    Args:
        labels: label of each slide, with the place to name, such as `slide a`.
        options: task and its classes.
        faults: faults of the table, to which labels that the task does not know are added.
    """
    task = options.unfitted()
    canonical = {}
    for place, label in labels:
        try:
            canonical[label] = task.checked_label(label)
        except ValueError as error:
            faults.add(f": label {label!r}; {error}", place)
            canonical[label] = label
    return canonical


def counted(labels: Sequence[str], options: LabelOptions) -> dict[str, int]:
    """Number of slides of each class, in their order, or with the event; empty of numbers.

    Args:
        labels: label of each slide, of a task other than classification.
        options: task and its classes.
    """
    task = options.unfitted()
    counts = Counter(name for label in labels for name in task.content(label))
    return {name: counts[name] for name in options.class_names or sorted(counts)}


def counts_text(counts: Mapping[str, int], options: LabelOptions) -> str:
    """Task and numbers of slides by label in words, such as `survival_cox, event 34`.

    Args:
        counts: number of slides of each class, or with the event.
        options: task of the labels.
    """
    parts = [f"{label} {count}" for label, count in counts.items()]
    return ", ".join(parts if options.is_classification else [options.task, *parts])
