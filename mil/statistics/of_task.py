"""The metrics of each task, from targets and answers as `mil.tasks` makes them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped

from mil.config.labels import SURVIVAL, classes_of, number_of, survival_of
from mil.statistics import classified
from mil.statistics.bootstrap import RESAMPLES, interval, members, resampled
from mil.statistics.continuous import regression
from mil.statistics.discrimination import known
from mil.statistics.intervals import Interval
from mil.statistics.multilabel import multilabel
from mil.statistics.normal import t_quantile
from mil.statistics.ordinal import ordinal
from mil.statistics.survival import concordance

SIGNED = ("pearson", "spearman", "kappa_quadratic")  # -1..1
FROM_ZERO = ("mae", "rmse", "mae_classes")  # without an upper end


@runtime_checkable
class Judged(Protocol):
    """What there is to know of a task."""

    @property
    def kind(self) -> str:
        """Its name."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of its classes, if it has any."""


Targets = Shaped[np.ndarray, "n ..."]
Answers = Float[np.ndarray, "n columns"]


def targets_of(task: Judged, labels: Sequence[str]) -> Targets:
    """The targets of labels as `mil.tasks` makes them, without torch.

    Args:
        task: of the head.
        labels: of the slides, checked when the table was read.
    """
    if task.kind == "regression":
        return np.array([number_of(label) for label in labels])
    if task.kind in SURVIVAL:
        return np.array([survival_of(label) for label in labels], dtype=np.float64)
    if task.kind == "multilabel":
        return np.array(
            [[float(name in classes_of(label)) for name in task.classes] for label in labels]
        )
    return np.array([list(task.classes).index(label) for label in labels])


def metrics_of_task(task: Judged, targets: Targets, answers: Answers) -> dict[str, float | None]:
    """Metrics without intervals; None for what a set of slides cannot have.

    Args:
        task: of the head.
        targets: `task.target` of each slide.
        answers: `task.answers` of each slide; of survival the first column is the risk.

    Returns:
        classification: see `classified.classification`; multilabel, ordinal,
        regression: see the functions of the same name; survival: `c_index`.
    """
    if task.kind == "classification":
        return classified.classification(targets, answers)
    once = np.ones((1, len(targets)))
    return {
        name: known(values[0])
        for name, values in weighted_of_task(task, targets, answers, once).items()
    }


def intervals_of_task(
    task: Judged,
    targets: Targets,
    answers: Answers,
    patients: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """The metrics of a task, each with `value` and `ci95`; `n_slides` and `n_patients`.

    Patients are resampled; a t interval on the scale of log odds (of what lies in
    -1..1, of the share of that range, which is Fisher's z), or of the logarithm (of
    errors, and of 1 - r2). For classification there is `classified.with_intervals`.

    Args:
        task: see `metrics_of_task`; of another kind than classification.
        targets: see `metrics_of_task`.
        answers: see `metrics_of_task`.
        patients: of each slide.
        seed: of the resamples.
        resamples: how many.
    """
    member = members(patients)
    values = metrics_of_task(task, targets, answers)
    count = int(member.max()) + 1
    drawn = resampled(
        lambda w: weighted_of_task(task, targets, answers, w),
        member,
        resamples=resamples,
        seed=seed,
    )
    found: dict[str, Any] = {
        name: {
            "value": value,
            "ci95": None if value is None else _interval(name, value, drawn[name], count),
        }
        for name, value in values.items()
    }
    return {**found, "n_slides": len(targets), "n_patients": count}


def weighted_of_task(
    task: Judged, targets: Targets, answers: Answers, weights: Float[np.ndarray, "draws n"]
) -> Mapping[str, Float[np.ndarray, " draws"]]:
    """Metrics of samples in which each row occurs `weights` times; of another kind of task than classification."""
    if task.kind == "multilabel":
        return multilabel(targets, answers, task.classes, weights)
    if task.kind == "ordinal":
        return ordinal(targets, answers, weights)
    if task.kind == "regression":
        return regression(targets.astype(float), answers[:, 0].astype(float), weights)
    assert task.kind.startswith("survival")
    return {"c_index": concordance(targets[:, 0], targets[:, 1] > 0, answers[:, 0], weights)}


def _interval(name: str, value: float, drawn: np.ndarray, patients: int) -> list[float] | None:
    found: Interval | None
    if name in SIGNED:
        found = interval(value + 1, drawn + 1, patients, top=2.0)
        return None if found is None else [end - 1 for end in found]
    if name == "r2":
        found = _above_zero(1 - value, 1 - drawn, patients)
        return None if found is None else [1 - found[1], 1 - found[0]]
    found = (_above_zero if name in FROM_ZERO else interval)(value, drawn, patients)
    return None if found is None else list(found)


def _above_zero(value: float, drawn: np.ndarray, patients: int) -> Interval | None:
    """As `bootstrap.interval`, on the scale of the logarithm; None where the value is 0 or cannot vary."""
    there = drawn[np.isfinite(drawn)]
    if patients < 2 or len(there) < 2 or not value > 0:
        return None
    half = (
        t_quantile(patients - 1)
        * float(there.std(ddof=1))
        * (patients / (patients - 1)) ** 0.5
        / value
    )
    return value * math.exp(-half), value * math.exp(min(half, 700.0))
