"""Metrics as people read them."""

from collections.abc import Mapping
from typing import Any

from mil.statistics.text import interval, value


def metrics_line(metrics: Mapping[str, Any]) -> str:
    """One line of a recipe's test metrics."""
    test, found = metrics["test"], metrics["localisation"]
    tiles = f", tile AUROC {found['tile_auroc_mean']:.3f} on {found['n_slides']} slides" if found else ""
    area = test.get("auroc") or test.get("auroc_macro")
    between = f" ({interval(area)})" if interval(area) else ""
    head = f"{metrics['recipe']} on {metrics['encoder']}"
    return f"evaluate {head}: test AUROC {value(area)}{between}, n = {test['n_slides']}{tiles}"
