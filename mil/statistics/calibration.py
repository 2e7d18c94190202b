"""Whether probabilities mean what they say, and the temperature that makes them."""

import numpy as np
from jaxtyping import Float, Int

from mil.statistics.metric import ReliabilityBin

COLDEST = 0.05
HOTTEST = 20.0
BINS = 10


def fit_temperature(logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> float:
    """Temperature T that minimises the negative log likelihood of softmax(logits / T) (Guo et al. 2017, ICML).

    Targets are smoothed as Platt (1999) did: of N slides with a class, that class gets
    (N + 1) / (N + classes) and each other 1 / (N + classes). So validation slides
    without an error do not drive T to 0. The loss is convex in 1 / T; its slope is
    bisected.

    Args:
        logits: of validation slides.
        labels: their classes as numbers.

    Returns:
        T between 0.05 and 20; 1 without slides.
    """
    count, classes = logits.shape
    if count == 0:
        return 1.0
    shifted = logits.astype(float) - logits.max(1, keepdims=True)
    number = np.bincount(labels, minlength=classes)[labels][:, None]
    targets = (1.0 + number * np.eye(classes)[labels]) / (number + classes)
    wanted = (targets * shifted).sum()

    def slope(inverse: float) -> float:
        return float((softmax(shifted * inverse) * shifted).sum() - wanted)

    low = 1 / HOTTEST
    high = 1 / COLDEST
    if slope(low) >= 0:
        # Flat where all logits of a slide are equal: nothing to scale.
        return HOTTEST if slope(low) > 0 else 1.0
    if slope(high) <= 0:
        return COLDEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 2 / (low + high)


def softmax(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Probabilities of each row."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def brier_each(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> Float[np.ndarray, " n"]:
    """Squared error of each slide; of two classes that of the second (0..1), else the sum over classes (0..2)."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] - labels) ** 2
    return ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(1)


def brier(labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """Brier score (1950): mean squared error of the probabilities; see `brier_each`."""
    return float(brier_each(labels, probabilities).mean())


def stated(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """What is said and what is true: of two classes, p of the second and whether it is; else of the most probable."""
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], labels.astype(float)
    return probabilities.max(1), (probabilities.argmax(1) == labels).astype(float)


def ece(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], bins: int = BINS
) -> float:
    """Expected calibration error (Naeini et al. 2015) of `stated` in bins of equal width.

    It is never below 0, so that noise alone makes it positive: the fewer the slides,
    the more.
    """
    said, true = stated(labels, probabilities)
    return float(weighted_ece(said, true, np.ones((1, len(said))), bins)[0])


def weighted_ece(
    said: Float[np.ndarray, " n"],
    true: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "draws n"],
    bins: int = BINS,
) -> Float[np.ndarray, " draws"]:
    """ECE of each sample in which each row occurs `weights` times."""
    gaps = np.eye(bins)[_bin(said, bins)] * (true - said)[:, None]
    return np.abs(weights @ gaps).sum(1) / weights.sum(1)


def ece_if_calibrated(
    probabilities: Float[np.ndarray, "n classes"],
    member: Int[np.ndarray, " n"],
    *,
    bins: int = BINS,
    seed: int = 0,
    draws: int = 1000,
) -> tuple[float, float]:
    """What 95 % of ECEs would lie between, were these probabilities true: labels drawn from them, not from the data.

    Consistency resampling (Broecker and Smith 2007, Weather Forecast. 22:651). One
    number is drawn a patient, so that slides of one patient agree as far as their
    probabilities do.
    """
    said = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities.max(1)
    chance = np.random.default_rng(seed).random((draws, int(member.max()) + 1))
    inside = np.eye(bins)[_bin(said, bins)]
    found = np.abs(((chance[:, member] < said) - said) @ inside).sum(1) / len(said)
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def reliability(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], bins: int = BINS
) -> list[ReliabilityBin]:
    """Reliability diagram that `ece` sums up: the bins that hold any slide."""
    said, true = stated(labels, probabilities)
    member = _bin(said, bins)
    rows = []
    for number in range(bins):
        inside = member == number
        if inside.any():
            row = ReliabilityBin(
                low=number / bins,
                high=(number + 1) / bins,
                n=int(inside.sum()),
                said=float(said[inside].mean()),
                found=float(true[inside].mean()),
            )
            rows.append(row)
    return rows


def _bin(said: np.ndarray, bins: int) -> Int[np.ndarray, " n"]:
    return np.minimum((said * bins).astype(int), bins - 1)
