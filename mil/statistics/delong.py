"""DeLong's covariance of the AUROCs of several heads on the same slides."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.statistics.arrays import Labels
from mil.statistics.discrimination import mid_ranks
from mil.statistics.normal import CI_Z, two_sided_p

# Standard errors below this are rounding: nothing varies in the set.
ROUNDING = 1e-12


class Areas(NamedTuple):
    """AUROCs of k heads and the covariance of their errors."""

    auroc: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    positives: int  # patients with a positive slide
    negatives: int  # patients with a negative slide
    several: bool  # whether some patient has several slides


def delong(
    positive: Labels,
    scores: Float[np.ndarray, "k n"],
    patients: Sequence[str] | None = None,
) -> Areas:
    """AUROCs and their covariance by DeLong et al. (1988, Biometrics 44:837).

    Placements come from mid-ranks, Sun and Xu's way (2014, IEEE Signal Process. Lett.
    21:1389) to O(n log n). With `patients` the placements of a patient's slides are
    summed first (Obuchowski 1997, Biometrics 53:567); with one slide for each patient
    that is the same number.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        scores: Numbers of each head.
        patients: Patient of each slide; default: each slide is of its own patient.

    Raises:
        ValueError: There are not two patients with a positive slide and two with a
            negative one.
    """
    is_positive = positive.astype(bool)
    member = np.arange(len(positive))
    if patients is not None:
        member = np.unique(np.asarray(patients), return_inverse=True)[1]
    # Patients of the positive slides, and of the negative slides.
    groups = member[is_positive], member[~is_positive]
    positives = len(np.unique(groups[0]))
    negatives = len(np.unique(groups[1]))
    if min(positives, negatives) < 2:
        raise ValueError(
            "an AUROC's variance needs two patients with a positive slide and two with a "
            "negative one"
        )
    placements = [_placements(is_positive, row) for row in scores]
    areas = np.array([above.mean() for above, _ in placements])
    n_patients = member.max() + 1
    sums = []
    for side, group in enumerate(groups):
        centred = [pair[side] - area for pair, area in zip(placements, areas, strict=True)]
        sums.append(np.stack([np.bincount(group, row, minlength=n_patients) for row in centred]))
    of_positives = _covariance_of(sums[0], positives, len(groups[0]))
    of_negatives = _covariance_of(sums[1], negatives, len(groups[1]))
    # A patient with slides of both classes makes the two sides vary together.
    present = len(np.unique(member))
    correction = present / (present - 1)
    across = correction * (sums[0] @ sums[1].T) / (len(groups[0]) * len(groups[1]))
    covariance = of_positives + of_negatives + across + across.T
    return Areas(areas, covariance, positives, negatives, present < len(positive))


def _covariance_of(
    sums: Float[np.ndarray, "k patients"], patients: int, slides: int
) -> Float[np.ndarray, "k k"]:
    """Part of the covariance that comes from the slides of one class."""
    return patients / (patients - 1) * (sums @ sums.T) / slides**2


def _placements(is_positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fraction of negatives below each positive, and of positives above each negative."""
    positives = scores[is_positive]
    negatives = scores[~is_positive]
    ranks = mid_ranks(np.concatenate([positives, negatives]))
    below = (ranks[: len(positives)] - mid_ranks(positives)) / len(negatives)
    above = 1 - (ranks[len(positives) :] - mid_ranks(negatives)) / len(positives)
    return below, above


class Difference(NamedTuple):
    """A metric of one head less that of another."""

    difference: float
    error: float  # standard error; 0: the slides do not show how far it varies
    ci95: tuple[float, float] | None  # None, as is p: without an error there is no test
    p: float | None  # two-sided, of no difference


def paired(areas: Areas, one: int, other: int) -> Difference:
    """DeLong's test of two heads on the same slides, with a normal 95 % interval.

    Args:
        areas: AUROCs of all heads.
        one: Number of the first head.
        other: Number of the head whose AUROC is subtracted.
    """
    contrast = np.zeros(len(areas.auroc))
    contrast[one] = 1
    contrast[other] = -1
    difference = float(contrast @ areas.auroc)
    error = max(0.0, float(contrast @ areas.covariance @ contrast)) ** 0.5
    return normal_difference(difference, error)


def normal_difference(difference: float, error: float) -> Difference:
    """Interval and test of a difference with a normal error.

    Without an error nothing is tested. Two heads that both rank all slides correctly
    have none, nor has such a head beside one with the same prediction for every slide:
    not because the difference is certain, but because nothing varies in this set.
    """
    if not error > ROUNDING:
        return Difference(difference, 0.0, None, None)
    ends = difference - CI_Z * error, difference + CI_Z * error
    return Difference(difference, error, ends, two_sided_p(difference / error))
