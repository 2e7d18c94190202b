"""How well scores rank positives above the rest: AUROC and average precision, plain and weighted."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Ranking = Callable[
    [Int[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, "draws n"]],
    Float[np.ndarray, " draws"],
]


def auroc(positive: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float | None:
    """Area under the ROC curve, ties counted half (Mann-Whitney); None with a single class.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        scores: larger speaks for the positive class; of any scale.
    """
    return known(weighted_auroc(positive, scores, np.ones((1, len(scores))))[0])


def auprc(positive: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float | None:
    """Average precision: precision at each score weighted by the recall it adds, no interpolation; None with one class.

    By chance it is the share of positives, not a half. A set of positives alone would
    give 1 whatever the scores.
    """
    return known(weighted_auprc(positive, scores, np.ones((1, len(scores))))[0])


def weighted_auroc(
    positive: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """AUROC of a sample in which each row occurs `weights` times; NaN where a class does not occur."""
    hits, misses = _by_score(positive, scores, weights)
    below = misses.cumsum(1) - misses / 2
    return _ratio((hits * below).sum(1), hits.sum(1) * misses.sum(1))


def weighted_auprc(
    positive: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """Average precision of a sample in which each row occurs `weights` times; NaN where a class does not occur."""
    hits, misses = (counts[:, ::-1] for counts in _by_score(positive, scores, weights))
    found = hits.cumsum(1)
    precision = np.nan_to_num(_ratio(found, found + misses.cumsum(1)))
    return np.where(misses.sum(1) > 0, _ratio((hits * precision).sum(1), hits.sum(1)), np.nan)


def one_vs_rest(
    metric: Ranking,
    labels: Int[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    weights: Float[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """A ranking metric of each class against the rest, plain mean over the classes that occur (macro)."""
    columns = range(probabilities.shape[1])
    each = np.stack(
        [metric((labels == c).astype(int), probabilities[:, c], weights) for c in columns]
    )
    there = np.isfinite(each)
    return _ratio(np.where(there, each, 0).sum(0), there.sum(0))


def mid_ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks from 1; equal values share the mean of theirs.

    Equal to scipy.stats.rankdata, whose import would take longer than drawing a
    heatmap.
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[group]


def known(value: float) -> float | None:
    """The value as JSON has it: None for NaN."""
    return float(value) if np.isfinite(value) else None


def _by_score(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[Float[np.ndarray, "draws scores"], Float[np.ndarray, "draws scores"]]:
    """Weight of positives and of the rest at each score, smallest score first."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))
    sorted_weights = weights[:, order]
    is_positive = positive[order].astype(bool)
    return (
        np.add.reduceat(sorted_weights * is_positive, starts, axis=1),
        np.add.reduceat(sorted_weights * ~is_positive, starts, axis=1),
    )


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
