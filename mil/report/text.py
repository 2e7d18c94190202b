"""Numbers as people read them."""

from collections.abc import Mapping
from typing import Any


def value(metric: Mapping[str, Any] | None) -> str:
    """`0.931`, or a dash."""
    return "–" if not metric or metric["value"] is None else f"{metric['value']:.3f}"


def interval(metric: Mapping[str, Any] | None) -> str:
    """`0.81 to 1.00`, or nothing."""
    return "{:.2f} to {:.2f}".format(*metric["ci95"]) if metric and metric["ci95"] else ""


def mean_sd(runs: Mapping[str, Any]) -> str:
    """`0.93 ± 0.02`, or a dash."""
    if runs["mean"] is None:
        return "–"
    return f"{runs['mean']:.3f}" + (f" ± {runs['sd']:.3f}" if runs["sd"] is not None else "")


def metrics_line(metrics: Mapping[str, Any]) -> str:
    """One line of a recipe's test metrics."""
    test, found = metrics["test"], metrics["localisation"]
    tiles = f", tile AUROC {found['tile_auroc_mean']:.3f} on {found['n_slides']} slides" if found else ""
    area = test.get("auroc") or test.get("auroc_macro")
    between = f" ({interval(area)})" if interval(area) else ""
    head = f"{metrics['recipe']} on {metrics['encoder']}"
    return f"evaluate {head}: test AUROC {value(area)}{between}, n = {test['n_slides']}{tiles}"
