"""What is measured of answers that are classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mil.evaluate.rows import Row, averaged, labels_of, mean_sd, probabilities_of
from mil.statistics import classified
from mil.statistics.calibration import brier, ece, reliability
from mil.statistics.confusion import confusion
from mil.statistics.power import power_note
from mil.tasks import Task

UNCHOSEN = 0.5


class _Set:
    """Slides or patients, as the statistics want them: of two classes the positive one second."""

    def __init__(self, rows: Sequence[Row], task: Task) -> None:
        two = len(task.classes) == 2
        self.classes = sorted(task.classes, key=lambda name: two and name == task.positive)
        self.labels: Int[np.ndarray, " n"] = labels_of(rows, self.classes)
        self.probabilities: Float[np.ndarray, "n classes"] = probabilities_of(rows, self.classes)
        self.patients = [row["patient"] for row in rows]
        chosen = [UNCHOSEN if row["threshold"] is None else row["threshold"] for row in rows]
        self.thresholds: Float[np.ndarray, " n"] | None = np.array(chosen) if two else None


def plain(rows: Sequence[Row], task: Task) -> dict[str, float | None]:
    """Metrics without intervals; see `mil.statistics.classified.plain`."""
    mine = _Set(rows, task)
    return classified.plain(mine.labels, mine.probabilities, mine.thresholds)


def with_intervals(rows: Sequence[Row], task: Task) -> dict[str, Any]:
    """Metrics with intervals, and the table of labels (rows) against predictions (columns).

    Of two classes the predictions are those at the thresholds, else the most probable
    classes.
    """
    mine = _Set(rows, task)
    called = mine.probabilities.argmax(-1)
    if mine.thresholds is not None:
        called = (mine.probabilities[:, 1] >= mine.thresholds).astype(int)
    table = confusion(mine.labels, called, len(mine.classes)).tolist()
    found = classified.with_intervals(
        mine.labels, mine.probabilities, mine.patients, mine.thresholds
    )
    return found | {"confusion": {"classes": mine.classes, "table": table}}


def power(rows: Sequence[Row], task: Task) -> dict[str, Any] | None:
    """What these slides could show; None but for two classes."""
    mine = _Set(rows, task)
    return (
        power_note(mine.labels, mine.probabilities[:, 1], mine.patients)
        if len(mine.classes) == 2
        else None
    )


def calibration(rows: Sequence[Row], task: Task) -> dict[str, Any]:
    """Temperature and threshold over the heads, and what the temperature did to Brier score and ECE of the slides.

    Args:
        rows: of each test slide by each head, probabilities calibrated.
        task: with classes.
    """
    heads = {(row["seed"], row["fold"]): row for row in rows}.values()
    before = [_uncalibrated(row, task.classes) for row in rows]
    means = {
        name: _Set(_means(each, task), task) for name, each in (("before", before), ("after", rows))
    }
    after = means["after"]
    return {
        "temperature": mean_sd(row["temperature"] for row in heads),
        "threshold": mean_sd(row["threshold"] for row in heads),
        **{
            name: {
                "brier": brier(one.labels, one.probabilities),
                "ece": ece(one.labels, one.probabilities),
            }
            for name, one in means.items()
        },
        "reliability": [row._asdict() for row in reliability(after.labels, after.probabilities)],
    }


def _means(rows: Sequence[Row], task: Task) -> list[Row]:
    return averaged(rows, [*task.columns, "threshold"], "slide")


def _uncalibrated(row: Row, classes: Sequence[str]) -> Row:
    """The softmax of the logits themselves: softmax(logits / T) to the power T, scaled to sum to 1."""
    powers = {f"p_{name}": row[f"p_{name}"] ** row["temperature"] for name in classes}
    return row | {name: value / sum(powers.values()) for name, value in powers.items()}
