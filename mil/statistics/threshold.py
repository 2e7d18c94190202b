"""Threshold of a positive prediction, from validation slides."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mil.statistics.arrays import Labels, Numbers
from mil.statistics.normal import expit, logit

DEFAULT_THRESHOLD = 0.5
ROUNDING = 1e-12  # gains that differ by less are equal
TINY = 1e-12
# Number of slides, half of them positive, at which a threshold lies midway between 0.5
# and Youden's, in log odds. A simulation chose it: see docs/explain/statistics.md.
MIDWAY = 20


def validation_threshold(positive: Labels, scores: Numbers) -> float:
    """Youden's threshold, drawn towards 0.5 the more the fewer slides there are.

    Its log odds are those of `youden_threshold` times m / (m + 20), where m is twice
    the harmonic mean of the numbers of positive and negative slides: all slides where
    half of them are positive.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        scores: Probability of the positive class, of validation slides.

    Returns:
        The threshold; 0.5 where `youden_threshold` cannot choose.
    """
    best = youden_threshold(positive, scores)
    if best == DEFAULT_THRESHOLD:
        return best
    positives = int(positive.sum())
    count = 4 * positives * (len(positive) - positives) / len(positive)
    # Between probabilities that are rounded to 0 or 1, log odds would be infinite.
    log_odds = logit(min(max(best, TINY), 1 - TINY))
    return expit(log_odds * count / (count + MIDWAY))


def mean_threshold(thresholds: Sequence[float | None]) -> float:
    """Threshold of the mean prediction of several heads.

    0.5 where a head has none: a mean over the others would be applied to predictions
    of all.
    """
    known = [threshold for threshold in thresholds if threshold is not None]
    return float(np.mean(known)) if known and len(known) == len(thresholds) else DEFAULT_THRESHOLD


def youden_threshold(positive: Labels, scores: Numbers) -> float:
    """Threshold with the largest sensitivity + specificity - 1.

    Youden 1950, Cancer 3:32; `score >= threshold` is positive. A threshold lies midway
    between neighbouring scores; of several equally good ones the nearest to 0.5 is
    taken.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        scores: Probability of the positive class, of validation slides.

    Returns:
        The threshold; 0.5 where it cannot be chosen: with one class only, or where no
        threshold is better than chance.
    """
    values = np.unique(scores)
    is_positive = positive.astype(bool)
    if is_positive.all() or not is_positive.any() or len(values) < 2:
        return DEFAULT_THRESHOLD
    thresholds = (values[1:] + values[:-1]) / 2
    specificity = _fraction_below(scores[~is_positive], thresholds)
    missed = _fraction_below(scores[is_positive], thresholds)
    gain = specificity - missed
    if not gain.max() > ROUNDING:
        return DEFAULT_THRESHOLD
    best = np.flatnonzero(gain >= gain.max() - ROUNDING)
    nearest = np.abs(thresholds[best] - DEFAULT_THRESHOLD).argmin()
    return float(thresholds[best[nearest]])


def _fraction_below(
    scores: Numbers, thresholds: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    return np.searchsorted(np.sort(scores), thresholds) / len(scores)
