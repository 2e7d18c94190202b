"""ROC and precision-recall curves of a set of slides, with bands from resampled patients."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mil.statistics.arrays import Labels, Members, Numbers, Weights
from mil.statistics.bootstrap import RESAMPLES, ROUNDING, weights
from mil.statistics.discrimination import by_score
from mil.statistics.intervals import wilson
from mil.statistics.normal import CI_Z, t_quantile

GRID = np.linspace(0, 1, 51)  # false positive rates, or recalls, of a band

Points = Float[np.ndarray, " points"]
# A row for each resample, a column for each distinct score or point of the grid.
Rows = Float[np.ndarray, "draws points"]
OneMore = Float[np.ndarray, "draws points+1"]
Heights = Float[np.ndarray, "draws grid"]
Grid = Float[np.ndarray, " grid"]


class Curve(NamedTuple):
    """Points of a curve from its left end to its right end, one for each distinct score."""

    x: Points
    y: Points


class Band(NamedTuple):
    """95 % interval of a curve's height at each of `x`, each point by itself."""

    x: Points
    low: Points
    high: Points


def roc_curve(positive: Labels, scores: Numbers) -> Curve:
    """False positive rate and sensitivity at each distinct score, from the largest down.

    Straight lines between the points enclose the AUROC in which ties count one half.

    Args:
        positive: 1 for the positive class, 0 for the rest; both must occur.
        scores: Numbers of any scale, larger for the positive class.
    """
    x, y = _roc(positive, scores, _once(scores))
    return Curve(x[0], y[0])


def precision_recall_curve(positive: Labels, scores: Numbers) -> Curve:
    """Recall and precision at each distinct score, from the largest down.

    Steps that hold each precision back to the recall before it enclose the average
    precision; nothing is interpolated. The first point is at recall 0.

    Args:
        positive: 1 for the positive class, 0 for the rest; both must occur.
        scores: Numbers of any scale, larger for the positive class.
    """
    x, y = _precision_recall(positive, scores, _once(scores))
    return Curve(x[0], y[0])


