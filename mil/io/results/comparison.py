"""comparison.json: heads beside each other, with their paired tests."""

from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, model_serializer

from mil.config import Section
from mil.io.atomic import write_json
from mil.io.localisation import Localisation
from mil.io.results.json_file import read_as
from mil.statistics.metric import Metric, Spread

COMPARISON = "comparison.json"


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


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write comparison.json."""
    write_json(path, comparison.to_json())


def read_comparison(path: Path) -> Comparison:
    """Read comparison.json.

    Raises:
        FormatError: It is missing, or is not what this version of `mil compare` writes.
    """
    return read_as("comparison.json of `mil compare`", path, Comparison)
