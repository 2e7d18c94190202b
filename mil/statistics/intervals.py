"""95 % intervals without resampling: of proportions and of AUROC."""

import numpy as np

from mil.statistics.arrays import Members, Numbers
from mil.statistics.delong import Areas
from mil.statistics.normal import CI_Z, expit, logit, t_quantile

Interval = tuple[float, float]

# DeLong's variance below this is rounding: no slide of one class is among the other's.
NO_VARIANCE = 1e-12
BISECTIONS = 60  # halves 0..1 to below the precision of float64


def wilson(share: float, n: int | float) -> Interval:
    """Wilson's score interval (1927, JASA 22:209) of a proportion.

    Args:
        share: Observed proportion, 0..1.
        n: Number of observations; need not be whole.
    """
    middle = (share + CI_Z**2 / (2 * n)) / (1 + CI_Z**2 / n)
    half = CI_Z / (1 + CI_Z**2 / n) * (share * (1 - share) / n + CI_Z**2 / (4 * n**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def proportion(right: Numbers, member: Members) -> Interval | None:
    """Wilson's interval of the fraction of slides that are right.

    Slides of one patient tell less than slides of several: n is divided by the design
    effect, the variance between patients over that of independent slides (Rao and Scott
    1992, Biometrics 48:577), at least 1; and by (t / 1.96)², t with the patients less 1
    degrees of freedom, because that variance is only estimated (Korn and Graubard 1998,
    Surv. Methodol. 24:193). Where all slides are right, or none is, they count as one
    slide for each patient.

    Args:
        right: 1 or 0 for each slide.
        member: Number of each slide's patient.

    Returns:
        Low and high end; None for fewer than two patients.
    """
    n = len(right)
    patients = len(np.unique(member))
    if patients < 2:
        return None
    share = float(right.mean())
    if not 0 < share < 1:
        return wilson(share, patients)
    if patients == n:
        return wilson(share, n)
    sums = np.bincount(member, right - share)
    between = (sums**2).sum() * patients / (patients - 1) / n**2
    design_effect = max(1.0, between * n / (share * (1 - share)))
    estimated = (CI_Z / t_quantile(patients - 1)) ** 2
    return wilson(share, n / design_effect * estimated)


def area(areas: Areas, head: int = 0) -> Interval:
    """Interval of one of DeLong's AUROCs: a t interval on the scale of log odds.

    Degrees of freedom are the patients less 2; where patients have several slides,
    those of the rarer class less 1, which gave the nominal coverage
    (docs/explain/statistics.md). An AUROC of 0 or 1, whose variance DeLong cannot see, gets
    Newcombe's interval (2006, Stat. Med. 25:559, method 5).

    Args:
        areas: AUROCs and their covariance.
        head: Number of the head.
    """
    value = float(areas.auroc[head])
    variance = float(areas.covariance[head, head])
    if variance < NO_VARIANCE or not 0 < value < 1:
        return newcombe(value, areas.positives, areas.negatives)
    freedom = areas.positives + areas.negatives - 2
    if areas.several:
        freedom = min(areas.positives, areas.negatives) - 1
    half = t_quantile(freedom) * variance**0.5 / (value * (1 - value))
    return expit(logit(value) - half), expit(logit(value) + half)


def newcombe(auroc: float, positives: int, negatives: int) -> Interval:
    """AUROCs that are within 1.96 standard errors of the observed one.

    The error is that at each of them: Hanley and McNeil's, with both sample sizes
    replaced by their mean where they stand alone.

    Args:
        auroc: Observed AUROC.
        positives: Number of patients with a positive slide.
        negatives: Number of patients with a negative slide.
    """
    mean = (positives + negatives) / 2 - 1

    def consistent(true: float) -> bool:
        spread = 1 + mean * ((1 - true) / (2 - true) + true / (1 + true))
        return (auroc - true) ** 2 <= CI_Z**2 * true * (1 - true) * spread / (positives * negatives)

    def end(outside: float) -> float:
        """Bisect between the observed AUROC and an end of the range."""
        inside = auroc
        for _ in range(BISECTIONS):
            middle = (inside + outside) / 2
            if consistent(middle):
                inside = middle
            else:
                outside = middle
        return inside

    low = 0.0 if auroc <= 0 else end(0.0)
    high = 1.0 if auroc >= 1 else end(1.0)
    return low, high
