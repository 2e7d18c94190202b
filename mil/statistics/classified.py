"""Everything that is said of a classifier's answers on a set of slides, with 95 % intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from mil.statistics import calibration, confusion
from mil.statistics.bootstrap import RESAMPLES, interval, members, resampled
from mil.statistics.delong import delong
from mil.statistics.discrimination import known, one_vs_rest, weighted_auprc, weighted_auroc
from mil.statistics.intervals import Interval, area, proportion
from mil.statistics.metric import Metric, MetricsOfSet

AT_THRESHOLD = ("sensitivity", "specificity", "ppv", "npv")


def classification(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> dict[str, float | None]:
    """Plain metrics, fast: `auroc_macro` (one class against the rest; None with one class), `f1_macro`, `accuracy`.

    Of two classes `auroc_macro` is the AUROC of either.
    """
    once = np.ones((1, len(labels)))
    table = confusion.weighted_confusion(
        labels, probabilities.argmax(-1), probabilities.shape[1], once
    )
    return {
        "auroc_macro": known(one_vs_rest(weighted_auroc, labels, probabilities, once)[0]),
        "f1_macro": float(confusion.f1_macro(table)[0]),
        "accuracy": float(confusion.accuracy(table)[0]),
    }


def plain(
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    thresholds: Float[np.ndarray, " n"] | None = None,
) -> dict[str, float | None]:
    """Metrics without intervals.

    Args:
        labels: class numbers; of two classes 1 is the positive one.
        probabilities: of each class.
        thresholds: of two classes, where each slide's positive call begins; default
            0.5.

    Returns:
        Of two classes `auroc` and `auprc` (average precision) of the positive class,
        else `auroc_macro` and `auprc_macro`, one class against the rest;
        `balanced_accuracy`, `f1_macro`, `f1_micro` and `accuracy` of the most probable
        class; of two classes `sensitivity`, `specificity`, `ppv` and `npv` at the
        threshold; `brier` and `ece`. None for what a set cannot have, such as an AUROC
        of one class.
    """
    once = np.ones((1, len(labels)))
    values = {
        name: known(found[0]) for name, found in weighted(labels, probabilities, once).items()
    }
    if probabilities.shape[1] == 2:
        called = (probabilities[:, 1] >= (0.5 if thresholds is None else thresholds)).astype(int)
        table = confusion.weighted_confusion(labels, called, 2, once)
        values |= {name: known(getattr(confusion, name)(table)[0]) for name in AT_THRESHOLD}
    squared = values.pop("brier")
    return {**values, "brier": squared, "ece": calibration.ece(labels, probabilities)}


def with_intervals(
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    patients: Sequence[str],
    thresholds: Float[np.ndarray, " n"] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> MetricsOfSet:
    """The metrics of `plain` with 95 % intervals.

    AUROC of two classes: DeLong's, logit t (`intervals.area`). Proportions: Wilson's
    (`intervals.proportion`). The rest: patients resampled (`bootstrap.interval`). ECE
    has no interval, for none covers a quantity whose estimate is biased by as much as
    it varies; it has `if_calibrated`, the range that probabilities without any fault
    would give.

    Args:
        labels: see `plain`.
        probabilities: see `plain`.
        patients: of each slide.
        thresholds: see `plain`.
        seed: of the resamples.
        resamples: how many.
    """
    member = members(patients)
    values = plain(labels, probabilities, thresholds)
    count = int(member.max()) + 1
    drawn = resampled(
        lambda w: weighted(labels, probabilities, w), member, resamples=resamples, seed=seed
    )
    found: dict[str, Interval | None] = {
        name: None
        if (value := values[name]) is None
        else interval(value, each, count, top=_top(name, probabilities))
        for name, each in drawn.items()
    }
    found |= {
        name: proportion(right, member[rows])
        for name, (right, rows) in _shares(labels, probabilities, thresholds).items()
    }
    if "auroc" in values:
        found["auroc"] = _area(labels, probabilities, patients)
    metrics = {
        name: Metric(value=value, ci95=None if value is None else found.get(name))
        for name, value in values.items()
    }
    range_of_ece = calibration.ece_if_calibrated(probabilities, member, seed=seed)
    metrics["ece"] = Metric(value=values["ece"], if_calibrated=range_of_ece)
    return MetricsOfSet(metrics, count)


def weighted(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> Mapping[str, Float[np.ndarray, " draws"]]:
    """What is resampled."""
    classes = probabilities.shape[1]
    table = confusion.weighted_confusion(labels, probabilities.argmax(-1), classes, weights)
    if classes == 2:
        ranked = {
            "auroc": weighted_auroc(labels, probabilities[:, 1], weights),
            "auprc": weighted_auprc(labels, probabilities[:, 1], weights),
        }
    else:
        ranked = {
            "auroc_macro": one_vs_rest(weighted_auroc, labels, probabilities, weights),
            "auprc_macro": one_vs_rest(weighted_auprc, labels, probabilities, weights),
        }
    counted = {
        name: getattr(confusion, name)(table)
        for name in ("balanced_accuracy", "f1_macro", "f1_micro", "accuracy")
    }
    squared = weights @ calibration.brier_each(labels, probabilities) / weights.sum(1)
    return {**ranked, **counted, "brier": squared}


def _shares(
    labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The metrics that are proportions: which of which slides are right."""
    everyone = np.ones(len(labels), bool)
    right = (probabilities.argmax(-1) == labels).astype(float)
    shares = {"accuracy": (right, everyone), "f1_micro": (right, everyone)}
    if probabilities.shape[1] == 2:
        called = probabilities[:, 1] >= (0.5 if thresholds is None else thresholds)
        right = (called == (labels == 1)).astype(float)
        among = dict(zip(AT_THRESHOLD, (labels == 1, labels == 0, called, ~called), strict=True))
        shares |= {name: (right[rows], rows) for name, rows in among.items()}
    return shares


def _area(
    labels: np.ndarray, probabilities: np.ndarray, patients: Sequence[str]
) -> Interval | None:
    try:
        return area(delong(labels, probabilities[:, 1][None], patients))
    except ValueError:
        return None


def _top(name: str, probabilities: np.ndarray) -> float:
    return 2.0 if name == "brier" and probabilities.shape[1] > 2 else 1.0
