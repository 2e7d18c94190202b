"""Metrics with intervals from resampled patients, each on the scale that suits it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from mil.statistics.arrays import Draws, Weights
from mil.statistics.bootstrap import RESAMPLES, interval, members, resampled
from mil.statistics.discrimination import known
from mil.statistics.intervals import Interval
from mil.statistics.metric import Metric, MetricsOfSet
from mil.statistics.normal import t_quantile

# Range of a metric, which decides the scale on which its interval is symmetric:
# 0..1, -1..1, 0 and up, 1 and down, or any number.
Scale = Literal["share", "signed", "positive", "below_one", "any"]
# Weights of the slides in each resample [draws, n] -> metrics by name
WeightedMetrics = Callable[[Weights], Mapping[str, Draws]]
# exp(700) is close to the largest double.
LARGEST_EXPONENT = 700.0


def metrics_of(weighted: WeightedMetrics, n: int) -> dict[str, float | None]:
    """Metrics of n slides without intervals; None for what the slides do not allow."""
    once = np.ones((1, n))
    return {name: known(values[0]) for name, values in weighted(once).items()}


def with_intervals(
    weighted: WeightedMetrics,
    patients: Sequence[str],
    scales: Mapping[str, Scale],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> MetricsOfSet:
    """Metrics with 95 % intervals from resampled patients.

    The t interval is on the scale of log odds for shares, of log odds of the share of
    the range (Fisher's z) for what lies in -1..1, of the logarithm for errors, of
    the logarithm of 1 - R² for R², and on its own scale for what has no bounds.

    Args:
        weighted: Metrics of samples in which each slide occurs `weights` times.
        patients: Patient of each slide.
        scales: Scale of each metric; `share` for those left out.
        seed: Random seed of the resamples.
        resamples: Number of resamples.
    """
    member = members(patients)
    count = int(member.max()) + 1
    drawn = resampled(weighted, member, resamples=resamples, seed=seed)
    metrics = {}
    for name, value in metrics_of(weighted, len(patients)).items():
        ci95 = None
        if value is not None:
            ci95 = scaled_interval(scales.get(name, "share"), value, drawn[name], count)
        metrics[name] = Metric(value=value, ci95=ci95)
    return MetricsOfSet(metrics, count)


def scaled_interval(scale: Scale, value: float, drawn: Draws, patients: int) -> Interval | None:
    """95 % interval of a metric from its resamples; None where they do not allow one.

    Args:
        scale: Range of the metric.
        value: Metric of all slides.
        drawn: Metric of each resample.
        patients: Number of patients.
    """
    if scale == "signed":
        shifted = interval(value + 1, drawn + 1, patients, top=2.0)
        return None if shifted is None else (shifted[0] - 1, shifted[1] - 1)
    if scale == "below_one":
        rest = _above_zero(1 - value, 1 - drawn, patients)
        return None if rest is None else (1 - rest[1], 1 - rest[0])
    if scale == "positive":
        return _above_zero(value, drawn, patients)
    if scale == "any":
        return _unbounded(value, drawn, patients)
    return interval(value, drawn, patients)


def _unbounded(value: float, drawn: Draws, patients: int) -> Interval | None:
    """A t interval on the metric's own scale."""
    finite = drawn[np.isfinite(drawn)]
    if patients < 2 or len(finite) < 2:
        return None
    error = float(finite.std(ddof=1)) * (patients / (patients - 1)) ** 0.5
    half = t_quantile(patients - 1) * error
    return value - half, value + half


def _above_zero(value: float, drawn: Draws, patients: int) -> Interval | None:
    """`bootstrap.interval` on the scale of the logarithm; None where the value is 0."""
    finite = drawn[np.isfinite(drawn)]
    if patients < 2 or len(finite) < 2 or not value > 0:
        return None
    half = (
        t_quantile(patients - 1)
        * float(finite.std(ddof=1))
        * (patients / (patients - 1)) ** 0.5
        / value
    )
    return value * math.exp(-half), value * math.exp(min(half, LARGEST_EXPONENT))
