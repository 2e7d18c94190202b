"""Numbers as people read them."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from mil.statistics.metric import Metric, Spread

Value = TypeVar("Value")

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
