"""Rows of predictions, taken apart by run and put together again."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mil.statistics.classified import classification

Row = dict[str, Any]


def by_run(rows: Iterable[Row]) -> dict[tuple[int, int], list[Row]]:
    """Rows of each seed and fold, in their order."""
    found: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        found.setdefault((row["seed"], row["fold"]), []).append(row)
    return dict(sorted(found.items()))


def positive_last(classes: Sequence[str], positive: str) -> list[str]:
    """Two classes with the positive one second, as the statistics want them; more as they are."""
    return sorted(classes, key=lambda name: name == positive) if len(classes) == 2 else list(classes)


def labels_of(rows: Sequence[Row], classes: Sequence[str]) -> Int[np.ndarray, " rows"]:
    """Labels as class numbers."""
    return np.array([classes.index(row["label"]) for row in rows])


def probabilities_of(rows: Sequence[Row], classes: Sequence[str]) -> Float[np.ndarray, "rows classes"]:
    """What was predicted."""
    return np.array([[row[f"p_{name}"] for name in classes] for row in rows])


def plain(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, Any]:
    """Metrics without intervals, and how many slides they are of."""
    if not rows:
        return {"n_slides": 0}
    return classification(labels_of(rows, classes), probabilities_of(rows, classes)) | {"n_slides": len(rows)}


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def mean_sd(values: Iterable[float | None]) -> dict[str, float | None]:
    """Mean, and standard deviation of a sample, of those that are known."""
    known = [value for value in values if value is not None]
    return {"mean": mean(known), "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None}
