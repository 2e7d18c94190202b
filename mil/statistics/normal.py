"""The normal and the t distribution, as far as they are needed here."""

from math import erfc, exp, log, sqrt
from statistics import NormalDist

CI_Z = NormalDist().inv_cdf(0.975)


def two_sided_p(z: float) -> float:
    """Probability of a standard normal value as far from 0 as `z`, on either side."""
    return erfc(abs(z) / sqrt(2))


def t_quantile(freedom: int) -> float:
    """Value that a t variable exceeds with probability 0.025."""
    from scipy.special import stdtrit  # half a second to import

    return float(stdtrit(max(freedom, 1), 0.975))


def logit(share: float) -> float:
    """Log odds."""
    return log(share / (1 - share))


def expit(odds: float) -> float:
    """The share whose log odds they are."""
    return 1 / (1 + exp(-odds)) if odds > 0 else exp(odds) / (1 + exp(odds))
