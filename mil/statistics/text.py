"""Numbers as people read them."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from mil.errors import some
from mil.statistics.metric import Metric, Spread
from mil.statistics.scaling import Calibration

Value = TypeVar("Value")

FEWEST_DIGITS = 3
MOST_DIGITS = 6

# Metrics whose names in metrics.json are not their titles with spaces.
TITLES = {
    "auroc": "AUROC",
    "auroc_macro": "AUROC, macro",
    "auprc": "AUPRC",
    "auprc_macro": "AUPRC, macro",
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "F1, macro",
    "f1_micro": "F1, micro",
    "ppv": "PPV",
    "npv": "NPV",
    "brier": "Brier",
    "ece": "ECE",
    "c_index": "C-index",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "kappa_quadratic": "quadratic kappa",
    "mae_classes": "classes off, mean",
}


def title(metric: str) -> str:
    """A metric's name in a table."""
    return TITLES.get(metric, metric.replace("_", " "))


def column_title(column: str) -> str:
    """A column of predictions.csv as people read it: `p(tumour)`, `log risk`."""
    return f"p({column[2:]})" if column.startswith("p_") else column.replace("_", " ")


def predicted(value: float, threshold: float | None = None) -> str:
    """`0.731`: a prediction, with more digits where three would not tell it apart.

    A probability gets up to six, until it differs from 0, from 1 and from its threshold.

    Args:
        value: A probability or, without a threshold, any other prediction.
        threshold: Least probability of the positive class; None: there is none.
    """
    return f"{value:.{_digits(value, threshold)}f}"


def beside(threshold: float, value: float) -> str:
    """`0.482`: a threshold, with as many digits as the probability that it stands beside."""
    return f"{threshold:.{_digits(value, threshold)}f}"


def with_threshold(column: str, value: float, threshold: float | None, *others: str) -> str:
    """`p(tumour) = 0.731 (threshold 0.482)`: a prediction with its column's name.

    Args:
        column: Column of predictions.csv.
        value: The prediction.
        threshold: Least probability of the positive class; None: there is none.
        *others: What else stands in the brackets.
    """
    notes = list(others)
    if threshold is not None:
        notes.insert(0, f"threshold {beside(threshold, value)}")
    brackets = f" ({', '.join(notes)})" if notes else ""
    return f"{column_title(column)} = {predicted(value, threshold)}{brackets}"


def _digits(value: float, threshold: float | None) -> int:
    ends = (0.0, 1.0) if 0 <= value <= 1 else ()
    others = [end for end in (*ends, threshold) if end is not None and end != value]
    for digits in range(FEWEST_DIGITS, MOST_DIGITS):
        if all(round(value, digits) != round(other, digits) for other in others):
            return digits
    return MOST_DIGITS


def calibration_note(calibrations: Sequence[Calibration | None]) -> str:
    """A sentence about heads whose probabilities are not calibrated; empty if all are.

    Args:
        calibrations: Calibration of each head of a classification; None where it had no
            validation slides.
    """
    reasons = [
        "no validation slides" if calibration is None else calibration.reason
        for calibration in calibrations
    ]
    uncalibrated = [reason for reason in reasons if reason]
    if not uncalibrated:
        return ""
    heads = ""
    if len(uncalibrated) < len(reasons):
        heads = f" of {len(uncalibrated)} of {len(reasons)} heads"
    return f"Probabilities{heads} are not calibrated: {some(sorted(set(uncalibrated)))}."


def headline(metrics: Mapping[str, Value], names: Sequence[str]) -> Value | None:
    """First of these metrics that there is; None if there is none."""
    return next((metrics[name] for name in names if metrics.get(name)), None)


def value(metric: Metric | None) -> str:
    """`0.931`, or a dash."""
    return "–" if metric is None or metric.value is None else f"{metric.value:.3f}"


def interval(metric: Metric | None) -> str:
    """`0.81 to 1.00`, or nothing."""
    if metric is None or metric.ci95 is None:
        return ""
    return "{:.2f} to {:.2f}".format(*metric.ci95)


def with_interval(metric: Metric | None) -> str:
    """`0.931 (0.81 to 1.00)`, without brackets where there is no interval."""
    between = interval(metric)
    return value(metric) + (f" ({between})" if between else "")


def mean_sd(runs: Spread | None) -> str:
    """`0.931 ± 0.020`, or a dash."""
    if runs is None or runs.mean is None:
        return "–"
    deviation = "" if runs.sd is None else f" ± {runs.sd:.3f}"
    return f"{runs.mean:.3f}{deviation}"


def single_runs(runs: Spread | None, ends: Sequence[float] | None) -> str:
    """`0.931 ± 0.020 (0.90 to 0.95)`: mean, deviation and range of single runs, or a dash."""
    between = "" if ends is None else f" ({ends[0]:.2f} to {ends[1]:.2f})"
    return mean_sd(runs) + between


def probability(p: float | None) -> str:
    """`0.031`, `< 0.001`, or a dash."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
