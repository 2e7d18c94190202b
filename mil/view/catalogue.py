"""List of a study's slides, with what they are sorted by."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mil.errors import MilError
from mil.io.bags.status import gather
from mil.io.results import Metrics, Prediction
from mil.statistics.threshold import mean_threshold
from mil.tasks import Task, unfitted_task
from mil.view.study import Study

SIGNIFICANT = 4


@dataclass(frozen=True)
class Called:
    """Mean prediction of a slide by one recipe, and how far it is from the label.

    Attributes:
        value: Prediction of interest.
        predicted: Predicted class; empty where there are none.
        wrong: Whether the predicted class is another than the label; None: there are none.
        error: Of classes 1 less the probability of the label, of numbers the distance from
            the label; None: the task has no such error.
        num_heads: Number of heads whose mean it is.
        unseen: Whether no head trained on the slide.
    """

    value: float
    predicted: str
    wrong: bool | None
    error: float | None
    num_heads: int
    unseen: bool


@dataclass(frozen=True)
class SlideEntry:
    """A row of the list."""

    slide: str
    patient: str
    label: str
    split: str
    state: str
    reason: str
    # By head of the study, None where it has no prediction of the slide.
    called: Sequence[Called | None]
    # Standard deviation of the prediction of interest over all heads; None: of fewer than 2.
    uncertainty: float | None
    # By head of the study: entropy share of attention; None: not a test slide.
    entropy: Sequence[float | None]

    def to_json(self) -> dict[str, Any]:
        """The row as the page reads it."""
        return {
            "slide": self.slide,
            "patient": self.patient,
            "label": self.label,
            "split": self.split,
            "state": self.state,
            "reason": self.reason,
            "called": [None if one is None else _rounded(vars(one)) for one in self.called],
            "uncertainty": short(self.uncertainty),
            "entropy": [short(value) for value in self.entropy],
        }


def short(value: float | None) -> float | None:
    """A number with four significant digits, as JSON has it."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{value:.{SIGNIFICANT}g}")


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: short(value) if isinstance(value, float) else value for name, value in values.items()
    }


def slides_of(study: Study) -> list[SlideEntry]:
    """All slides: of the slide table, and others that the results name.

    Made once, from predictions and metrics alone: no file of a single slide is opened but
    of those that have no prediction.
    """
    by_head = [_by_slide(head.predictions) for head in study.heads]
    tasks = [None if head.metrics is None else _task(head.metrics) for head in study.heads]
    # With early fusion a slide of predictions.csv is a patient.
    predicted = [
        name
        for head, rows in zip(study.heads, by_head, strict=True)
        if not head.is_early
        for name in rows
    ]
    names = dict.fromkeys([*study.table, *predicted])
    if not study.table:
        names |= dict.fromkeys(sorted(_slides_with_files(study)))
    names.pop("", None)
    patients = _patients(study, by_head)
    states = _states(study, names, by_head, patients)
    entries = []
    for name in names:
        bags = [patients[name] if head.is_early else name for head in study.heads]
        rows = [of_head.get(bag, []) for of_head, bag in zip(by_head, bags, strict=True)]
        state, reason = states.get(name, ("ok", ""))
        first = next((unseen_first(of_head)[0] for of_head in rows if of_head), None)
        row = study.table.get(name)
        entries.append(
            SlideEntry(
                slide=name,
                patient=patients[name],
                label=row.label if row else first.label if first else "",
                split=first.split if first else row.split if row else "",
                state=state,
                reason=reason,
                called=[
                    None if task is None else called(of_head, task)
                    for of_head, task in zip(rows, tasks, strict=True)
                ],
                uncertainty=_spread(rows, tasks),
                entropy=[
                    None if head.metrics is None else head.metrics.attention_entropy_share.get(bag)
                    for head, bag in zip(study.heads, bags, strict=True)
                ],
            )
        )
    return entries


def _task(metrics: Metrics) -> Task:
    return unfitted_task(metrics.task, metrics.classes, metrics.positive)


def _by_slide(predictions: Iterable[Prediction]) -> dict[str, list[Prediction]]:
    rows: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        rows.setdefault(prediction.slide, []).append(prediction)
    return rows


def _patients(study: Study, by_head: Sequence[Mapping[str, list[Prediction]]]) -> dict[str, str]:
    patients = {name: row.patient for name, row in study.table.items()}
    for rows in by_head:
        for name, of_slide in rows.items():
            patients.setdefault(name, of_slide[0].patient)
    return _Default(patients)


class _Default(dict[str, str]):
    """A slide without a patient is a patient of its own."""

    def __missing__(self, name: str) -> str:
        return name


def _slides_with_files(study: Study) -> set[str]:
    """Slides with a tiles file or a score file, where no table names them."""
    folders = [study.folder / "tile" / tiling for tiling in study.tilings]
    folders += [head.scores for head in study.heads]
    return {path.stem for folder in folders for path in folder.glob("[!.]*.h5")}


def _states(
    study: Study,
    names: Iterable[str],
    by_head: Sequence[Mapping[str, list[Prediction]]],
    patients: Mapping[str, str],
) -> dict[str, tuple[str, str]]:
    """State and reason of the slides without any prediction; all others are `ok`."""
    lost = [
        name
        for name in names
        if not any(rows.get(name) or rows.get(patients[name]) for rows in by_head)
    ]
    if not lost or not study.heads:
        return {}
    head = study.heads[0]
    tiled = study.tiles_path(head.tiling, lost[0]).parent
    bags = study.bag_path(head, lost[0]).parent
    try:
        states = gather(lost, [tiled] if tiled.is_dir() else [], [bags])
    except MilError as error:
        return dict.fromkeys(lost, ("not known", str(error)))
    return {state.slide: (state.state, state.reason) for state in states}


def unseen_first(rows: Sequence[Prediction]) -> list[Prediction]:
    """Predictions by heads that did not train on a slide; by all, if all did."""
    return [row for row in rows if row.split == "test"] or list(rows)


def called(rows: Sequence[Prediction], task: Task) -> Called | None:
    """Mean prediction of a slide by the heads of one recipe; None without any.

    Args:
        rows: Predictions of the slide; those of heads that did not train on it count.
        task: Task of the heads.
    """
    if not rows:
        return None
    of_slide = unseen_first(rows)
    means = np.array(
        [np.mean([row.predictions[column] for row in of_slide]) for column in task.columns]
    )
    threshold = mean_threshold([row.threshold for row in of_slide]) if task.has_threshold else None
    value = float(means[list(task.columns).index(task.column_of_interest)])
    predicted = task.predicted_class(means, threshold)
    label = of_slide[0].label
    return Called(
        value=value,
        predicted=predicted,
        wrong=predicted != label if predicted and label else None,
        error=_error(task, means, label),
        num_heads=len(of_slide),
        unseen=of_slide[0].split == "test",
    )


def _error(task: Task, means: np.ndarray, label: str) -> float | None:
    columns = list(task.columns)
    if f"p_{label}" in columns:
        return float(1 - means[columns.index(f"p_{label}")])
    if task.kind != "regression" or not label:
        return None
    return float(abs(means[columns.index(task.column_of_interest)] - float(label)))


def _spread(rows: Sequence[Sequence[Prediction]], tasks: Sequence[Task | None]) -> float | None:
    """Standard deviation of the prediction of interest over all heads that held a slide out."""
    values = [
        row.predictions[task.column_of_interest]
        for of_head, task in zip(rows, tasks, strict=True)
        if task is not None and of_head
        for row in unseen_first(of_head)
    ]
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
