"""Slides put together by patient, and taken apart by what else the slide table says of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mil.config import Fusion
from mil.evaluate.rows import Row, averaged
from mil.evaluate.tasks import BY_KIND, metrics_of_task
from mil.tasks import Task

# values of a column that divides slides into subgroups
FEWEST = 2
MOST = 10


def by_patient(rows: Sequence[Row], task: Task) -> list[Row]:
    """One row a patient: the mean of its slides' answers (late fusion), and `n_slides`.

    The label is that of the slides; empty where they have different ones.
    """
    labels = _labels(rows)
    counts = Counter(row["patient"] for row in rows)
    return [
        {
            **row,
            "label": row["label"] if len(labels[row["patient"]]) == 1 else "",
            "n_slides": counts[row["patient"]],
        }
        for row in averaged(rows, [*task.columns, "threshold"], "patient")
    ]


def _labels(rows: Sequence[Row]) -> dict[str, set[str]]:
    """The labels of each patient's slides."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["patient"], set()).add(row["label"])
    return found


def metrics_of_patients(rows: Sequence[Row], task: Task, fusion: Fusion = "late") -> dict[str, Any]:
    """Metrics of patients; a `note` instead where a patient's slides have different labels.

    Args:
        rows: one for each slide.
        task: what the answers are of.
        fusion: how patients were put together: here, or as bags.
    """
    patients = by_patient(rows, task)
    torn = [patient for patient, labels in _labels(rows).items() if len(labels) > 1]
    if torn:
        named = ", ".join(torn[:3]) + (" …" if len(torn) > 3 else "")
        return {
            "note": f"{len(torn)} of {len(patients)} patients have slides of different labels ({named}), so that "
            "patients have none",
            "n_patients": len(patients),
            "n_slides": len(rows),
        }
    return {"fusion": fusion, **metrics_of_task(task, patients), "n_slides": len(rows)}


def subgroups(
    rows: Sequence[Row], task: Task, columns: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """The most telling metrics of the slides with each value of a column.

    Args:
        rows: one for each slide.
        task: what the answers are of.
        columns: the value of each slide, by column.

    Returns:
        By column and value the metrics with intervals, `n_slides` and `n_patients`. A
        cell without text is `(empty)`.
    """
    named = BY_KIND[task.kind].subgroup
    tables: dict[str, Any] = {}
    for column, value_of in columns.items():
        values = {slide: value or "(empty)" for slide, value in value_of.items()}
        if not FEWEST <= len(set(values.values())) <= MOST:
            continue
        tables[column] = {}
        for value in sorted(set(values.values())):
            found = metrics_of_task(
                task, [row for row in rows if values.get(row["slide"]) == value]
            )
            tables[column][value] = {
                k: v for k, v in found.items() if k in (*named, "n_slides", "n_patients")
            }
    return tables
