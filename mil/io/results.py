"""Results: predictions.csv, metrics.json and comparison.json, written and read here only.

Each is a frozen model that is checked when it is read. A file that is read and written
again has the same bytes.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field, JsonValue, ValidationError, model_serializer, model_validator

from mil.config import Fusion, Section
from mil.errors import FormatError, MilError, brief
from mil.io.atomic import write_json
from mil.io.bags.patients import HELD_OUT
from mil.io.branch_metrics import BranchesOfRecipe
from mil.io.localisation import Localisation
from mil.io.map_metrics import EvidenceCheck, Lesions, MapMetrics
from mil.io.tables import read_csv, write_csv
from mil.statistics.metric import (
    CalibrationErrors,
    Confusion,
    Metric,
    MetricsOfSet,
    PowerNote,
    ReliabilityBin,
    Spread,
)

__all__ = [
    "AgainstBaseline",
    "ComparedHead",
    "Comparison",
    "Evaluation",
    "Localisation",
    "Metric",
    "Metrics",
    "Pair",
    "PairedTests",
    "Prediction",
    "RunMetrics",
    "SetMetrics",
    "Spread",
    "Table",
    "read_comparison",
    "read_evaluation",
    "read_metrics",
    "read_predictions",
    "using_results",
    "write_comparison",
    "write_evaluation",
    "write_metrics",
    "write_predictions",
]

PREDICTIONS = "predictions.csv"
PATIENTS = "predictions_patients.csv"
BRANCHES = "branches.csv"
METRICS = "metrics.json"
COMPARISON = "comparison.json"
Model = TypeVar("Model", bound=Section)
Number = int | float | None


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


class SetMetrics(Section):
    """Metrics of a set of slides or patients."""

    metrics: dict[str, Metric] = Field({})
    n_slides: int
    n_patients: int
    confusion: Confusion | None = None
    fusion: Fusion | None = None  # how patients were put together; None of slides
    note: str = ""  # why patients have no metrics

    @classmethod
    def of(
        cls, measured: MetricsOfSet, n_slides: int, fusion: Fusion | None = None
    ) -> "SetMetrics":
        """Metrics with the size of the set."""
        return cls(
            metrics=measured.metrics,
            n_slides=n_slides,
            n_patients=measured.n_patients,
            confusion=measured.confusion,
            fusion=fusion,
        )

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: object) -> object:
        return _with_metrics(cls, raw)

    @model_serializer
    def _written(self) -> dict[str, object]:
        if self.note:
            return {
                "note": self.note,
                "n_patients": self.n_patients,
                "n_slides": self.n_slides,
            }
        written: dict[str, object] = {}
        if self.fusion is not None:
            written["fusion"] = self.fusion
        written |= {name: metric.model_dump() for name, metric in self.metrics.items()}
        written |= {"n_slides": self.n_slides, "n_patients": self.n_patients}
        if self.confusion is not None:
            written["confusion"] = self.confusion.model_dump()
        return written


class RunMetrics(Section):
    """Metrics of one training run: one seed and fold."""

    seed: int
    fold: int
    held_out: str = ""
    metrics: dict[str, float | None] = Field({})
    n_slides: int
    tile_auroc: float | None = None
    hottest_tile_rate: float | None = None
    attention_entropy_share: float | None = None

    @property
    def numbers(self) -> dict[str, float | None]:
        """Everything that has a spread over runs."""
        return {
            **self.metrics,
            "tile_auroc": self.tile_auroc,
            "hottest_tile_rate": self.hottest_tile_rate,
            "attention_entropy_share": self.attention_entropy_share,
        }

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: object) -> object:
        return _with_metrics(cls, raw)

    @model_serializer
    def _written(self) -> dict[str, object]:
        return {
            "seed": self.seed,
            "fold": self.fold,
            **({HELD_OUT: self.held_out} if self.held_out else {}),
            **self.metrics,
            "n_slides": self.n_slides,
            "tile_auroc": self.tile_auroc,
            "hottest_tile_rate": self.hottest_tile_rate,
            "attention_entropy_share": self.attention_entropy_share,
        }


class CalibrationMetrics(Section):
    """Temperature and threshold over the runs, and the calibration of the slides."""

    note: str = ""  # which heads are not calibrated, and why; empty: all are
    temperature: Spread
    threshold: Spread
    before: CalibrationErrors
    after: CalibrationErrors
    reliability: list[ReliabilityBin]


class Jaccard(Section):
    """Overlap of the tiles that two seeds select, mean over pairs."""

    mean: float
    n_pairs: int


class SelectionMetrics(Section):
    """How good the tiles are that a head selects; see `mil.evaluate.selection`."""

    runs: list[dict[str, Number]]
    over_runs: dict[str, Spread]
    jaccard_over_seeds: Jaccard | None
    per_slide: dict[str, dict[str, float]]


class Metrics(Section):
    """What metrics.json holds: one recipe on one encoder."""

    recipe: str
    encoder: str
    dataset: str
    task: str
    classes: list[str]
    positive: str
    predicted_by: str = ""  # heads whose mean is a slide's prediction: `ensemble of 5 heads`
    # A slide's prediction is the mean over the heads that did not train on it.
    test: SetMetrics
    # early: a slide in this file is a patient, all slides of one in one bag.
    fusion: Fusion = "late"
    test_patients: SetMetrics
    last: SetMetrics | None = None  # of the weights of the last epoch
    runs: list[RunMetrics]
    over_runs: dict[str, Spread]
    calibration: CalibrationMetrics | None = None
    subgroups: dict[str, dict[str, SetMetrics]] = Field({})  # by column and value
    power: PowerNote | None = None
    localisation: Localisation | None = None
    annotations: list[str] = Field([])  # notes on annotations that do not count
    # By kind of map: attention, alone, effect, rollout; only kinds that could be measured.
    maps: dict[str, MapMetrics] = Field({})
    lesions: Lesions | None = None  # of the test slides, that FROC is of
    # Of heads whose effects of tiles are estimates.
    evidence_checks: list[EvidenceCheck] = Field([])
    # Of the ensemble's attention on each test slide; 1: uniform.
    attention_entropy_share: dict[str, float] = Field({})
    selection: SelectionMetrics | None = None
    # Where branches were left out one at a time; None: not asked for, or heads have none.
    branches: BranchesOfRecipe | None = None
    slides_used: list[str] = Field([])

    @property
    def name(self) -> str:
        """Recipe and encoder, as tables name them."""
        return f"{self.recipe} · {self.encoder}"

    @property
    def named_finding(self) -> str:
        """What attention does not find, after the name; empty where there is nothing to say."""
        finding = "" if self.localisation is None else self.localisation.finding
        return f"{self.name}: {finding}" if finding else ""

    @property
    def cross_validated(self) -> bool:
        """Whether folds have test slides of their own.

        Where the slide table names the test slides, they are those of every fold.
        """
        return any(run.n_slides < self.test.n_slides for run in self.runs)

    def range_over_runs(self, name: str) -> list[float] | None:
        """Smallest and largest value of a metric of single runs; None: in fewer than two."""
        values = [run.numbers.get(name) for run in self.runs]
        known = [value for value in values if value is not None]
        return [min(known), max(known)] if len(known) > 1 else None

    def to_json(self) -> dict[str, JsonValue]:
        """The file's content."""
        return self.model_dump()


