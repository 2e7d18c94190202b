"""Metrics of a classifier's predictions on a set of slides, with 95 % intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mil.statistics import calibration, confusion
from mil.statistics.arrays import Draws, Labels, Numbers, Probabilities, Weights
from mil.statistics.bootstrap import RESAMPLES, interval, members, resampled
from mil.statistics.delong import delong
from mil.statistics.discrimination import known, one_vs_rest, weighted_auprc, weighted_auroc
from mil.statistics.intervals import Interval, area, proportion
from mil.statistics.metric import Metric, MetricsOfSet

AT_THRESHOLD = ("sensitivity", "specificity", "ppv", "npv")
COUNTED = ("balanced_accuracy", "f1_macro", "f1_micro", "accuracy")
DEFAULT_THRESHOLD = 0.5


def classification(labels: Labels, probabilities: Probabilities) -> dict[str, float | None]:
    """Metrics that are fast to compute, for validation after each epoch.

    Returns:
        `auroc_macro` (each class against the rest; of two classes the AUROC of either;
        None with one class), `f1_macro` and `accuracy`.
    """
    once = np.ones((1, len(labels)))
    classes = probabilities.shape[1]
    table = confusion.weighted_confusion(labels, probabilities.argmax(-1), classes, once)
    return {
        "auroc_macro": known(one_vs_rest(weighted_auroc, labels, probabilities, once)[0]),
        "f1_macro": float(confusion.f1_macro(table)[0]),
        "accuracy": float(confusion.accuracy(table)[0]),
    }


def plain(
    labels: Labels,
    probabilities: Probabilities,
    thresholds: Numbers | None = None,
) -> dict[str, float | None]:
    """Metrics without intervals.

    Args:
        labels: Class numbers; of two classes 1 is the positive one.
        probabilities: Probability of each class.
        thresholds: Of two classes, the probability from which each slide is predicted
            positive; default 0.5.

    Returns:
        Of two classes `auroc` and `auprc` (average precision) of the positive class,
        else `auroc_macro` and `auprc_macro`, each class against the rest;
        `balanced_accuracy`, `f1_macro`, `f1_micro` and `accuracy` of the most probable
        class; of two classes `sensitivity`, `specificity`, `ppv` and `npv` at the
        threshold; `brier` and `ece`. None for what the slides do not allow, such as an
        AUROC of one class.
    """
    once = np.ones((1, len(labels)))
    values = {
        name: known(value[0]) for name, value in weighted(labels, probabilities, once).items()
    }
    # The Brier score goes after those at the threshold, as tables show them.
    brier = values.pop("brier")
    if probabilities.shape[1] == 2:
        predicted = _predicted_positive(probabilities, thresholds).astype(int)
        table = confusion.weighted_confusion(labels, predicted, 2, once)
        for name in AT_THRESHOLD:
            values[name] = known(getattr(confusion, name)(table)[0])
    values["brier"] = brier
    values["ece"] = calibration.ece(labels, probabilities)
    return values


def with_intervals(
    labels: Labels,
    probabilities: Probabilities,
    patients: Sequence[str],
    thresholds: Numbers | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> MetricsOfSet:
    """Metrics of `plain` with 95 % intervals.

    AUROC of two classes: DeLong's, logit t (`intervals.area`). Proportions: Wilson's
    (`intervals.proportion`). The rest: patients resampled (`bootstrap.interval`). ECE
    has no interval, since none covers a quantity whose estimate is biased by as much as
    it varies; it has the range that perfectly calibrated probabilities would give.

    Args:
        labels: Class numbers; see `plain`.
        probabilities: Probability of each class.
        patients: Patient of each slide.
        thresholds: See `plain`.
        seed: Random seed of the resamples.
        resamples: Number of resamples.
    """
    member = members(patients)
    count = int(member.max()) + 1
    values = plain(labels, probabilities, thresholds)
    drawn = resampled(
        lambda weights: weighted(labels, probabilities, weights),
        member,
        resamples=resamples,
        seed=seed,
    )
    intervals: dict[str, Interval | None] = {}
    for name, draws in drawn.items():
        value = values[name]
        if value is not None:
            intervals[name] = interval(value, draws, count, top=_top(name, probabilities))
    for name, (right, rows) in _proportions(labels, probabilities, thresholds).items():
        intervals[name] = proportion(right, member[rows])
    if "auroc" in values:
        intervals["auroc"] = _area(labels, probabilities, patients)
    metrics = {
        name: Metric(value=value, ci95=None if value is None else intervals.get(name))
        for name, value in values.items()
    }
    # Not from `resampled`: resampling would add the bias of ECE once more.
    if_calibrated = calibration.ece_if_calibrated(probabilities, member, seed=seed)
    metrics["ece"] = Metric(value=values["ece"], if_calibrated=if_calibrated)
    return MetricsOfSet(metrics, count)


def weighted(
    labels: Labels,
    probabilities: Probabilities,
    weights: Weights,
) -> Mapping[str, Draws]:
    """Metrics, but ECE and those at a threshold, of samples with rows `weights` times."""
    classes = probabilities.shape[1]
    table = confusion.weighted_confusion(labels, probabilities.argmax(-1), classes, weights)
    metrics: dict[str, Draws] = {}
    if classes == 2:
        metrics["auroc"] = weighted_auroc(labels, probabilities[:, 1], weights)
        metrics["auprc"] = weighted_auprc(labels, probabilities[:, 1], weights)
    else:
        metrics["auroc_macro"] = one_vs_rest(weighted_auroc, labels, probabilities, weights)
        metrics["auprc_macro"] = one_vs_rest(weighted_auprc, labels, probabilities, weights)
    for name in COUNTED:
        metrics[name] = getattr(confusion, name)(table)
    squared_errors = calibration.brier_each(labels, probabilities)
    metrics["brier"] = weights @ squared_errors / weights.sum(1)
    return metrics


def _predicted_positive(
    probabilities: Float[np.ndarray, "n 2"], thresholds: Numbers | None
) -> np.ndarray:
    return probabilities[:, 1] >= (DEFAULT_THRESHOLD if thresholds is None else thresholds)


def _proportions(
    labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metrics that are proportions: 1 where a slide is right, and the slides that count."""
    everyone = np.ones(len(labels), bool)
    right = (probabilities.argmax(-1) == labels).astype(float)
    # With one label and one prediction a slide, micro F1 is the accuracy.
    proportions = {"accuracy": (right, everyone), "f1_micro": (right, everyone)}
    if probabilities.shape[1] == 2:
        predicted = _predicted_positive(probabilities, thresholds)
        right = (predicted == (labels == 1)).astype(float)
        counted = (labels == 1, labels == 0, predicted, ~predicted)
        for name, rows in zip(AT_THRESHOLD, counted, strict=True):
            proportions[name] = (right[rows], rows)
    return proportions


def _area(
    labels: np.ndarray, probabilities: np.ndarray, patients: Sequence[str]
) -> Interval | None:
    try:
        return area(delong(labels, probabilities[:, 1][None], patients))
    # Fewer than two patients of a class.
    except ValueError:
        return None


def _top(name: str, probabilities: np.ndarray) -> float:
    """Largest value of a metric."""
    return 2.0 if name == "brier" and probabilities.shape[1] > 2 else 1.0
