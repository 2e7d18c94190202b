"""Survival of a group without assumptions, and the test of several groups."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mil.statistics.arrays import Labels, Numbers
from mil.statistics.normal import CI_Z, two_sided_p

Events = Bool[np.ndarray, " n"]
Steps = Float[np.ndarray, " steps"]


class SurvivalCurve(NamedTuple):
    """Share without event from each time on, with 95 % interval; the first time is 0."""

    times: Steps
    survival: Steps
    low: Steps
    high: Steps
    censored: Steps  # times of censoring, sorted

    @property
    def median(self) -> float | None:
        """First time at which half or fewer are without event; None: not reached."""
        reached = np.flatnonzero(self.survival <= 0.5)
        return float(self.times[reached[0]]) if len(reached) else None

    def at(self, times: Steps) -> Steps:
        """Share without event at each of these times, 0 or later."""
        return self.survival[np.searchsorted(self.times, times, side="right") - 1]


class LogRank(NamedTuple):
    """Log-rank test of two groups."""

    chi2: float
    p: float


def kaplan_meier(times: Numbers, events: Events) -> SurvivalCurve:
    """Product-limit estimate (Kaplan and Meier 1958, JASA 53:457).

    Its interval is on the scale of log(-log(survival)) with Greenwood's variance
    (Kalbfleisch and Prentice 1980), which stays within 0..1. Before the first event,
    and from the time at which nobody is left, it has no width.

    Args:
        times: Time until the event, or until the end of follow-up; 0 or later.
        events: Whether the event was observed; at equal times events come first.
    """
    steps, happened = np.unique(times[events], return_counts=True)
    left = number_at_risk(times, steps).astype(float)
    survival = np.cumprod(1 - happened / left)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(happened / (left * (left - happened)))
        # Of a survival of 0 neither the variance nor the logarithm is finite.
        half = CI_Z * np.sqrt(greenwood) / np.abs(np.log(survival))
        low = np.where(survival > 0, survival ** np.exp(half), 0.0)
        high = np.where(survival > 0, survival ** np.exp(-half), 0.0)
    return SurvivalCurve(
        times=np.append(0.0, steps),
        survival=np.append(1.0, survival),
        low=np.append(1.0, low),
        high=np.append(1.0, high),
        censored=np.sort(times[~events]),
    )


def number_at_risk(times: Numbers, at: Steps) -> Int[np.ndarray, " steps"]:
    """Number of those whose time is not before each of these."""
    return len(times) - np.searchsorted(np.sort(times), at, side="left")


def log_rank(times: Numbers, events: Events, group: Labels) -> LogRank:
    """Log-rank test of two groups (Mantel 1966, Cancer Chemother. Rep. 50:163).

    Args:
        times: See `kaplan_meier`.
        events: See `kaplan_meier`.
        group: 1 or 0.

    Raises:
        ValueError: The groups do not allow a test; says why.
    """
    if len(np.unique(group)) < 2:
        raise ValueError("one of the groups is empty")
    steps, happened = np.unique(times[events], return_counts=True)
    if not len(steps):
        raise ValueError("no event was observed")
    in_group = group.astype(bool)
    step_of_event = np.searchsorted(steps, times[events & in_group])
    in_one = np.bincount(step_of_event, minlength=len(steps))
    left = number_at_risk(times, steps).astype(float)
    share = number_at_risk(times[in_group], steps) / left
    excess = float((in_one - happened * share).sum())
    # Hypergeometric variance; where one is left, nothing can vary.
    several = np.where(left > 1, (left - happened) / np.maximum(left - 1, 1), 0.0)
    variance = float((happened * share * (1 - share) * several).sum())
    if not variance > 0:
        raise ValueError("no event came while both groups were at risk")
    chi2 = excess**2 / variance
    return LogRank(chi2, two_sided_p(chi2**0.5))
