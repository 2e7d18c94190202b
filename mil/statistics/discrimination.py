"""Ranking metrics: AUROC and average precision, plain and of weighted samples."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mil.statistics.arrays import Draws, Labels, Numbers, Probabilities, Weights

Ranking = Callable[
    [Labels, Numbers, Weights],
    Draws,
]


def auroc(positive: Labels, scores: Numbers) -> float | None:
    """Area under the ROC curve; ties count one half (Mann-Whitney).

    Args:
        positive: 1 for the positive class, 0 for the rest.
        scores: Numbers of any scale, larger for the positive class.

    Returns:
        The area; None with a single class.
    """
    return known(weighted_auroc(positive, scores, np.ones((1, len(scores))))[0])


def auprc(positive: Labels, scores: Numbers) -> float | None:
    """Average precision: precision at each score, weighted by the recall it adds.

    Nothing is interpolated. By chance it is the fraction of positives, not one half. A
    set of positives alone would give 1 whatever the scores.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        scores: Numbers of any scale, larger for the positive class.

    Returns:
        The average precision; None with a single class.
    """
    return known(weighted_auprc(positive, scores, np.ones((1, len(scores))))[0])


def weighted_auroc(
    positive: Labels,
    scores: Numbers,
    weights: Weights,
) -> Draws:
    """AUROC of samples in which each row occurs `weights` times; NaN with one class."""
    positives, negatives = by_score(positive, scores, weights)
    # Negatives below each score, and half of those at it.
    below = negatives.cumsum(1) - negatives / 2
    return _ratio((positives * below).sum(1), positives.sum(1) * negatives.sum(1))


def weighted_auprc(
    positive: Labels,
    scores: Numbers,
    weights: Weights,
) -> Draws:
    """Average precision of samples with rows `weights` times; NaN with one class."""
    positives, negatives = by_score(positive, scores, weights)
    # Precision and recall count from the largest score down.
    positives = positives[:, ::-1]
    negatives = negatives[:, ::-1]
    hits = positives.cumsum(1)
    precision = np.nan_to_num(_ratio(hits, hits + negatives.cumsum(1)))
    average = _ratio((positives * precision).sum(1), positives.sum(1))
    return np.where(negatives.sum(1) > 0, average, np.nan)


def one_vs_rest(
    metric: Ranking,
    labels: Labels,
    probabilities: Probabilities,
    weights: Weights,
) -> Draws:
    """Macro mean of a ranking metric of each class against the rest.

    Args:
        metric: Ranking metric of weighted samples.
        labels: Class numbers.
        probabilities: Probability of each class.
        weights: Number of times that each row occurs, for each sample.

    Returns:
        Mean over the classes that occur in a sample; NaN where none does.
    """
    values = np.stack(
        [
            metric((labels == number).astype(int), probabilities[:, number], weights)
            for number in range(probabilities.shape[1])
        ]
    )
    finite = np.isfinite(values)
    return _ratio(np.where(finite, values, 0).sum(0), finite.sum(0))


def mid_ranks(values: Numbers) -> Numbers:
    """Ranks from 1; equal values share the mean of their ranks.

    Equal to scipy.stats.rankdata, whose import would take longer than drawing a
    heatmap.
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[group]


def percentiles_within(values: Numbers) -> Numbers:
    """Percentile of each value among all of them, 0 to 100; those that tie share the mean."""
    # Less a half, so that the scale is symmetric: values that all tie are at 50.
    return (mid_ranks(values) - 0.5) / len(values) * 100


def known(value: float) -> float | None:
    """The value as JSON has it: None for NaN."""
    return float(value) if np.isfinite(value) else None


def by_score(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[Float[np.ndarray, "draws scores"], Float[np.ndarray, "draws scores"]]:
    """Weight of positives and of negatives at each score, smallest score first."""
    # Rows with equal scores are summed first, so that ties need no further care.
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))
    ordered_weights = weights[:, order]
    is_positive = positive[order].astype(bool)
    positives = np.add.reduceat(ordered_weights * is_positive, starts, axis=1)
    negatives = np.add.reduceat(ordered_weights * ~is_positive, starts, axis=1)
    return positives, negatives


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    undefined = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
