"""Metrics as people read them."""

from collections.abc import Mapping, Sequence
from typing import Any

from mil.statistics.text import interval, value

# What a table of heads says first of each task: a heading, and the metrics of which it
# shows the first there is.
HEADLINES: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "classification": [
        ("AUROC", ("auroc", "auroc_macro")), ("macro-F1", ("f1_macro",)), ("accuracy", ("accuracy",)),
    ],
    "multilabel": [
        ("macro AUROC", ("auroc_macro",)), ("macro AUPRC", ("auprc_macro",)), ("macro-F1", ("f1_macro",)),
    ],
    "ordinal": [
        ("quadratic kappa", ("kappa_quadratic",)), ("classes off, mean", ("mae_classes",)),
        ("accuracy", ("accuracy",)),
    ],
    "regression": [("MAE", ("mae",)), ("R²", ("r2",)), ("Spearman", ("spearman",))],
    "survival_discrete": [("C-index", ("c_index",))],
    "survival_cox": [("C-index", ("c_index",))],
}  # fmt: skip


def headline(metrics: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of these metrics that is there; None if there is none."""
    return next((metrics[name] for name in names if metrics.get(name)), None)


def metrics_line(metrics: Mapping[str, Any]) -> str:
    """One line of a recipe's test metrics."""
    test = metrics["test"]
    found = metrics["localisation"]
    tiles = (
        f", tile AUROC {found['tile_auroc_mean']:.3f} on {found['n_slides']} slides"
        if found
        else ""
    )
    heading, names = HEADLINES[metrics["task"]][0]
    best = headline(test, names)
    between = f" ({interval(best)})" if interval(best) else ""
    head = f"{metrics['recipe']} on {metrics['encoder']}"
    return f"evaluate {head}: test {heading} {value(best)}{between}, n = {test['n_slides']}{tiles}"
