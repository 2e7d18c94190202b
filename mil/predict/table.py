"""predictions.csv: a row for each slide, whatever became of it."""

from typing import Any

import numpy as np

from mil.evaluate.rows import mean_of_all
from mil.predict.ensemble import Ensemble
from mil.predict.slide import SlidePrediction

SPREAD = ("sd", "min", "max")


def row_of(found: SlidePrediction, ensemble: Ensemble) -> dict[str, Any]:
    """A slide's row.

    Its answers are the mean over the heads, and `sd_`, `min_` and `max_` say how far
    apart those are (sample standard deviation, empty for a single head). Temperature
    and threshold are the heads' mean.
    """
    task = ensemble.trained.task
    named = {
        "slide": found.slide,
        "state": found.state,
        "reason": found.reason,
        "tiles": found.tiles,
    }
    columns = list(task.columns)
    spread = [f"{what}_{name.removeprefix('p_')}" for name in columns for what in SPREAD]
    if not found.predictions:
        return {
            **named,
            "heads": 0,
            **dict.fromkeys([*columns, *spread, "temperature", "threshold", "called"], ""),
        }
    answers = np.stack(found.predictions)
    mean = answers.mean(0)
    sd = answers.std(0, ddof=1) if len(answers) > 1 else [None] * len(mean)
    spread_values = [
        v for each in zip(sd, answers.min(0), answers.max(0), strict=True) for v in each
    ]
    temperature, threshold = _mean_calibration(ensemble)
    numbers = {
        **dict(zip(columns, mean, strict=True)),
        **dict(zip(spread, spread_values, strict=True)),
    }
    numbers |= {"temperature": temperature, "threshold": threshold}
    said = {name: "" if value is None else f"{value:.9g}" for name, value in numbers.items()}
    return {
        **named,
        "heads": len(answers),
        **said,
        "called": task.predicted_class(mean, threshold),
    }


def _mean_calibration(ensemble: Ensemble) -> tuple[float | None, float | None]:
    """Temperature and threshold, mean over the heads; None where a head has none."""
    each = [trained.calibration for _, trained in ensemble.models]
    temperatures = [None if one is None else one.temperature for one in each]
    thresholds = [None if one is None else one.threshold for one in each]
    return mean_of_all(temperatures), mean_of_all(thresholds)
