"""A folder that `mil evaluate` writes: metrics.json beside predictions.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mil.errors import FormatError
from mil.io.results.json_file import read_checked, reason
from mil.io.results.metrics import Metrics, write_metrics
from mil.io.results.predictions import Prediction, read_predictions, write_predictions
from mil.io.tables import write_csv

PREDICTIONS = "predictions.csv"
PATIENTS = "predictions_patients.csv"
BRANCHES = "branches.csv"
METRICS = "metrics.json"


class Evaluation(NamedTuple):
    """A folder that `mil evaluate` wrote."""

    metrics: Metrics
    predictions: list[Prediction]


def write_evaluation(
    folder: Path,
    metrics: Metrics,
    predictions: Sequence[Prediction],
    patients: Sequence[Prediction],
    branches: Sequence[Mapping[str, object]] = (),
) -> None:
    """Write predictions.csv, predictions_patients.csv and, last, metrics.json.

    Also branches.csv, where there are branches; that of an earlier run is removed.

    Args:
        folder: Folder of the three files.
        metrics: Content of metrics.json.
        predictions: Predictions of each slide by each head.
        patients: Predictions of each patient by each head.
        branches: Each branch of each head, left out on each test slide.
    """
    # New predictions must never lie beside old metrics.
    (folder / METRICS).unlink(missing_ok=True)
    write_predictions(folder / PREDICTIONS, predictions)
    write_predictions(folder / PATIENTS, patients)
    if branches:
        write_csv(folder / BRANCHES, branches)
    else:
        (folder / BRANCHES).unlink(missing_ok=True)
    write_metrics(folder / METRICS, metrics)


def read_evaluation(folder: Path | str) -> Evaluation:
    """Read metrics.json and predictions.csv.

    Raises:
        FormatError: One is missing, or is not what this version of `mil evaluate` writes.
    """
    folder = Path(folder)
    try:
        metrics = read_checked(folder / METRICS, Metrics)
        return Evaluation(metrics, read_predictions(folder / PREDICTIONS))
    except (OSError, ValueError, RecursionError, FormatError) as error:
        raise FormatError(
            f"{folder}: no predictions.csv and metrics.json of `mil evaluate` "
            f"({reason(error)}); run it again"
        ) from None
