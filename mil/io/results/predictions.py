"""predictions.csv: a row for each slide (or patient) and head."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mil.errors import FormatError
from mil.io.bags.patients import HELD_OUT
from mil.io.results.json_file import finite
from mil.io.tables import read_csv, write_csv


@dataclass(frozen=True)
class Prediction:
    """Predictions of one slide (or patient) by one head: a row of predictions.csv."""

    slide: str  # empty in a row of a patient
    patient: str
    split: str
    label: str  # empty for a patient whose slides have different labels
    predictions: Mapping[str, float]  # by column, in the task's order
    recipe: str
    encoder: str
    seed: int
    fold: int
    temperature: float = 1.0  # by which logits were divided
    # Probability from which the positive class of two is predicted; None: 0.5.
    threshold: float | None = None
    held_out: str = ""  # value of `split.by` that the fold leaves out for its test
    n_slides: int | None = None  # number of a patient's slides; None in a row of a slide


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write predictions.csv, of slides or of patients; there is at least one row."""
    write_csv(path, [_cells(prediction) for prediction in predictions])


def read_predictions(path: Path) -> list[Prediction]:
    """Read predictions.csv, of slides or of patients.

    Raises:
        FormatError: It is missing, or is not what `mil evaluate` writes.
    """
    rows = read_csv(path)
    try:
        predictions = [_prediction(row) for row in rows]
    except KeyError as error:
        raise FormatError(
            f"{path}: no column {error.args[0]!r}; run `mil evaluate` again"
        ) from None
    except (TypeError, ValueError, csv.Error) as error:
        raise FormatError(f"{path}: {error}; run `mil evaluate` again") from None
    if not predictions:
        raise FormatError(f"{path}: has no rows; run `mil evaluate` again")
    return predictions


def _cells(prediction: Prediction) -> dict[str, object]:
    """Row of the table: no slide in a row of a patient, no number of slides in one of a slide."""
    cells: dict[str, object] = {}
    if prediction.n_slides is None:
        cells["slide"] = prediction.slide
    cells |= {
        "patient": prediction.patient,
        "split": prediction.split,
        "label": prediction.label,
        **{name: _number(value) for name, value in prediction.predictions.items()},
        "recipe": prediction.recipe,
        "encoder": prediction.encoder,
        "seed": prediction.seed,
        "fold": prediction.fold,
    }
    if prediction.held_out:
        cells[HELD_OUT] = prediction.held_out
    cells["temperature"] = _number(prediction.temperature)
    cells["threshold"] = _number(prediction.threshold)
    if prediction.n_slides is not None:
        cells["n_slides"] = prediction.n_slides
    return cells


def _number(value: float | None) -> str:
    # Nine digits tell any two float32 apart.
    return "" if value is None else f"{value:.9g}"


def _prediction(row: Mapping[str, str]) -> Prediction:
    if None in row or None in row.values():
        raise ValueError("a row has more or fewer cells than the header")
    names = list(row)
    for name in ("label", "recipe"):
        if name not in row:
            raise KeyError(name)
    # Predictions stand between the label and the recipe.
    columns = names[names.index("label") + 1 : names.index("recipe")]
    threshold = row.get("threshold", "")
    n_slides = row.get("n_slides", "")
    return Prediction(
        slide=row["slide"] if not n_slides else "",
        patient=row["patient"],
        split=row["split"],
        label=row["label"],
        predictions={name: finite(row[name]) for name in columns},
        recipe=row["recipe"],
        encoder=row["encoder"],
        seed=int(row["seed"]),
        fold=int(row["fold"]),
        temperature=finite(row.get("temperature") or "1"),
        threshold=finite(threshold) if threshold else None,
        held_out=row.get(HELD_OUT, ""),
        n_slides=int(n_slides) if n_slides else None,
    )
