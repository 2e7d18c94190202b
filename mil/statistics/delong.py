"""AUROCs of several heads on the same slides, and how far they vary together; slides of one patient may be several."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mil.statistics.discrimination import mid_ranks
from mil.statistics.normal import CI_Z, two_sided_p


class Areas(NamedTuple):
    """AUROCs of k heads and the covariance of their errors."""

    auroc: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    positives: int  # patients with a positive slide,
    negatives: int  # with a negative one
    several: bool  # slides of some patient


def delong(
    positive: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, "k n"],
    patients: Sequence[str] | None = None,
) -> Areas:
    """AUROCs and their covariance by DeLong et al. (1988, Biometrics 44:837), placements from mid-ranks.

    Mid-ranks are Sun and Xu's way (2014, IEEE Signal Process. Lett. 21:1389) to O(n log
    n). With `patients` the placements of a patient's slides are summed first
    (Obuchowski 1997, Biometrics 53:567); with one slide a patient that is the same
    number.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        scores: of each head.
        patients: of each slide; default: each slide is one patient's.

    Raises:
        ValueError: there are not two patients with a positive slide and two with a
            negative one.
    """
    is_positive = positive.astype(bool)
    names = (
        np.arange(len(positive))
        if patients is None
        else np.unique(np.asarray(patients), return_inverse=True)[1]
    )
    groups = names[is_positive], names[~is_positive]
    if min(len(np.unique(group)) for group in groups) < 2:
        raise ValueError(
            "an AUROC's variance needs two patients with a positive slide and two with a "
            "negative one"
        )
    each = [_placements(is_positive, row) for row in scores]
    areas = np.array([above.mean() for above, _ in each])
    count = names.max() + 1
    sums = [
        np.stack(
            [
                np.bincount(group, pair[side] - area, minlength=count)
                for pair, area in zip(each, areas, strict=True)
            ]
        )
        for side, group in enumerate(groups)
    ]
    own = [
        len(np.unique(group)) / (len(np.unique(group)) - 1) * (total @ total.T) / len(group) ** 2
        for total, group in zip(sums, groups, strict=True)
    ]
    there = len(np.unique(names))
    across = there / (there - 1) * (sums[0] @ sums[1].T) / (len(groups[0]) * len(groups[1]))
    covariance = own[0] + own[1] + across + across.T
    several = there < len(positive)
    return Areas(areas, covariance, len(np.unique(groups[0])), len(np.unique(groups[1])), several)


def _placements(is_positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each positive the share of negatives below it, of each negative the share of positives above it."""
    ours = scores[is_positive]
    others = scores[~is_positive]
    everywhere = mid_ranks(np.concatenate([ours, others]))
    above = (everywhere[: len(ours)] - mid_ranks(ours)) / len(others)
    return above, 1 - (everywhere[len(ours) :] - mid_ranks(others)) / len(ours)


class Difference(NamedTuple):
    """A metric of one head less that of another."""

    difference: float
    error: float  # standard error; 0: these slides do not show how far it varies
    ci95: tuple[float, float] | None  # None, and so is p: without an error there is no test
    p: float | None  # two-sided, of no difference


def paired(areas: Areas, one: int, other: int) -> Difference:
    """DeLong's test of two heads on the same slides; normal 95 % interval of the difference."""
    contrast = np.zeros(len(areas.auroc))
    contrast[one], contrast[other] = 1, -1
    difference = float(contrast @ areas.auroc)
    error = max(0.0, float(contrast @ areas.covariance @ contrast)) ** 0.5
    return normal_difference(difference, error)


def normal_difference(difference: float, error: float) -> Difference:
    """Interval and test of a difference with a normal error.

    Without an error nothing is tested. Two heads that both rank all slides right have
    none, nor has such a head beside one that says the same of every slide: not because
    the difference is certain, but since nothing varies in this set.
    """
    if not error > 1e-12:
        return Difference(difference, 0.0, None, None)
    ends = difference - CI_Z * error, difference + CI_Z * error
    return Difference(difference, error, ends, two_sided_p(difference / error))
