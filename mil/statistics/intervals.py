"""95 % intervals that need no resampling: of proportions and of AUROC."""

import numpy as np
from jaxtyping import Float, Int

from mil.statistics.delong import Areas
from mil.statistics.normal import CI_Z, expit, logit, t_quantile

Interval = tuple[float, float]


def wilson(share: float, n: int | float) -> Interval:
    """Wilson's score interval (1927, JASA 22:209) of a proportion.

    Args:
        share: found, 0..1.
        n: of how many; need not be whole.
    """
    middle = (share + CI_Z**2 / (2 * n)) / (1 + CI_Z**2 / n)
    half = CI_Z / (1 + CI_Z**2 / n) * (share * (1 - share) / n + CI_Z**2 / (4 * n**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def proportion(right: Float[np.ndarray, " n"], member: Int[np.ndarray, " n"]) -> Interval | None:
    """Interval of the share of slides that are right: Wilson's, of as many slides as they are worth.

    Slides of one patient tell less than slides of several: n is divided by the design
    effect, the variance between patients over that of independent slides (Rao and Scott
    1992, Biometrics 48:577), at least 1; and by (t / 1.96)², t with the patients less 1
    degrees of freedom, for that variance is only estimated (Korn and Graubard 1998,
    Surv. Methodol. 24:193). Where all slides are right, or none is, they are worth one
    slide a patient.

    Args:
        right: 1 or 0 for each slide.
        member: number of its patient.

    Returns:
        Low and high; None for fewer than two patients.
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
    between = (np.bincount(member, right - share) ** 2).sum() * patients / (patients - 1) / n**2
    effect = max(1.0, between * n / (share * (1 - share)))
    return wilson(share, n / effect * (CI_Z / t_quantile(patients - 1)) ** 2)


def area(areas: Areas, head: int = 0) -> Interval:
    """Interval of one of DeLong's AUROCs: a t interval on the scale of log odds.

    Degrees of freedom are the patients less 2; where patients have several slides,
    those of the rarer class less 1, with which it covers as it should
    (docs/statistics.md). An AUROC of 0 or 1, whose variance DeLong cannot see, gets
    Newcombe's interval (2006, Stat. Med. 25:559, method 5).
    """
    value = float(areas.auroc[head])
    variance = float(areas.covariance[head, head])
    if variance < 1e-12 or not 0 < value < 1:
        return newcombe(value, areas.positives, areas.negatives)
    counts = areas.positives, areas.negatives
    half = (
        t_quantile(min(counts) - 1 if areas.several else sum(counts) - 2)
        * variance**0.5
        / (value * (1 - value))
    )
    return expit(logit(value) - half), expit(logit(value) + half)


def newcombe(auroc: float, positives: int, negatives: int) -> Interval:
    """The AUROCs that are within 1.96 standard errors of the one found, the error being that at each of them.

    Hanley and McNeil's standard error, both sample sizes replaced by their mean where
    they stand alone.
    """
    mean = (positives + negatives) / 2 - 1

    def consistent(true: float) -> bool:
        spread = 1 + mean * ((1 - true) / (2 - true) + true / (1 + true))
        return (auroc - true) ** 2 <= CI_Z**2 * true * (1 - true) * spread / (positives * negatives)

    def end(outside: float) -> float:
        inside = auroc
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if consistent(middle) else (inside, middle)
        return inside

    return 0.0 if auroc <= 0 else end(0.0), 1.0 if auroc >= 1 else end(1.0)
