"""What is measured of answers of every task but classification."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mil.evaluate.rows import Row
from mil.statistics.of_task import intervals_of_task, metrics_of_task, targets_of
from mil.tasks import Task


def plain(rows: Sequence[Row], task: Task) -> dict[str, float | None]:
    """Metrics without intervals; see `mil.statistics.of_task.metrics_of_task`."""
    return metrics_of_task(task, *_targets_and_answers(rows, task))


def with_intervals(rows: Sequence[Row], task: Task) -> dict[str, Any]:
    """Metrics with intervals, best first."""
    return intervals_of_task(
        task, *_targets_and_answers(rows, task), [row["patient"] for row in rows]
    )


def _targets_and_answers(rows: Sequence[Row], task: Task) -> tuple[np.ndarray, np.ndarray]:
    targets = targets_of(task, [row["label"] for row in rows])
    return targets, np.array(
        [[row[name] for name in task.columns] for row in rows], dtype=np.float64
    )
