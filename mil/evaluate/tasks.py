"""What is measured of each kind of task; the one place that knows the kinds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mil.evaluate import classes, others
from mil.evaluate.rows import Row
from mil.tasks import Task


def _nothing(rows: Sequence[Row], task: Task) -> None:
    return None


class Measures(NamedTuple):
    """Functions of rows, one for each slide or patient; rows have `label`, `patient`, `threshold` and the answers."""

    plain: Callable[[Sequence[Row], Task], dict[str, float | None]]
    with_intervals: Callable[
        [Sequence[Row], Task], dict[str, Any]
    ]  # with `n_slides` and `n_patients`; best first
    subgroup: Sequence[str]  # which of them a subgroup gets
    power: Callable[[Sequence[Row], Task], dict[str, Any] | None] = _nothing
    calibration: Callable[[Sequence[Row], Task], dict[str, Any] | None] = (
        _nothing  # of rows of each head
    )


BY_KIND: Mapping[str, Measures] = {
    "classification": Measures(
        classes.plain,
        classes.with_intervals,
        ("auroc", "auroc_macro", "balanced_accuracy", "sensitivity", "specificity"),
        classes.power,
        classes.calibration,
    ),
    **{
        kind: Measures(others.plain, others.with_intervals, names)
        for kind, names in (
            ("multilabel", ("auroc_macro", "auprc_macro", "f1_macro")),
            ("ordinal", ("kappa_quadratic", "mae_classes", "balanced_accuracy")),
            ("regression", ("mae", "r2", "spearman")),
            ("survival_discrete", ("c_index",)),
            ("survival_cox", ("c_index",)),
        )
    },
}


def plain_of_task(task: Task, rows: Sequence[Row]) -> dict[str, Any]:
    """Metrics of rows without intervals, and of how many slides they are."""
    return {**(BY_KIND[task.kind].plain(rows, task) if rows else {}), "n_slides": len(rows)}


def metrics_of_task(task: Task, rows: Sequence[Row]) -> dict[str, Any]:
    """Metrics of rows, each with `value` and `ci95`, and of how many slides and patients they are."""
    return (
        BY_KIND[task.kind].with_intervals(rows, task) if rows else {"n_slides": 0, "n_patients": 0}
    )
