"""Test slides of a head with their predictions, as the figures take them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mil.io.results import Metrics, Prediction
from mil.report.study import ReportedHead, Study
from mil.statistics.bootstrap import members
from mil.statistics.threshold import mean_threshold
from mil.tasks import Task


class Tested(NamedTuple):
    """Test slides of a head with the mean prediction of the runs that held them out.

    With early fusion a slide is a patient, all slides of one in one bag.
    """

    metrics: Metrics
    slides: list[str]
    patients: list[str]
    labels: list[str]
    columns: list[str]
    predictions: Float[np.ndarray, "n columns"]
    # Threshold of the positive class of two: mean over the runs; 0.5 where one has none.
    thresholds: Float[np.ndarray, " n"]
    has_thresholds: bool

    @property
    def name(self) -> str:
        """Recipe and encoder."""
        return self.metrics.name

    @property
    def member(self) -> Int[np.ndarray, " n"]:
        """Number of each slide's patient."""
        return members(self.patients)

    def column(self, name: str) -> Float[np.ndarray, " n"]:
        """Predictions in a column of predictions.csv."""
        return self.predictions[:, self.columns.index(name)]

    def positives(self, task: Task, name: str) -> Int[np.ndarray, " n"]:
        """1 for each slide that has the class, else 0."""
        number = list(task.classes).index(name)
        targets = [task.target(label) for label in self.labels]
        # Of several labels a target has one number for each class.
        has = [target[number] if target.ndim else target == number for target in targets]
        return np.array(has, dtype=int).reshape(len(self.slides))


def tested_heads(study: Study) -> list[Tested]:
    """Test slides of each head; heads without any are left out."""
    heads = [_tested(head, study.task) for head in study.heads]
    return [head for head in heads if head.slides]


def _tested(head: ReportedHead, task: Task) -> Tested:
    of_slide: dict[str, list[Prediction]] = {}
    for row in head.predictions:
        if row.split == "test":
            of_slide.setdefault(row.slide, []).append(row)
    groups = list(of_slide.values())
    columns = list(task.columns) if task.classes else list(head.predictions[0].predictions)
    means = [
        np.mean([[row.predictions[name] for name in columns] for row in group], axis=0)
        for group in groups
    ]
    thresholds = [[row.threshold for row in group] for group in groups]
    return Tested(
        metrics=head.metrics,
        slides=list(of_slide),
        patients=[group[0].patient for group in groups],
        labels=[group[0].label for group in groups],
        columns=columns,
        predictions=np.array(means, dtype=float).reshape(len(groups), len(columns)),
        thresholds=np.array([mean_threshold(of) for of in thresholds], dtype=float),
        has_thresholds=all(one is not None for of in thresholds for one in of),
    )


def counted(number: int, study: Study) -> str:
    """`12 slides`; patients, where all slides of one are one bag."""
    early = any(head.metrics.fusion == "early" for head in study.heads)
    word = "patient" if early else "slide"
    return f"{number} {word}{'' if number == 1 else 's'}"


def size_of(heads: Sequence[Tested], study: Study) -> str:
    """`12 test slides of 8 patients`; of several sets `10 to 12 test slides`."""
    slides = sorted({len(head.slides) for head in heads})
    patients = sorted({len(set(head.patients)) for head in heads})
    number = _range(slides)
    one = slides == [1]
    if any(head.metrics.fusion == "early" for head in study.heads):
        return f"{number} test patient{'' if one else 's'}"
    return (
        f"{number} test slide{'' if one else 's'} of {_range(patients)} "
        f"patient{'' if patients == [1] else 's'}"
    )


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def subgroup_values(study: Study, column: str) -> Mapping[str, str]:
    """Value of each slide, and of each patient whose slides agree, in a further column."""
    values: dict[str, set[str]] = {}
    for slide in study.slides:
        value = slide.subgroups.get(column, "")
        values.setdefault(slide.slide, set()).add(value)
    for slide in study.slides:
        # A bag of all slides of a patient goes by the patient's name.
        if any(head.metrics.fusion == "early" for head in study.heads):
            values.setdefault(slide.patient, set()).add(slide.subgroups.get(column, ""))
    return {name: next(iter(of)) if len(of) == 1 else "" for name, of in values.items()}
