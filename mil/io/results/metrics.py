"""metrics.json: one recipe on one encoder."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, JsonValue, model_serializer, model_validator

from mil.config import Fusion, Section
from mil.io.atomic import write_json
from mil.io.bags.patients import HELD_OUT
from mil.io.branch_metrics import BranchesOfRecipe
from mil.io.localisation import Localisation
from mil.io.map_metrics import EvidenceCheck, Lesions, MapMetrics
from mil.io.results.json_file import read_as
from mil.statistics.metric import (
    CalibrationErrors,
    Confusion,
    Metric,
    MetricsOfSet,
    PowerNote,
    ReliabilityBin,
    Spread,
)

Number = int | float | None


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


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write metrics.json."""
    write_json(path, metrics.to_json())


def read_metrics(path: Path) -> Metrics:
    """Read metrics.json.

    Raises:
        FormatError: It is missing, or is not what this version of `mil evaluate` writes.
    """
    return read_as("metrics.json of `mil evaluate`", path, Metrics)


def _with_metrics(model: type[Section], raw: object) -> object:
    """Content of a file with its metrics in a mapping of their own.

    In the files, metrics stand beside the other keys.
    """
    if not isinstance(raw, Mapping) or "metrics" in raw:
        return raw
    others = {key: value for key, value in raw.items() if key in model.model_fields}
    metrics = {key: value for key, value in raw.items() if key not in model.model_fields}
    return {**others, "metrics": metrics}
