"""Test slides of a head with their predictions, as the figures take them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mil.io.results import Metrics, Prediction
from mil.report.study_files import ReportedHead, StudyFiles
from mil.statistics.bootstrap import members
from mil.statistics.threshold import DEFAULT_THRESHOLD
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
        has = {}
        for label in set(self.labels):
            target = task.target(label)
            # Of several labels a target has one number for each class.
            has[label] = int(target[number] if target.ndim else target == number)
        return np.array([has[label] for label in self.labels], dtype=int)


def heads_tested(study: StudyFiles) -> list[Tested]:
    """Test slides of each head; heads without any are left out."""
    return [
        _tested(head, study.task)
        for head in study.heads
        if any(row.split == "test" for row in head.predictions)
    ]


def _tested(head: ReportedHead, task: Task) -> Tested:
    rows = [row for row in head.predictions if row.split == "test"]
    first: dict[str, Prediction] = {}
    for row in rows:
        first.setdefault(row.slide, row)
    places = {slide: place for place, slide in enumerate(first)}
    # Over arrays: a study may have a million rows.
    slide = np.array([places[row.slide] for row in rows], dtype=int)
    columns = list(task.columns) if task.classes else list(head.predictions[0].predictions)
    values = np.array([[row.predictions[name] for name in columns] for row in rows], dtype=float)
    thresholds = [np.nan if row.threshold is None else row.threshold for row in rows]
    # A mean with a missing one is missing, as `evaluate` has it.
    means = _means(np.array(thresholds, dtype=float), slide, len(first))
    return Tested(
        metrics=head.metrics,
        slides=list(first),
        patients=[row.patient for row in first.values()],
        labels=[row.label for row in first.values()],
        columns=columns,
        predictions=np.stack([_means(of, slide, len(first)) for of in values.T], axis=1),
        thresholds=np.where(np.isnan(means), DEFAULT_THRESHOLD, means),
        has_thresholds=not np.isnan(means).any(),
    )


def _means(values: np.ndarray, slide: np.ndarray, slides: int) -> np.ndarray:
    """Mean of the values of each slide's rows."""
    return np.bincount(slide, values, slides) / np.maximum(np.bincount(slide, minlength=slides), 1)


def size_of(heads: Sequence[Tested], study: StudyFiles) -> str:
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


def subgroup_values(study: StudyFiles, column: str) -> Mapping[str, str]:
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
