"""Tables of `mil bench learn`: means over cohorts, and paired differences."""

from collections.abc import Mapping, Sequence
from math import log, sqrt
from typing import NamedTuple

import numpy as np

from mil.bench.learn_cohorts import CohortSettings
from mil.bench.learn_results import LearnResult, TestMetrics
from mil.bench.results_table import BenchmarkTable, Row

CEILING = "tile labels"
CHANCE = "chance"
NOTE = (
    "Mean ± standard error over cohorts, each the mean of its seeds. slide: AUROC of test slides; "
    "tile: AUROC of attention within positive slides (0.5: chance); 1: test set, 2: second test "
    "set, of other tiles and stains; log loss of slides in nats, mean of both sets, by the head's "
    "logits and calibrated on validation slides; lowest: the cohort of the lowest slide AUROC, "
    "mean of both sets. "
    f"{CEILING}: logistic regression on the label of every training tile, the ceiling of these "
    "features; a slide counts by its highest tile."
)
DIFFERENCE_NOTE = (
    "Difference to the reference, mean ± standard error over cohorts; the cohorts are the same, "
    "so that differences between cohorts cancel. better: cohorts with a higher slide AUROC, mean "
    "of both test sets."
)
NOTHING = ""


class Estimate(NamedTuple):
    """Mean over cohorts, and its standard error; None with one cohort."""

    mean: float
    standard_error: float | None

    def __str__(self) -> str:
        if self.standard_error is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {self.standard_error:.3f}"


# Metrics by cohort, each the mean over seeds.
ByCohort = Mapping[str, np.ndarray]


class _Column(NamedTuple):
    """Column of metrics: its name, and its place among the means of a cohort."""

    name: str
    place: int


# Order of the metrics in an array of a cohort.
FIELDS = ("slide_auroc", "tile_auroc", "log_loss", "calibrated_log_loss")
AREAS = (_Column("slide_1", 0), _Column("slide_2", 1), _Column("tile_1", 2), _Column("tile_2", 3))
LOSSES = (_Column("log_loss", 4), _Column("calibrated", 5))


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of independent values, and its standard error."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None)
    return Estimate(mean, float(np.std(values, ddof=1)) / sqrt(len(values)))


def learn_table(
    title: str, rows: Sequence[str], results: Sequence[LearnResult], settings: CohortSettings
) -> BenchmarkTable:
    """Table with a row for each recipe, the ceiling and chance.

    Args:
        title: title of the table.
        rows: names of the rows, in their order.
        results: results of all rows and cohorts.
        settings: settings of the cohorts.
    """
    num_cohorts = len({result.cohort for result in results})
    table = [_row(name, results) for name in rows]
    return BenchmarkTable(title, [*table, _chance_row(settings, num_cohorts)], NOTE)


def difference_table(rows: Mapping[str, str], results: Sequence[LearnResult]) -> BenchmarkTable:
    """Table of differences, paired by cohort.

    Args:
        rows: the reference of each row, by its name.
        results: results of all rows, references and cohorts.
    """
    table: list[Row] = []
    for name, reference in rows.items():
        own = by_cohort(name, results)
        other = by_cohort(reference, results)
        differences = np.array([own[cohort] - other[cohort] for cohort in own])
        row: Row = {"recipe": name, "against": reference}
        for column in (*AREAS, *LOSSES):
            row[column.name] = _signed(estimate(differences[:, column.place].tolist()))
        better = int((differences[:, :2].mean(1) > 0).sum())
        row["better"] = f"{better} of {len(differences)}"
        table.append(row)
    return BenchmarkTable("differences", table, DIFFERENCE_NOTE)


def by_cohort(row: str, results: Sequence[LearnResult]) -> ByCohort:
    """Metrics of a row by cohort, mean over seeds.

    Returns:
        Arrays of slide AUROC on both test sets, tile AUROC on both, log loss and
        calibrated log loss, mean of both.
    """
    of_cohort: dict[str, list[np.ndarray]] = {}
    for result in results:
        if result.row == row:
            of_cohort.setdefault(result.cohort, []).append(_values(result.tests))
    return {cohort: np.mean(values, axis=0) for cohort, values in of_cohort.items()}


def _values(tests: Sequence[TestMetrics]) -> np.ndarray:
    first, second = (np.array([getattr(test, name) for name in FIELDS]) for test in tests)
    areas = np.stack([first[:2], second[:2]], axis=1).ravel()
    losses = (first[2:] + second[2:]) / 2
    return np.concatenate([areas, losses])


def _row(name: str, results: Sequence[LearnResult]) -> Row:
    of_row = [result for result in results if result.row == name]
    values = np.array(list(by_cohort(name, results).values()))
    row: Row = {"recipe": name}
    for column in (*AREAS, *LOSSES):
        row[column.name] = str(estimate(values[:, column.place].tolist()))
    # A recipe may fail on one cohort and be right on all others.
    row["lowest"] = f"{values[:, :2].mean(1).min():.3f}"
    if name == CEILING:
        # The highest of a slide's tiles ranks slides, and is no probability of a slide.
        row.update({column.name: NOTHING for column in LOSSES})
    row["s_a_fit"] = float(np.mean([result.seconds for result in of_row]))
    return row


def _chance_row(settings: CohortSettings, num_cohorts: int) -> Row:
    """Row of a coin, with the standard error that as many cohorts of its slides have."""
    row: Row = {"recipe": CHANCE}
    sizes = (settings.test_slides, settings.second_test_slides)
    for number, size in enumerate(sizes, start=1):
        positive = size // 2
        negative = size - positive
        # Mann and Whitney 1947: variance of U without ties and without a difference.
        variance = (size + 1) / (12 * positive * negative)
        row[f"slide_{number}"] = str(Estimate(0.5, sqrt(variance / num_cohorts)))
    row |= {"tile_1": "0.500", "tile_2": "0.500"}
    row |= {column.name: f"{log(2):.3f}" for column in LOSSES}
    return row | {"lowest": NOTHING, "s_a_fit": NOTHING}


def _signed(value: Estimate) -> str:
    sign = "+" if value.mean >= 0 else ""
    return f"{sign}{value}"
