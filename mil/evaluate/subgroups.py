"""Metrics of patients, and of slides by the further columns of the slide table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mil.config import Fusion
from mil.evaluate.rows import Row, averaged, evaluation_set
from mil.io.results import Prediction, SetMetrics
from mil.tasks import Task

# Number of different values of a column that divides slides into subgroups. One value
# divides nothing; with more than ten, groups are too small to say anything.
FEWEST = 2
MOST = 10
EMPTY = "(empty)"  # subgroup of slides whose cell has no text


def set_metrics(rows: Sequence[Prediction], task: Task) -> SetMetrics:
    """Metrics of rows with intervals, and the numbers of slides and patients."""
    if not rows:
        return SetMetrics(n_slides=0, n_patients=0)
    return SetMetrics.of(task.metrics_with_intervals(evaluation_set(rows, task)), len(rows))


def by_patient(rows: Sequence[Row]) -> list[Row]:
    """One row for each patient: the mean prediction of its slides (late fusion).

    The label is that of the slides; empty where they have different labels.
    """
    labels = _labels(rows)
    counts = Counter(row.patient for row in rows)
    return [
        replace(
            row,
            label=row.label if len(labels[row.patient]) == 1 else "",
            n_slides=counts[row.patient],
        )
        for row in averaged(rows, "patient")
    ]


def _labels(rows: Sequence[Prediction]) -> dict[str, set[str]]:
    """Labels of each patient's slides."""
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(row.patient, set()).add(row.label)
    return labels


def metrics_of_patients(
    rows: Sequence[Prediction], task: Task, fusion: Fusion = "late"
) -> SetMetrics:
    """Metrics of patients; a note instead where a patient's slides have different labels.

    Args:
        rows: One row for each slide.
        task: Task of the head.
        fusion: late: predictions of a patient's slides are averaged; early: a row is a
            patient already.
    """
    patients = by_patient(rows)
    # A patient with two labels is neither a positive nor a negative.
    mixed = [patient for patient, labels in _labels(rows).items() if len(labels) > 1]
    if mixed:
        named = ", ".join(mixed[:3]) + (" …" if len(mixed) > 3 else "")
        note = (
            f"{len(mixed)} of {len(patients)} patients have slides of different labels "
            f"({named}), so that patients have none"
        )
        return SetMetrics(note=note, n_patients=len(patients), n_slides=len(rows))
    metrics = set_metrics(patients, task)
    # Rows of patients were counted, but the file says how many slides they have.
    return metrics.model_copy(update={"fusion": fusion, "n_slides": len(rows)})


def subgroups(
    rows: Sequence[Prediction], task: Task, columns: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, SetMetrics]]:
    """Main metrics of the slides with each value of a column.

    Args:
        rows: One row for each slide.
        task: Task of the head.
        columns: Value of each slide, by column of the slide table.

    Returns:
        Metrics by column and value; columns with fewer than 2 or more than 10 values
        are left out.
    """
    tables: dict[str, dict[str, SetMetrics]] = {}
    for column, value_by_slide in columns.items():
        values = {slide: value or EMPTY for slide, value in value_by_slide.items()}
        if not FEWEST <= len(set(values.values())) <= MOST:
            continue
        groups = {}
        for value in sorted(set(values.values())):
            members = [row for row in rows if values.get(row.slide) == value]
            groups[value] = _main_metrics(set_metrics(members, task), task)
        tables[column] = groups
    return tables


def _main_metrics(metrics: SetMetrics, task: Task) -> SetMetrics:
    # Subgroups are small and many: they raise questions and answer none, so that the
    # main metrics are enough.
    shown = {
        name: metric for name, metric in metrics.metrics.items() if name in task.subgroup_metrics
    }
    return metrics.model_copy(update={"metrics": shown, "confusion": None})
