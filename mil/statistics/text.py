"""Numbers as people read them."""

from collections.abc import Mapping
from typing import Any

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


def value(metric: Mapping[str, Any] | None) -> str:
    """`0.931`, or a dash."""
    return "–" if not metric or metric["value"] is None else f"{metric['value']:.3f}"


def interval(metric: Mapping[str, Any] | None) -> str:
    """`0.81 to 1.00`, or nothing."""
    return "{:.2f} to {:.2f}".format(*metric["ci95"]) if metric and metric["ci95"] else ""


def mean_sd(runs: Mapping[str, Any] | None) -> str:
    """`0.931 ± 0.020`, or a dash."""
    if not runs or runs["mean"] is None:
        return "–"
    return f"{runs['mean']:.3f}" + (f" ± {runs['sd']:.3f}" if runs["sd"] is not None else "")


def probability(p: float | None) -> str:
    """`0.031`, `< 0.001`, or a dash."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
