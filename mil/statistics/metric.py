"""A metric of a set of slides, and the notes that stand beside metrics."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import model_serializer

from mil.config import Section

Ends = tuple[float, float]  # low and high end of an interval


class Metric(Section):
    """A metric with its 95 % interval."""

    value: float | None  # None: the slides do not allow it, such as an AUROC of one class
    ci95: Ends | None = None  # None: it has no interval, or the slides do not allow one
    # Range of values that perfectly calibrated probabilities would give on the same
    # number of slides, 95 %; of the calibration error, which has no interval.
    if_calibrated: Ends | None = None

    @model_serializer
    def _to_json(self) -> dict[str, float | list[float] | None]:
        written = {"value": self.value, "ci95": None if self.ci95 is None else list(self.ci95)}
        if self.if_calibrated is not None:
            written["if_calibrated"] = list(self.if_calibrated)
        return written


class Spread(Section):
    """Mean and sample standard deviation over training runs; None where not known."""

    mean: float | None
    sd: float | None


class Confusion(Section):
    """How often slides of each class (row) were predicted as each class (column)."""

    classes: list[str]
    table: list[list[int]]


class MetricsOfSet(NamedTuple):
    """Metrics of a set of slides or patients."""

    metrics: dict[str, Metric]  # in the order in which tables show them
    n_patients: int
    confusion: Confusion | None = None


class PowerNote(Section):
    """What a test set could show: two-sided test at `alpha` with power `power`."""

    alpha: float
    power: float
    patients_positive: int
    patients_negative: int
    smallest_auroc: float | None  # told from 0.5
    # To a second head's AUROC, if its errors correlate by `correlation` with the first's.
    smallest_difference: float | None
    correlation: float


class CalibrationErrors(Section):
    """How far probabilities are from observed frequencies."""

    brier: float
    ece: float


class ReliabilityBin(Section):
    """Slides whose probability lies in one bin of a reliability diagram."""

    low: float
    high: float
    n: int
    said: float  # mean probability
    found: float  # observed frequency


class CalibrationNote(NamedTuple):
    """Errors of the same slides before and after calibration."""

    before: CalibrationErrors
    after: CalibrationErrors
    reliability: Sequence[ReliabilityBin]  # after
