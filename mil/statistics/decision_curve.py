"""Decision curves: what a prediction is worth where a positive one has consequences."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mil.statistics.arrays import Labels, Members, Numbers, Weights
from mil.statistics.bootstrap import RESAMPLES, weights
from mil.statistics.normal import t_quantile

Thresholds = Float[np.ndarray, " thresholds"]
NetBenefits = Float[np.ndarray, "draws thresholds"]

# Threshold probabilities 0.01 to 0.99; at 1 the weight of a false positive is infinite.
THRESHOLDS: Thresholds = np.arange(1, 100) / 100


class NetBenefit(NamedTuple):
    """Net benefit at each threshold probability, with the ends of its 95 % interval."""

    value: Thresholds
    low: Thresholds | None  # None: fewer than two patients
    high: Thresholds | None


def net_benefit(
    positive: Labels,
    probabilities: Numbers,
    thresholds: Thresholds = THRESHOLDS,
) -> Thresholds:
    """Net benefit of treating the slides whose probability is at least the threshold.

    Vickers and Elkin 2006 (Med. Decis. Making 26:565): TP/n - FP/n t/(1 - t), in true
    positives a slide. The threshold t is also the exchange rate: at t = 0.1 one true
    positive is worth nine false ones.

    Args:
        positive: 1 for the positive class, 0 for the rest.
        probabilities: Predicted probability of the positive class.
        thresholds: Threshold probabilities, above 0 and below 1.
    """
    return _weighted(positive, probabilities, thresholds, np.ones((1, len(positive))))[0]


def treat_all(positive: Labels, thresholds: Thresholds = THRESHOLDS) -> Thresholds:
    """Net benefit of treating every slide; that of treating none is 0."""
    prevalence = float(positive.mean())
    return prevalence - (1 - prevalence) * thresholds / (1 - thresholds)


def net_benefit_with_band(
    positive: Labels,
    probabilities: Numbers,
    member: Members,
    thresholds: Thresholds = THRESHOLDS,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> NetBenefit:
    """Net benefit with t intervals from resampled patients, each threshold by itself.

    Args:
        positive: See `net_benefit`.
        probabilities: See `net_benefit`.
        member: Number of each slide's patient.
        thresholds: See `net_benefit`.
        seed: Random seed.
        resamples: Number of resamples.
    """
    value = net_benefit(positive, probabilities, thresholds)
    patients = int(member.max()) + 1
    if patients < 2:
        return NetBenefit(value, None, None)
    blocks = weights(member, resamples=resamples, seed=seed)
    drawn = [_weighted(positive, probabilities, thresholds, block) for block in blocks]
    error = np.concatenate(drawn).std(0, ddof=1) * (patients / (patients - 1)) ** 0.5
    half = t_quantile(patients - 1) * error
    return NetBenefit(value, value - half, value + half)


def _weighted(
    positive: Labels, probabilities: Numbers, thresholds: Thresholds, sample: Weights
) -> NetBenefits:
    """Net benefit of samples in which each slide occurs `sample` times."""
    treated = probabilities[:, None] >= thresholds
    is_positive = positive.astype(bool)[:, None]
    exchange = thresholds / (1 - thresholds)
    gain = treated * np.where(is_positive, 1.0, -exchange)
    return sample @ gain / sample.sum(1, keepdims=True)