def roc_band(
    positive: Labels,
    scores: Numbers,
    member: Members,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Band | None:
    """Band of the sensitivity at each false positive rate of `GRID`; see `_band`.

    Args:
        positive: See `roc_curve`.
        scores: See `roc_curve`.
        member: Number of each slide's patient.
        seed: Random seed.
        resamples: Number of resamples.

    Returns:
        The band; None where one of the classes has fewer than two patients.
    """

    def height(sample: Weights) -> Rows:
        return _linear(*_roc(positive, scores, sample), GRID)

    counts = np.full(len(GRID), float(_patients_of(positive, member)))
    band = _band(height, positive, member, counts, seed, resamples)
    if band is None:
        return None
    # A sensitivity is at least that of each smaller false positive rate.
    low = np.maximum.accumulate(band.low)
    return Band(band.x, low, np.minimum.accumulate(band.high[::-1])[::-1])


def precision_recall_band(
    positive: Labels,
    scores: Numbers,
    member: Members,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Band | None:
    """Band of the precision at each recall of `GRID`; see `roc_band` and `_band`."""

    def height(sample: Weights) -> Rows:
        return _held_back(*_precision_recall(positive, scores, sample), GRID)

    # Precision at a recall is a share of about as many patients as are recalled.
    counts = np.maximum(1.0, GRID * _patients_of(positive, member))
    return _band(height, positive, member, counts, seed, resamples)


def _band(
    height: Callable[[Weights], Rows],
    positive: Labels,
    member: Members,
    counts: Points,
    seed: int,
    resamples: int,
) -> Band | None:
    """Wilson's interval of each height as a proportion of as many patients as it varies by.

    That number is height (1 - height) over the variance of the resamples, at most
    `counts`; it is divided by (t / 1.96)², t with the patients of the rarer class less
    1 degrees of freedom, because the variance is only estimated. Where the height is 0
    or 1, or no resample differs, it is `counts`. An interval on the scale of log odds
    would leap where a height nears 1.
    """
    rarer = min(_patients_of(positive, member), _patients_of(1 - positive, member))
    if rarer < 2:
        return None
    value = np.clip(height(_once(positive))[0], 0, 1)
    blocks = [height(block) for block in weights(member, resamples=resamples, seed=seed)]
    drawn = np.concatenate(blocks)
    # A resample without one of the classes has no curve.
    drawn = drawn[np.isfinite(drawn).all(1)]
    patients = int(member.max()) + 1
    variance = drawn.var(0, ddof=1) * patients / (patients - 1)
    estimated = (CI_Z / t_quantile(rarer - 1)) ** 2
    varies = (variance > ROUNDING) & (value > ROUNDING) & (value < 1 - ROUNDING)
    effective = estimated * value * (1 - value) / np.where(varies, variance, 1)
    n = np.where(varies, np.minimum(effective, counts), counts)
    ends = [wilson(float(share), float(number)) for share, number in zip(value, n, strict=True)]
    low, high = np.array(ends).T
    return Band(GRID, low, high)


def _roc(positive: Labels, scores: Numbers, sample: Weights) -> tuple[Rows, Rows]:
    """False positive rate and sensitivity of each sample, from (0, 0)."""
    hits, misses = _from_the_top(positive, scores, sample)
    return _with_zero(_share(misses)), _with_zero(_share(hits))


def _precision_recall(positive: Labels, scores: Numbers, sample: Weights) -> tuple[Rows, Rows]:
    """Recall and precision of each sample, from the first precision at recall 0."""
    hits, misses = _from_the_top(positive, scores, sample)
    called = hits + misses
    # Scores that a sample lacks, above its largest, hold no slide.
    precision = np.divide(hits, called, out=np.ones_like(hits), where=called > 0)
    return _with_zero(_share(hits)), np.concatenate([precision[:, :1], precision], 1)


def _from_the_top(positive: Labels, scores: Numbers, sample: Weights) -> tuple[Rows, Rows]:
    """Weight of positives and of negatives at or above each score, the largest first."""
    positives, negatives = by_score(positive, scores, sample)
    return positives[:, ::-1].cumsum(1), negatives[:, ::-1].cumsum(1)


def _share(cumulated: Rows) -> Rows:
    """Share of each row's last value; NaN where that is 0."""
    total = cumulated[:, -1:]
    undefined = np.full(cumulated.shape, np.nan)
    return np.divide(cumulated, total, out=undefined, where=total > 0)


def _with_zero(rows: Rows) -> OneMore:
    return np.concatenate([np.zeros((len(rows), 1)), rows], 1)


def _place(x: Rows, grid: Grid, side: Literal["left", "right"]) -> Int[np.ndarray, "draws grid"]:
    """Place of each point of the grid among each row of `x`, which rises from 0 to 1."""
    # One search over all rows: each row is moved to a range of its own.
    start = 2.0 * np.arange(len(x))[:, None]
    moved = np.where(np.isnan(x), 0.0, x) + start
    places = np.searchsorted(moved.ravel(), (grid + start).ravel(), side=side)
    return places.reshape(len(x), len(grid)) - np.arange(len(x))[:, None] * x.shape[1]


def _linear(x: Rows, y: Rows, grid: Grid) -> Heights:
    """Height of a line at each point of the grid; at a vertical part its upper end."""
    left = np.clip(_place(x, grid, "right") - 1, 0, x.shape[1] - 1)
    right = np.minimum(left + 1, x.shape[1] - 1)
    x_left = np.take_along_axis(x, left, 1)
    y_left = np.take_along_axis(y, left, 1)
    run = np.take_along_axis(x, right, 1) - x_left
    rise = np.take_along_axis(y, right, 1) - y_left
    share = np.divide(grid - x_left, run, out=np.zeros_like(run), where=run > 0)
    return y_left + np.clip(share, 0, 1) * rise + 0 * x[:, -1:]


def _held_back(x: Rows, y: Rows, grid: Grid) -> Heights:
    """Height of steps that hold each value back to the point before."""
    # Sums of weights over their total end at 1 but for rounding.
    place = np.minimum(_place(x, np.maximum(grid - ROUNDING, 0), "left"), x.shape[1] - 1)
    return np.take_along_axis(y, place, 1) + 0 * x[:, -1:]


def _patients_of(positive: Labels, member: Members) -> int:
    """Number of patients with a positive slide."""
    return len(np.unique(member[positive.astype(bool)]))


def _once(scores: np.ndarray) -> Weights:
    return np.ones((1, len(scores)))
