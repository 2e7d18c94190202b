"""Rows of predictions.csv of new slides: one for each slide, whatever its status."""

from collections.abc import Sequence

import numpy as np

from mil.evaluate.rows import mean_of_all
from mil.predict.ensemble import Ensemble
from mil.predict.result import SlidePrediction
from mil.trained.record import threshold_of

SPREAD = ("sd", "min", "max")
Row = dict[str, str | int]


def row_of(prediction: SlidePrediction, ensemble: Ensemble) -> Row:
    """Row of one slide.

    Predictions are the mean over the heads; `sd_`, `min_` and `max_` are the sample
    standard deviation (empty for a single head) and the range over the heads.
    Temperature and threshold are the heads' means. A slide without predictions has
    empty cells.

    Args:
        prediction: Predictions of the slide by each head, and its status.
        ensemble: Heads that predicted.
    """
    task = ensemble.trained.task
    columns = list(task.columns)
    # `sd_tumour` of `p_tumour`.
    names = [column.removeprefix("p_") for column in columns]
    spread_columns = [f"{kind}_{name}" for name in names for kind in SPREAD]
    row: Row = {
        "slide": prediction.slide,
        "state": prediction.state,
        "reason": prediction.reason,
        "tiles": prediction.tiles,
        "heads": len(prediction.predictions),
    }
    if not prediction.predictions:
        # Every row has the same columns, whatever the state of its slide: a csv has one
        # header.
        return row | dict.fromkeys(
            [*columns, *spread_columns, "temperature", "threshold", "called"], ""
        )
    by_head = np.stack(prediction.predictions)  # [heads, columns]
    mean = by_head.mean(0)
    threshold = threshold_of(ensemble.records)
    row |= {column: _number(value) for column, value in zip(columns, mean, strict=True)}
    row |= dict(zip(spread_columns, _spread(by_head), strict=True))
    row |= {
        "temperature": _number(_mean_temperature(ensemble)),
        "threshold": _number(threshold),
        "called": task.predicted_class(mean, threshold),
    }
    return row


def _spread(by_head: np.ndarray) -> list[str]:
    """Standard deviation, minimum and maximum of each column."""
    # A single head has no deviation: an empty cell, not 0.
    sds: Sequence[float | None] = [None] * by_head.shape[1]
    if len(by_head) > 1:
        sds = by_head.std(0, ddof=1)
    cells = []
    for sd, low, high in zip(sds, by_head.min(0), by_head.max(0), strict=True):
        cells += [_number(sd), _number(low), _number(high)]
    return cells


def _number(value: float | None) -> str:
    # Nine digits tell any two float32 apart.
    return "" if value is None else f"{value:.9g}"


def _mean_temperature(ensemble: Ensemble) -> float | None:
    """Mean temperature of the heads; None where a head has no calibration."""
    calibrations = [trained.calibration for trained in ensemble.records]
    return mean_of_all([None if one is None else one.temperature for one in calibrations])