class ComparedHead(Section):
    """One recipe on one encoder in a comparison."""

    recipe: str
    encoder: str
    seeds: int
    folds: int
    slides: dict[str, Metric | None]
    patients: dict[str, Metric | None]
    over_runs: dict[str, Spread | None]
    range_over_runs: dict[str, list[float] | None] = Field({})
    predicted_by: str = ""  # see `Metrics`
    localisation: Localisation | None = None
    annotations: list[str] = Field([])  # notes on annotations that do not count

    @property
    def name(self) -> str:
        """Recipe and encoder, as pairs name them."""
        return f"{self.recipe} · {self.encoder}"


class Pair(Section):
    """Paired test of two heads."""

    one: str
    other: str
    difference: float  # of the main metric: `one` less `other`
    # None, as is p: nothing varies between the heads on these slides.
    ci95: tuple[float, float] | None
    p: float | None
    p_holm: float | None  # corrected for the number of pairs
    smallest_difference: float | None  # that these slides would show with power 0.8

    @model_serializer
    def _written(self) -> dict[str, object]:
        written: dict[str, object] = dict(self)
        written["ci95"] = None if self.ci95 is None else list(self.ci95)
        return written


class PairedTests(Section):
    """Paired tests of all heads."""

    metric: str
    method: str | None  # None: not tested
    why_not: str
    pairs: list[Pair]


class AgainstBaseline(Section):
    """The best head on one encoder and the baseline on the same."""

    encoder: str
    recipe: str
    difference: float  # of the main metric: that head less the baseline
    ci95: tuple[float, float] | None
    p_holm: float | None  # corrected for the number of all pairs
    # Of the head. Only what interval and corrected p both show.
    shown: Literal["better", "worse", "neither"]

    @model_serializer
    def _written(self) -> dict[str, object]:
        written: dict[str, object] = dict(self)
        written["ci95"] = None if self.ci95 is None else list(self.ci95)
        return written


