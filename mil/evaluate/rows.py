"""Predictions taken apart by run, averaged, and as arrays."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int

from mil.io.results import Prediction
from mil.statistics.metric import Spread
from mil.statistics.threshold import DEFAULT_THRESHOLD
from mil.tasks import EvaluationSet, Task


class Selected(NamedTuple):
    """One slide's selection by one head."""

    # Rows of the valid tiles.
    tiles: Int[np.ndarray, " selected"]
    # Number of valid tiles.
    of: int
    # Probabilities from all tiles, from as many as selected drawn at random, and from
    # those not selected (None: there are none).
    full: Float[np.ndarray, " classes"]
    random: Float[np.ndarray, "draws classes"]
    rest: Float[np.ndarray, " classes"] | None
    # Precision, recall and prevalence of annotated tiles; None: not known.
    annotated: dict[str, float] | None


@dataclass(frozen=True)
class EvaluatedSlide(Prediction):
    """Prediction of a slide and, of a test slide, what its metrics need besides."""

    tile_auroc: float | None = None  # None: nothing is annotated
    hottest_tile_hit: float | None = None  # None where the tile AUROC is
    attention_entropy_share: float | None = None  # None: a bag of one tile
    selection: Selected | None = None  # None: the head selects no tiles
    # Predictions without calibration, by column; None: the head has none.
    uncalibrated: Mapping[str, float] | None = None


class AttendedSlide(NamedTuple):
    """A test slide under the ensemble's attention, the mean over heads that held it out."""

    slide: str
    patient: str
    label: str
    heads: int
    entropy_share: float | None  # None: a bag of one tile
    tile_auroc: float | None  # None: nothing is annotated, or everything
    # 1 or 0, and the probability of 1 by chance; None where the tile AUROC is.
    hottest_tile_hit: float | None
    by_chance: float | None


# Functions below give back the kind of row that they were given.
Row = TypeVar("Row", bound=Prediction)


def by_run(rows: Iterable[Row]) -> dict[tuple[int, int], list[Row]]:
    """Rows of each seed and fold, in their order."""
    runs: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        runs.setdefault((row.seed, row.fold), []).append(row)
    return dict(sorted(runs.items()))


def averaged(rows: Iterable[Row], key: Literal["slide", "patient"]) -> list[Row]:
    """One row for each slide or patient: the first, with mean predictions and threshold.

    Args:
        rows: Predictions by several heads or of several slides.
        key: What is averaged over: heads of a slide, or slides of a patient.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.slide if key == "slide" else row.patient, []).append(row)
    return [_mean_row(group) for group in groups.values()]


def _mean_row(group: Sequence[Row]) -> Row:
    means = {
        name: float(np.mean([row.predictions[name] for row in group]))
        for name in group[0].predictions
    }
    # A mean over only the heads that have a threshold would be applied to the
    # predictions of all.
    threshold = mean_of_all([row.threshold for row in group])
    return replace(group[0], predictions=means, threshold=threshold)


def evaluation_set(rows: Sequence[Prediction], task: Task) -> EvaluationSet:
    """Rows as the metrics of their task take them; there is at least one."""
    return EvaluationSet(
        np.stack([task.target(row.label) for row in rows]),
        np.array([[row.predictions[name] for name in task.columns] for row in rows]),
        [row.patient for row in rows],
        thresholds_of(rows),
    )


def thresholds_of(rows: Sequence[Prediction]) -> Float[np.ndarray, " rows"]:
    """Threshold of each row; 0.5 where validation slides chose none."""
    return np.array([DEFAULT_THRESHOLD if row.threshold is None else row.threshold for row in rows])


def labels_of(rows: Sequence[Prediction], classes: Sequence[str]) -> Int[np.ndarray, " rows"]:
    """Labels as class numbers."""
    return np.array([classes.index(row.label) for row in rows])


def probabilities_of(
    rows: Sequence[Prediction], classes: Sequence[str]
) -> Float[np.ndarray, "rows classes"]:
    """Predicted probabilities."""
    return np.array([[row.predictions[f"p_{name}"] for name in classes] for row in rows])


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """Mean; None if any value is None."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None if all are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def mean_sd(values: Iterable[float | None]) -> Spread:
    """Mean and sample standard deviation of the values that are not None."""
    known = [value for value in values if value is not None]
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Spread(mean=mean(known), sd=sd)
