"""Smallest effects that a test set could show.

Two-sided alpha 0.05, power 0.8, normal approximation.
"""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

from mil.statistics.arrays import Labels, Numbers
from mil.statistics.delong import delong
from mil.statistics.metric import PowerNote

ALPHA = 0.05
POWER = 0.8
CORRELATION = 0.5  # of two heads' errors on the same slides, where it is not known
Z_ALPHA = NormalDist().inv_cdf(1 - ALPHA / 2)
Z_POWER = NormalDist().inv_cdf(POWER)
BISECTIONS = 50  # halves 0.5..1 to 4e-16


def smallest_difference(error: float) -> float:
    """Smallest true difference of two AUROCs that DeLong's paired test would show.

    (z_0.975 + z_0.8) · SE.

    Args:
        error: Standard error of the difference, from DeLong's covariance of the two
            AUROCs on these slides.
    """
    return (Z_ALPHA + Z_POWER) * error


def smallest_difference_before(error: float, correlation: float = CORRELATION) -> float:
    """Smallest difference to a second head that does not exist yet.

    The second head is taken to be as good as the first, with correlated errors.

    Args:
        error: Standard error of the first AUROC.
        correlation: Correlation of the two errors; heads on the same slides agree, so
            that it is well above 0.
    """
    return smallest_difference(error * sqrt(2 * (1 - correlation)))


def hanley_mcneil(auroc: float, positives: int, negatives: int) -> float:
    """Standard error of an AUROC (Hanley and McNeil 1982, Radiology 143:29).

    Numbers are taken to be exponential.

    Args:
        auroc: The AUROC.
        positives: Number of positives.
        negatives: Number of negatives.
    """
    # Probability that two positives both score above a negative, and the reverse.
    both_positive = auroc / (2 - auroc)
    both_negative = 2 * auroc**2 / (1 + auroc)
    numerator = (
        auroc * (1 - auroc)
        + (positives - 1) * (both_positive - auroc**2)
        + (negatives - 1) * (both_negative - auroc**2)
    )
    return sqrt(numerator / (positives * negatives))


def smallest_auroc(positives: int, negatives: int) -> float | None:
    """Smallest true AUROC that such a set would tell from 0.5.

    The A for which A - 0.5 = z_0.975 · SE(0.5) + z_0.8 · SE(A), SE of Hanley and
    McNeil.

    Args:
        positives: Number of positives.
        negatives: Number of negatives.

    Returns:
        The AUROC; None where not even 1 would do.
    """
    if positives < 1 or negatives < 1:
        return None
    by_chance = Z_ALPHA * hanley_mcneil(0.5, positives, negatives)

    def too_small(auroc: float) -> bool:
        return auroc - 0.5 < by_chance + Z_POWER * hanley_mcneil(auroc, positives, negatives)

    if too_small(1.0):
        return None
    low = 0.5
    high = 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if too_small(middle):
            low = middle
        else:
            high = middle
    return high


def power_note(positive: Labels, scores: Numbers, patients: Sequence[str]) -> PowerNote | None:
    """Smallest AUROC and difference that these slides could show.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        scores: Numbers of one head, larger for the positive class.
        patients: Patient of each slide.

    Returns:
        The note, whose `smallest_difference` is None at an AUROC of 0 or 1; None where
        there are not two patients with a positive and two with a negative slide.
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