class Table(Section):
    """A table as people read it."""

    header: list[str]
    rows: list[list[str]]


class Comparison(Section):
    """What comparison.json holds."""

    dataset: str
    task: str
    positive: str
    n_slides: int
    n_patients: int
    metrics: list[str]  # columns of the table of heads; heads are tested by the first
    rows: list[ComparedHead]
    tests: PairedTests
    notes: list[str]
    tables: dict[str, Table]  # `heads`, and `pairs` where any were tested
    baseline: str = ""  # recipe that the heads are compared with; empty: none
    against: list[AgainstBaseline] = Field([])  # by encoder
    statements: list[str] = Field([])  # sentences: whether heads are better than the baseline

    def to_json(self) -> dict[str, JsonValue]:
        """The file's content."""
        content = self.model_dump()
        # As before there were baselines.
        for name in () if self.baseline else ("baseline", "against", "statements"):
            del content[name]
        return content


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
        metrics = _read(folder / METRICS, Metrics)
        return Evaluation(metrics, read_predictions(folder / PREDICTIONS))
    except (OSError, ValueError, RecursionError, FormatError) as error:
        raise FormatError(
            f"{folder}: no predictions.csv and metrics.json of `mil evaluate` "
            f"({_reason(error)}); run it again"
        ) from None


def _read_as(content: str, path: Path, model: type[Model]) -> Model:
    """Read a JSON file, or refuse it in one line that names the content expected."""
    try:
        return _read(path, model)
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: no {content} ({_reason(error)}); run it again") from None


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write metrics.json."""
    write_json(path, metrics.to_json())


def read_metrics(path: Path) -> Metrics:
    """Read metrics.json.

    Raises:
        FormatError: It is missing, or is not what this version of `mil evaluate` writes.
    """
    return _read_as("metrics.json of `mil evaluate`", path, Metrics)


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write comparison.json."""
    write_json(path, comparison.to_json())


def read_comparison(path: Path) -> Comparison:
    """Read comparison.json.

    Raises:
        FormatError: It is missing, or is not what this version of `mil compare` writes.
    """
    return _read_as("comparison.json of `mil compare`", path, Comparison)


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


@contextmanager
def using_results(*paths: Path) -> Iterator[None]:
    """One line for results that pass every check of their own and still contradict another.

    Such files were edited, or are of different runs: a class that predictions lack, a metric
    of another kind. The error that they caused stays as the cause.

    Args:
        paths: Files or folders that the block computes with.

    Raises:
        FormatError: The block raised an error that names no fault of its own.
    """
    try:
        yield
    except (MilError, OSError):
        raise
    except Exception as error:
        where = ", ".join(map(str, dict.fromkeys(paths)))
        fault = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        raise FormatError(
            f"{where}: cannot be used together ({fault}); if one was edited or is of another run, "
            "run `mil evaluate` and `mil compare` again, else this is a fault of mil: please "
            "report it"
        ) from error


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
        predictions={name: _finite(row[name]) for name in columns},
        recipe=row["recipe"],
        encoder=row["encoder"],
        seed=int(row["seed"]),
        fold=int(row["fold"]),
        temperature=_finite(row.get("temperature") or "1"),
        threshold=_finite(threshold) if threshold else None,
        held_out=row.get(HELD_OUT, ""),
        n_slides=int(n_slides) if n_slides else None,
    )


def _with_metrics(model: type[Section], raw: object) -> object:
    """Content of a file with its metrics in a mapping of their own.

    In the files, metrics stand beside the other keys.
    """
    if not isinstance(raw, Mapping) or "metrics" in raw:
        return raw
    others = {key: value for key, value in raw.items() if key in model.model_fields}
    metrics = {key: value for key, value in raw.items() if key not in model.model_fields}
    return {**others, "metrics": metrics}


def _read(path: Path, model: type[Model]) -> Model:
    text = path.read_text(encoding="utf-8")
    # JSON has no infinite numbers and no halves of characters, but Python's reader takes both.
    content = json.loads(text, parse_float=_finite, parse_constant=_finite)
    json.dumps(content, ensure_ascii=False).encode()
    return model.model_validate(content)


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:20]!r} is not a finite number")
    return number


def _reason(error: Exception) -> str:
    """One line about why a file cannot be used; of several faults the first."""
    if not isinstance(error, ValidationError):
        return brief(error)
    fault = error.errors()[0]
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{place!r} is missing"
    return f"{place}: {fault['msg']}"
