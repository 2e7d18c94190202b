"""What calibration and threshold do for new slides, by simulation.

`python -m tests.statistics.calibrating [COHORTS]` prints the tables of
docs/explain/statistics.md.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm

from mil.statistics import scaling, threshold
from mil.statistics.calibration import softmax
from mil.statistics.confusion import accuracy, balanced_accuracy, confusion

SIZES = (6, 10, 20, 40, 100)
AUROCS = (0.6, 0.75, 0.9, 0.98)
# What true log odds are multiplied by: a head may be too cautious, or learn by heart.
SCALES = (0.2, 1.0, 4.0, 12.0)
EPOCHS = 8
NEW_SLIDES = 2000


class Cohort(NamedTuple):
    """Logits and labels of validation slides, and of new ones by the chosen epoch."""

    logits: np.ndarray
    labels: np.ndarray
    new_logits: np.ndarray
    new_labels: np.ndarray


def cohort(
    rng: np.random.Generator, size: int, auroc: float, scale: float, positives: float = 0.5
) -> Cohort:
    """A head with normal scores, of which validation slides chose one of several epochs.

    Epochs share most of their errors. Each has a scale and an intercept of its own, as
    heads trained on few slides have (standard deviation 0.5, in true log odds).
    """
    count = size + NEW_SLIDES
    labels = (rng.random(count) < positives).astype(int)
    labels[:4] = (0, 1, 0, 1)
    distance = 2**0.5 * norm.ppf(auroc)
    noise = 0.8**0.5 * rng.normal(size=count) + 0.2**0.5 * rng.normal(size=(EPOCHS, count))
    odds = distance * (distance * (labels - 0.5) + noise)
    odds += np.log(positives / (1 - positives)) + 0.5 * rng.normal(size=(EPOCHS, 1))
    odds *= scale * np.exp(0.5 * rng.normal(size=(EPOCHS, 1)))
    losses = [log_loss(two(of_epoch[:size]), labels[:size]) for of_epoch in odds]
    logits = two(odds[int(np.argmin(losses))])
    return Cohort(logits[:size], labels[:size], logits[size:], labels[size:])


def two(odds: np.ndarray) -> np.ndarray:
    """Logits of two classes with these log odds."""
    return np.stack([-odds / 2, odds / 2], 1)


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean log loss, nats."""
    return float(np.logaddexp(0, (1 - 2 * labels) * (logits[:, 1] - logits[:, 0])).mean())


Method = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def shipped(logits: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Calibration as `mil train` does it."""
    of_head = scaling.calibrate_logits(logits, labels)
    return lambda new: new / of_head.temperature + np.array(of_head.intercepts or [0.0, 0.0])


def always(logits: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The same, applied whether or not it lowers the cross-validated log loss."""
    return scaling.fit_scaling(logits, labels).of


def beta(logits: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Beta calibration (Kull 2017) with the same prior and targets, always applied."""
    target = scaling.smoothed_targets(labels, 2)[:, 1]
    widths = np.array([0.7, 0.7, 0.5])

    def odds(parameters: np.ndarray, of: np.ndarray) -> np.ndarray:
        log_odds = of[:, 1] - of[:, 0]
        a, b = np.exp(parameters[:2])
        return -a * np.logaddexp(0, -log_odds) + b * np.logaddexp(0, log_odds) + parameters[2]

    def loss(parameters: np.ndarray) -> float:
        z = odds(parameters, logits)
        return float(
            (np.logaddexp(0, z) - target * z).sum() + ((parameters / widths) ** 2).sum() / 2
        )

    best = minimize(loss, np.zeros(3)).x
    return lambda new: two(odds(best, new))


def bounded(logits: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Temperature without a prior, between 0.05 and 20: Guo 2017 with Platt's targets."""
    targets = scaling.smoothed_targets(labels, 2)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 400))
    z = (logits[:, 1] - logits[:, 0]) / grid[:, None]
    losses = (np.logaddexp(0, z) - targets[:, 1] * z).sum(1)
    hottest = grid[losses.argmin()]
    return lambda new: new / hottest


@contextmanager
def prior(temperature: float, log_odds: float) -> Iterator[None]:
    """Other widths of the prior."""
    before = scaling.LOG_TEMPERATURE_SD, scaling.INTERCEPT_SD
    scaling.LOG_TEMPERATURE_SD, scaling.INTERCEPT_SD = temperature, log_odds / 2**0.5
    yield
    scaling.LOG_TEMPERATURE_SD, scaling.INTERCEPT_SD = before


def wider(temperature: float, log_odds: float, method: Method = shipped) -> Method:
    """A method under another prior."""

    def fit(logits: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        with prior(temperature, log_odds):
            return method(logits, labels)

    return fit


METHODS: dict[str, Method] = {
    "temperature, no prior": bounded,
    "temperature, sd 0.7": wider(0.7, 1e-3),
    "Platt, sd 0.35, 0.5": wider(0.35, 0.5),
    "Platt, sd 0.7, 0.25": wider(0.7, 0.25),
    "Platt, sd 0.7, 0.5": shipped,
    "always": always,
    "Platt, sd 0.7, 1": wider(0.7, 1.0),
    "Platt, sd 1.4, 0.5": wider(1.4, 0.5),
    "beta, always": beta,
}


def rules(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Thresholds by several rules."""
    youden = threshold.youden_threshold(labels, scores)
    return {
        "0.5": 0.5,
        "Youden": youden,
        "towards 0.5": threshold.validation_threshold(labels, scores),
    }


def main() -> None:
    """Print the tables."""
    cohorts = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    for size in SIZES:
        rng = np.random.default_rng(size)
        losses: dict[str, list[float]] = {}
        good: dict[str, list[float]] = {}
        right: dict[str, list[tuple[float, float]]] = {}
        for auroc, scale in product(AUROCS, SCALES):
            for _ in range(cohorts):
                drawn = cohort(rng, size, auroc, scale)
                row = {"none": log_loss(drawn.new_logits, drawn.new_labels)}
                for name, method in METHODS.items():
                    after = method(drawn.logits, drawn.labels)(drawn.new_logits)
                    row[name] = log_loss(after, drawn.new_labels)
                for name, value in row.items():
                    losses.setdefault(name, []).append(value)
                    if scale == 1.0:
                        good.setdefault(name, []).append(value)
                fitted = shipped(drawn.logits, drawn.labels)
                new = softmax(fitted(drawn.new_logits))[:, 1]
                for name, at in rules(softmax(fitted(drawn.logits))[:, 1], drawn.labels).items():
                    table = confusion(drawn.new_labels, (new >= at).astype(int), 2)
                    right.setdefault(name, []).append(
                        (float(accuracy(table)), float(balanced_accuracy(table)))
                    )
        print(f"{size} validation slides")
        for name, values in losses.items():
            gain = np.array(values) - losses["none"]
            print(
                f"  {name:24s} {np.mean(values):.3f} ({gain.mean():+.4f}, standard error "
                f"{gain.std() / len(gain) ** 0.5:.4f}); scale 1: {np.mean(good[name]):.3f}",
                flush=True,
            )
        for name, pairs in right.items():
            print(f"  {name:24s} accuracy, balanced {np.mean(pairs, 0).round(4)}", flush=True)


if __name__ == "__main__":
    main()
