"""Numbers as people read them."""

from collections.abc import Mapping
from typing import Any


def interval(metric: Mapping[str, Any] | None) -> str:
    """`0.93 (0.81 to 1.00)`, or a dash."""
    if not metric or metric.get("value") is None:
        return "–"
    low, high = metric["ci95"] or (None, None)
    between = "" if low is None else f" ({low:.2f} to {high:.2f})"
    return f"{metric['value']:.3f}{between}"


def metrics_line(metrics: Mapping[str, Any]) -> str:
    """One line of a recipe's test metrics."""
    test, found = metrics["test"], metrics["localisation"]
    tiles = f", tile AUROC {found['tile_auroc_mean']:.3f} on {found['n_slides']} slides" if found else ""
    return (
        f"evaluate {metrics['recipe']} on {metrics['encoder']}: test AUROC {interval(test.get('auroc_macro'))}, "
        f"n = {test['n_slides']}{tiles}"
    )
