"""Metrics of a classifier's predictions on a set of slides, with 95 % intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from mil.statistics import calibration, confusion
from mil.statistics.arrays import Draws, Labels, Numbers, Probabilities, Weights
from mil.statistics.bootstrap import RESAMPLES, interval, members, resampled
from mil.statistics.delong import delong
from mil.statistics.discrimination import known, one_vs_rest, weighted_auprc, weighted_auroc
from mil.statistics.intervals import Interval, area, proportion
from mil.statistics.metric import Metric, MetricsOfSet
from mil.statistics.threshold import DEFAULT_THRESHOLD

AT_THRESHOLD = ("sensitivity", "specificity", "ppv", "npv")
COUNTED = ("balanced_accuracy", "f1_macro", "f1_micro", "accuracy")
# Suffix of metrics of two classes by the rule that is not used elsewhere.
MOST_PROBABLE = "_most_probable"


def predicted_classes(
    probabilities: Probabilities, thresholds: Numbers | None = None, positive: int = 1
) -> Labels:
    """Class of each slide by the decision rule of all metrics.

    Of two classes the positive one from its threshold up; of more the most probable.

    Args:
        probabilities: Probability of each class.
        thresholds: Of two classes, the least probability of the positive one, for each
            slide; default 0.5.
        positive: Of two classes, the number of the positive one.
    """
    if probabilities.shape[1] != 2:
        return probabilities.argmax(-1)
    least = DEFAULT_THRESHOLD if thresholds is None else thresholds
    return np.where(probabilities[:, positive] >= least, positive, 1 - positive)


def classification(
    labels: Labels, probabilities: Probabilities, predicted: Labels | None = None
) -> dict[str, float | None]:
    """Metrics that are fast to compute, for validation after each epoch.

    Args:
        labels: Class numbers.
        probabilities: Probability of each class.
        predicted: Class numbers by the decision rule; default: the most probable, since
            no threshold is known while a head is trained.

    Returns:
        `auroc_macro` (each class against the rest; of two classes the AUROC of either;
        None with one class), `f1_macro` and `accuracy`.
    """
    once = np.ones((1, len(labels)))
    classes = probabilities.shape[1]
    if predicted is None:
        predicted = probabilities.argmax(-1)
    table = confusion.weighted_confusion(labels, predicted, classes, once)
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
        thresholds: See `predicted_classes`.

    Returns:
        Of two classes `auroc` and `auprc` (average precision) of the positive class,
        else `auroc_macro` and `auprc_macro`, each class against the rest;
        `balanced_accuracy`, `f1_macro`, `f1_micro` and `accuracy` of the predicted
        classes, and of two classes `sensitivity`, `specificity`, `ppv` and `npv`;
        `brier` and `ece`; last, of two classes, the four counted ones of the most
        probable class, such as `accuracy_most_probable`. None for what the slides do
        not allow, such as an AUROC of one class.
    """
    once = np.ones((1, len(labels)))
    values = {
        name: known(value[0])
        for name, value in weighted(labels, probabilities, once, thresholds).items()
    }
    last = ["brier", *(name for name in values if name.endswith(MOST_PROBABLE))]
    # The Brier score goes after those at the threshold, as tables show them.
    brier, *most_probable = [values.pop(name) for name in last]
    if probabilities.shape[1] == 2:
        predicted = predicted_classes(probabilities, thresholds)
        table = confusion.weighted_confusion(labels, predicted, 2, once)
        for name in AT_THRESHOLD:
            values[name] = known(getattr(confusion, name)(table)[0])
    values["brier"] = brier
    values["ece"] = calibration.ece(labels, probabilities)
    return values | dict(zip(last[1:], most_probable, strict=True))


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
        lambda weights: weighted(labels, probabilities, weights, thresholds),
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
    thresholds: Numbers | None = None,
) -> Mapping[str, Draws]:
    """Metrics of samples with rows `weights` times, but ECE and those of one class alone.

    Args:
        labels: Class numbers; see `plain`.
        probabilities: Probability of each class.
        weights: How often each slide occurs in each sample.
        thresholds: See `predicted_classes`.
    """
    classes = probabilities.shape[1]
    predicted = predicted_classes(probabilities, thresholds)
    table = confusion.weighted_confusion(labels, predicted, classes, weights)
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
    if classes == 2:
        table = confusion.weighted_confusion(labels, probabilities.argmax(-1), 2, weights)
        for name in COUNTED:
            metrics[name + MOST_PROBABLE] = getattr(confusion, name)(table)
    return metrics


def _proportions(
    labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metrics that are proportions: 1 where a slide is right, and the slides that count."""
    everyone = np.ones(len(labels), bool)
    predicted = predicted_classes(probabilities, thresholds)
    right = (predicted == labels).astype(float)
    # With one label and one prediction a slide, micro F1 is the accuracy.
    proportions = {"accuracy": (right, everyone), "f1_micro": (right, everyone)}
    if probabilities.shape[1] == 2:
        counted = (labels == 1, labels == 0, predicted == 1, predicted == 0)
        for name, rows in zip(AT_THRESHOLD, counted, strict=True):
            proportions[name] = (right[rows], rows)
        most_probable = (probabilities.argmax(-1) == labels).astype(float)
        for name in ("accuracy", "f1_micro"):
            proportions[name + MOST_PROBABLE] = (most_probable, everyone)
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
