"""Rows of predictions, taken apart by run and put together again."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

Row = dict[str, Any]


def by_run(rows: Iterable[Row]) -> dict[tuple[int, int], list[Row]]:
    """Rows of each seed and fold, in their order."""
    found: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        found.setdefault((row["seed"], row["fold"]), []).append(row)
    return dict(sorted(found.items()))


def averaged(rows: Iterable[Row], columns: Sequence[str], key: str) -> list[Row]:
    """One row for each value of `key`: the first of its rows, with the mean of each column that is a number.

    Args:
        rows: to be averaged, by several heads or of several slides.
        columns: what is averaged. One that holds None anywhere is None.
        key: `slide` or `patient`.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return [
        {**group[0], **{name: mean_of_all([row[name] for row in group]) for name in columns}}
        for group in groups.values()
    ]


def labels_of(rows: Sequence[Row], classes: Sequence[str]) -> Int[np.ndarray, " rows"]:
    """Labels as class numbers."""
    return np.array([classes.index(row["label"]) for row in rows])


def probabilities_of(
    rows: Sequence[Row], classes: Sequence[str]
) -> Float[np.ndarray, "rows classes"]:
    """What was predicted."""
    return np.array([[row[f"p_{name}"] for name in classes] for row in rows])


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """Mean; None if any is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def mean_sd(values: Iterable[float | None]) -> dict[str, float | None]:
    """Mean, and standard deviation of a sample, of those that are known."""
    known = [value for value in values if value is not None]
    return {"mean": mean(known), "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None}
