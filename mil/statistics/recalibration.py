"""Calibration slope and intercept: the log odds of predictions against what came true."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.statistics.arrays import Labels, Members, Numbers
from mil.statistics.intervals import Interval
from mil.statistics.normal import t_quantile

# Probabilities of 0 and 1 have no log odds. Nine digits stand in predictions.csv.
SMALLEST = 1e-9
STEPS = 100  # of Newton's method, which needs about ten
PRECISE = 1e-10
SMALLEST_STEP = 1e-6  # of the search along Newton's direction


class Recalibration(NamedTuple):
    """Calibration slope and intercept with 95 % intervals, and the fitted curve.

    The slope is 1 of calibrated probabilities, below 1 of too extreme ones. The
    intercept is calibration in the large, with the slope held at 1: 0 of calibrated
    probabilities, below 0 where they are too high on average.
    """

    slope: float
    slope_ci95: Interval
    intercept: float
    intercept_ci95: Interval
    # Of the fit with a free slope: intercept and slope, their covariance, and t.
    fitted: Float[np.ndarray, " 2"]
    covariance: Float[np.ndarray, "2 2"]
    t: float

    def curve(self, probabilities: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Observed frequency at each probability by the fit, low and high end of 95 %."""
        design = np.stack([np.ones(len(probabilities)), log_odds(probabilities)], 1)
        middle = design @ self.fitted
        half = self.t * np.sqrt(np.einsum("ni,ij,nj->n", design, self.covariance, design))
        return _expit(middle), _expit(middle - half), _expit(middle + half)


def recalibrate(positive: Labels, probabilities: Numbers, member: Members) -> Recalibration:
    """Logistic regression of the label on the log odds of its predicted probability.

    Cox 1958 (Biometrika 45:562); how both numbers are read: Van Calster et al. 2019
    (BMC Med. 17:230). Intervals are Wald's with the variance between patients (the
    sandwich estimator, corrected by k/(k - 1) (n - 1)/(n - p)), t with k - 1 degrees of
    freedom for k patients.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        probabilities: Predicted probability of the positive class.
        member: Number of each slide's patient.

    Raises:
        ValueError: The slides do not allow a fit; says why.
    """
    outcome = positive.astype(float)
    odds = log_odds(probabilities)
    patients = len(np.unique(member))
    if not 0 < outcome.mean() < 1:
        raise ValueError("the test slides are of one class")
    if patients < 3:
        raise ValueError("the test slides are of fewer than three patients")
    if np.ptp(odds) == 0:
        raise ValueError("all predictions are equal")
    if _separated(odds, outcome):
        raise ValueError(
            "no probability of one class lies among those of the other, so that every slope fits"
        )
    design = np.stack([np.ones(len(odds)), odds], 1)
    t = t_quantile(patients - 1)
    fitted = _fit(design, outcome, np.zeros(len(odds)))
    covariance = _sandwich(design, outcome, design @ fitted, member)
    ones = design[:, :1]
    large = _fit(ones, outcome, odds)
    large_variance = _sandwich(ones, outcome, large[0] + odds, member)
    return Recalibration(
        slope=float(fitted[1]),
        slope_ci95=_wald(fitted[1], covariance[1, 1], t),
        intercept=float(large[0]),
        intercept_ci95=_wald(large[0], large_variance[0, 0], t),
        fitted=fitted,
        covariance=covariance,
        t=t,
    )


def log_odds(probabilities: Numbers) -> Numbers:
    """Log odds; 0 and 1 are moved inside by 1e-9."""
    inside = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    return np.log(inside / (1 - inside))


def _separated(odds: Numbers, outcome: Numbers) -> bool:
    """Whether the classes share no range of log odds."""
    one = odds[outcome == 1]
    other = odds[outcome == 0]
    return bool(one.min() >= other.max() or other.min() >= one.max())


def _fit(
    design: Float[np.ndarray, "n terms"], outcome: Numbers, offset: Numbers
) -> Float[np.ndarray, " terms"]:
    """Coefficients of largest likelihood, by Newton's method with halved steps."""
    terms = np.zeros(design.shape[1])
    for _ in range(STEPS):
        expected = _expit(design @ terms + offset)
        gradient = design.T @ (outcome - expected)
        spread = np.maximum(expected * (1 - expected), np.finfo(float).tiny)
        step = np.linalg.lstsq((design * spread[:, None]).T @ design, gradient)[0]
        length = 1.0
        before = _likelihood(design @ terms + offset, outcome)
        # Far from its maximum a whole step may overshoot.
        while (
            length > SMALLEST_STEP
            and _likelihood(design @ (terms + length * step) + offset, outcome) < before
        ):
            length /= 2
        terms = terms + length * step
        if np.abs(length * step).max() < PRECISE:
            break
    return terms


def _likelihood(odds: Numbers, outcome: Numbers) -> float:
    return float((outcome * odds - np.logaddexp(0, odds)).sum())


def _sandwich(
    design: Float[np.ndarray, "n terms"], outcome: Numbers, odds: Numbers, member: Members
) -> Float[np.ndarray, "terms terms"]:
    """Variance of the coefficients from the sums of each patient's scores."""
    n, terms = design.shape
    expected = _expit(odds)
    bread = np.linalg.pinv((design * (expected * (1 - expected))[:, None]).T @ design)
    _, patient = np.unique(member, return_inverse=True)
    patients = int(patient.max()) + 1
    sums = np.zeros((patients, terms))
    np.add.at(sums, patient, design * (outcome - expected)[:, None])
    correction = patients / (patients - 1) * (n - 1) / max(1, n - terms)
    return bread @ (sums.T @ sums) @ bread * correction


def _wald(value: float, variance: float, t: float) -> Interval:
    half = t * float(variance) ** 0.5
    return float(value) - half, float(value) + half


def _expit(odds: Numbers) -> Numbers:
    # Of the negative size, whose exponential cannot overflow.
    small = np.exp(-np.abs(odds))
    return np.where(odds >= 0, 1, small) / (1 + small)
