"""The normal and the t distribution, as far as they are needed here."""

from math import erfc, exp, log, sqrt
from statistics import NormalDist

CI_Z = NormalDist().inv_cdf(0.975)


def two_sided_p(z: float) -> float:
    """Probability of a standard normal value at least as far from 0 as `z`."""
    return erfc(abs(z) / sqrt(2))


def t_quantile(freedom: int) -> float:
    """Value that a t variable exceeds with probability 0.025.

    Args:
        freedom: Degrees of freedom; fewer than 1 count as 1.
    """
    from scipy.special import stdtrit  # half a second to import

    return float(stdtrit(max(freedom, 1), 0.975))


def logit(share: float) -> float:
    """Log odds of a probability between 0 and 1."""
    return log(share / (1 - share))


def expit(odds: float) -> float:
    """Probability with these log odds."""
    # The exponential of a large positive number would overflow.
    return 1 / (1 + exp(-odds)) if odds > 0 else exp(odds) / (1 + exp(odds))
