"""What a test set of a size could show at all: two-sided alpha 0.05, power 0.8, normal approximation."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

from mil.statistics.delong import delong
from mil.statistics.metric import PowerNote

ALPHA = 0.05
POWER = 0.8
CORRELATION = 0.5  # of two heads' errors on the same slides, where it is not known
_Z = NormalDist().inv_cdf(1 - ALPHA / 2), NormalDist().inv_cdf(POWER)


def smallest_difference(error: float) -> float:
    """Smallest true difference of two AUROCs that DeLong's paired test would show: (z_0.975 + z_0.8) · SE.

    Args:
        error: standard error of the difference, from DeLong's covariance of the two on
            these slides.
    """
    return sum(_Z) * error


def smallest_difference_before(error: float, correlation: float = CORRELATION) -> float:
    """The same before there is a second head: one as good, whose AUROC's error correlates so with the first's.

    Args:
        error: standard error of the first AUROC.
        correlation: of the two errors; heads on the same slides agree, so that it is
            well above 0.
    """
    return smallest_difference(error * sqrt(2 * (1 - correlation)))


def hanley_mcneil(auroc: float, positives: int, negatives: int) -> float:
    """Standard error of an AUROC (Hanley and McNeil 1982, Radiology 143:29), scores taken as exponential."""
    both_positive = auroc / (2 - auroc)
    both_negative = 2 * auroc**2 / (1 + auroc)
    above = (
        auroc * (1 - auroc)
        + (positives - 1) * (both_positive - auroc**2)
        + (negatives - 1) * (both_negative - auroc**2)
    )
    return sqrt(above / (positives * negatives))


def smallest_auroc(positives: int, negatives: int) -> float | None:
    """Smallest true AUROC that such a set would tell from 0.5; None where not even 1 would do.

    The A for which A - 0.5 = z_0.975 · SE(0.5) + z_0.8 · SE(A), SE of Hanley and
    McNeil.
    """
    if positives < 1 or negatives < 1:
        return None
    by_chance = _Z[0] * hanley_mcneil(0.5, positives, negatives)

    def short(auroc: float) -> bool:
        return auroc - 0.5 < by_chance + _Z[1] * hanley_mcneil(auroc, positives, negatives)

    if short(1.0):
        return None
    low = 0.5
    high = 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if short(middle) else (low, middle)
    return high


def power_note(
    positive: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"], patients: Sequence[str]
) -> PowerNote | None:
    """What these slides could show, before there is a second head.

    Returns:
        `smallest_auroc`, told from 0.5; `smallest_difference` to a second head's AUROC,
        errors correlated by `correlation` (None at an AUROC of 1, whose error is not
        known); `alpha`, `power`, and how many patients have a positive and a negative
        slide. None where there are not two of each.
    """
    try:
        areas = delong(positive, scores[None], patients)
    except ValueError:
        return None
    error = float(areas.covariance[0, 0]) ** 0.5
    # Without an error (an AUROC of 0 or 1) these slides do not show how far it varies.
    difference = smallest_difference_before(error, CORRELATION) if error > 1e-9 else None
    return PowerNote(
        alpha=ALPHA,
        power=POWER,
        patients_positive=areas.positives,
        patients_negative=areas.negatives,
        smallest_auroc=smallest_auroc(areas.positives, areas.negatives),
        smallest_difference=difference,
        correlation=CORRELATION,
    )
