"""Calibration: how far probabilities match frequencies."""

import numpy as np
from jaxtyping import Float, Int

from mil.statistics.arrays import Draws, Labels, Members, Numbers, Probabilities, Weights
from mil.statistics.metric import ReliabilityBin

BINS = 10


def softmax(logits: Float[np.ndarray, "n classes"]) -> Probabilities:
    """Probabilities of each row."""
    # The largest logit of a row becomes 0, so that no power overflows.
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def brier_each(labels: Labels, probabilities: Probabilities) -> Numbers:
    """Squared error of each slide.

    Of two classes that of the second (0..1), of more the sum over classes (0..2).
    """
    classes = probabilities.shape[1]
    if classes == 2:
        return (probabilities[:, 1] - labels) ** 2
    return ((probabilities - np.eye(classes)[labels]) ** 2).sum(1)


def brier(labels: Labels, probabilities: Probabilities) -> float:
    """Brier score (1950): mean squared error of the probabilities; see `brier_each`."""
    return float(brier_each(labels, probabilities).mean())


def confidence_and_outcome(labels: Labels, probabilities: Probabilities) -> tuple[Numbers, Numbers]:
    """Probability of each slide, and 1 where the event that it is of came true.

    Of two classes the event is the second class, of more that the most probable class
    is right.
    """
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], labels.astype(float)
    return probabilities.max(1), (probabilities.argmax(1) == labels).astype(float)


def ece(labels: Labels, probabilities: Probabilities, bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al. 2015) in bins of equal width.

    It is never below 0, so that noise alone makes it positive: the fewer the slides,
    the more.
    """
    confidence, outcome = confidence_and_outcome(labels, probabilities)
    once = np.ones((1, len(confidence)))
    return float(weighted_ece(confidence, outcome, once, bins)[0])


def weighted_ece(
    confidence: Numbers,
    outcome: Numbers,
    weights: Weights,
    bins: int = BINS,
) -> Draws:
    """ECE of each sample in which each slide occurs `weights` times."""
    gaps = np.eye(bins)[_bin(confidence, bins)] * (outcome - confidence)[:, None]
    return np.abs(weights @ gaps).sum(1) / weights.sum(1)


def ece_if_calibrated(
    probabilities: Probabilities,
    member: Members,
    *,
    bins: int = BINS,
    seed: int = 0,
    draws: int = 1000,
) -> tuple[float, float]:
    """Range of 95 % of the ECEs that these probabilities would give if they were true.

    Consistency resampling (Broecker and Smith 2007, Weather Forecast. 22:651): labels
    are drawn from the probabilities. One random number is drawn for each patient, so
    that slides of one patient agree as far as their probabilities do.

    Args:
        probabilities: Probabilities of each slide.
        member: Number of each slide's patient.
        bins: Number of bins.
        seed: Random seed.
        draws: Number of draws.
    """
    confidence = probabilities.max(1)
    if probabilities.shape[1] == 2:
        confidence = probabilities[:, 1]
    uniform = np.random.default_rng(seed).random((draws, int(member.max()) + 1))
    drawn_outcomes = uniform[:, member] < confidence
    inside = np.eye(bins)[_bin(confidence, bins)]
    errors = np.abs((drawn_outcomes - confidence) @ inside).sum(1) / len(confidence)
    low, high = np.quantile(errors, (0.025, 0.975))
    return float(low), float(high)


def reliability(
    labels: Labels, probabilities: Probabilities, bins: int = BINS
) -> list[ReliabilityBin]:
    """Reliability diagram that `ece` sums up: the bins that hold any slide."""
    confidence, outcome = confidence_and_outcome(labels, probabilities)
    bin_of_slide = _bin(confidence, bins)
    rows = []
    for number in range(bins):
        inside = bin_of_slide == number
        if not inside.any():
            continue
        row = ReliabilityBin(
            low=number / bins,
            high=(number + 1) / bins,
            n=int(inside.sum()),
            said=float(confidence[inside].mean()),
            found=float(outcome[inside].mean()),
        )
        rows.append(row)
    return rows


def _bin(confidence: Numbers, bins: int) -> Int[np.ndarray, " n"]:
    # A probability of 1 belongs to the last bin.
    return np.minimum((confidence * bins).astype(int), bins - 1)
