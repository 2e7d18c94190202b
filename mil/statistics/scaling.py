"""Calibration of a classifier's logits on validation slides: temperature and intercepts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, FiniteFloat

from mil.config import Section
from mil.statistics.arrays import Labels, Numbers, Probabilities
from mil.statistics.calibration import softmax
from mil.statistics.threshold import validation_threshold

Logits = Float[np.ndarray, "n classes"]

# The prior, which a simulation chose: see docs/explain/statistics.md. Standard deviations
# of the logarithm of the temperature, and of the intercept of each class (of two
# classes, the log odds then have 0.5).
LOG_TEMPERATURE_SD = 0.7
INTERCEPT_SD = 0.5 / 2**0.5
# A temperature is always between 1 / 8 and 8. Probabilities that need more are of a
# head that knows nothing.
BOUND = 8.0
# Below, every fit would be the prior alone.
FEWEST_SLIDES = 6
FEWEST_OF_A_CLASS = 2
FOLDS = 5
STEPS = 100  # of Newton's method, which takes about ten
CONVERGED = 1e-9


class Scaling(NamedTuple):
    """softmax(logits / temperature + intercepts) are the calibrated probabilities."""

    temperature: float
    intercepts: Float[np.ndarray, " classes"]

    def of(self, logits: Logits) -> Logits:
        """Calibrated logits."""
        return logits / self.temperature + self.intercepts


class Calibration(Section):
    """What the validation slides say of a head's probabilities."""

    # Logits are divided by it; 1 where no calibration is applied.
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    # Added to the divided logits, one for each class; empty: none.
    intercepts: list[FiniteFloat] = Field([])
    # Of two classes: least probability at which the positive class is predicted.
    threshold: float | None = Field(None, ge=0, le=1)
    # Number of validation slides; None: written by an earlier version.
    n: int | None = Field(None, ge=0)
    # Why temperature and intercepts are not applied; empty: they are.
    reason: str = ""

    @property
    def scaling(self) -> Scaling:
        """Temperature and intercepts as they are applied to logits."""
        return Scaling(self.temperature, np.array(self.intercepts or 0.0))


def calibrate_logits(
    logits: Logits,
    labels: Labels,
    positive: int | None = None,
    patients: Sequence[str] | None = None,
) -> Calibration:
    """Calibration of a head, or of an ensemble, from its logits of validation slides.

    Temperature and intercepts (`fit_scaling`) are applied only where they lower the
    cross-validated log loss (`cross_validated_gain`).

    Args:
        logits: Logits of validation slides, as the head gives them.
        labels: Class numbers of these slides.
        positive: Of two classes the number of the positive one; None: no threshold.
        patients: Patient of each slide, who is not divided in the cross-validation;
            None: each slide is one.

    Returns:
        The calibration; where it is not applied, its `reason` and a temperature of 1.
        The threshold is of the calibrated probabilities.
    """
    logits = logits.astype(float)
    count = len(labels)
    reason = ""
    scaling = Scaling(1.0, np.zeros(logits.shape[1]))
    if _too_few(labels, patients):
        reason = f"too few validation slides ({count})"
    elif cross_validated_gain(logits, labels, patients) > 0:
        scaling = fit_scaling(logits, labels)
    else:
        reason = f"no lower log loss in a cross-validation of the {count} validation slides"
    threshold = None
    if positive is not None and logits.shape[1] == 2:
        scores = softmax(scaling.of(logits))[:, positive]
        threshold = validation_threshold((labels == positive).astype(int), scores)
    return Calibration(
        temperature=scaling.temperature,
        intercepts=[] if reason else scaling.intercepts.tolist(),
        threshold=threshold,
        n=count,
        reason=reason,
    )


def fit_scaling(logits: Logits, labels: Labels) -> Scaling:
    """Temperature and intercepts of largest posterior probability.

    Temperature with intercepts is Platt's scaling (1999) of two classes, and
    bias-corrected temperature scaling of more (Alexandari et al. 2020, ICML). The prior
    shrinks both to no change: log T = log 8 tanh(u / log 8) with u of mean 0 and
    standard deviation 0.7, so that T never reaches 1 / 8 or 8; intercepts have mean 0
    and standard deviation 0.35. Targets are Platt's, see `smoothed_targets`.

    Args:
        logits: Logits of slides, of which there is at least one.
        labels: Class numbers of these slides.
    """
    targets = smoothed_targets(labels, logits.shape[1])
    # u and the intercepts.
    parameters = np.zeros(logits.shape[1] + 1)
    damping = 1e-6
    current = _Step.at(parameters, logits, targets)
    for _ in range(STEPS):
        damped = current.curvature + damping * np.eye(len(parameters))
        step = np.linalg.solve(damped, current.slope)
        following = _Step.at(parameters - step, logits, targets)
        # Levenberg's rule: a step that does not lower the loss is made shorter.
        if following.loss > current.loss:
            damping = max(10 * damping, 1e-3)
            continue
        parameters = parameters - step
        current = following
        damping /= 10
        if np.abs(step).max() < CONVERGED:
            break
    return _scaling(parameters)


def cross_validated_gain(
    logits: Logits, labels: Labels, patients: Sequence[str] | None = None
) -> float:
    """How much calibration lowers the log loss of slides that it was not fitted on.

    Stratified cross-validation in at most 5 parts. Targets are smoothed here too:
    validation slides also chose the epoch, so that a few of them without an error
    promise more than new slides keep.

    Args:
        logits: Logits of validation slides.
        labels: Class numbers of these slides.
        patients: Patient of each slide; None: each slide is one.

    Returns:
        Sum over the slides, nats.
    """
    targets = smoothed_targets(labels, logits.shape[1])
    part = _parts(labels, patients)
    gain = 0.0
    for number in range(int(part.max()) + 1):
        held_out = part == number
        scaling = fit_scaling(logits[~held_out], labels[~held_out])
        before = _log_loss(logits[held_out], targets[held_out])
        after = _log_loss(scaling.of(logits[held_out]), targets[held_out])
        gain += float((before - after).sum())
    return gain


def smoothed_targets(labels: Labels, classes: int) -> Probabilities:
    """Targets of Platt (1999): of N slides with a class that class gets (N + 1) / (N + C).

    Each of the C - 1 others gets 1 / (N + C): what a uniform prior expects of the next
    slide, so that slides without an error do not drive probabilities to 0 and 1.
    """
    slides_of_class = np.bincount(labels, minlength=classes)[labels][:, None]
    return (1.0 + slides_of_class * np.eye(classes)[labels]) / (slides_of_class + classes)


class _Step(NamedTuple):
    """Negative log posterior at some parameters, its slope and curvature."""

    loss: float
    slope: Float[np.ndarray, " parameters"]
    curvature: Float[np.ndarray, "parameters parameters"]

    @classmethod
    def at(cls, parameters: np.ndarray, logits: np.ndarray, targets: np.ndarray) -> "_Step":
        scaling = _scaling(parameters)
        classes = logits.shape[1]
        precision = np.array([LOG_TEMPERATURE_SD**-2.0, *[INTERCEPT_SD**-2.0] * classes])
        scaled = scaling.of(logits)
        p = softmax(scaled)
        # Logits change by u through T, and by their own intercepts.
        squeezed = np.tanh(parameters[0] / np.log(BOUND))
        narrowing = 1 - squeezed**2
        by_u = -narrowing * logits / scaling.temperature
        twice_by_u = -(narrowing + 2 * squeezed / np.log(BOUND)) * by_u
        by_intercept = np.broadcast_to(np.eye(classes), (len(logits), classes, classes))
        changes = np.concatenate([by_u[:, :, None], by_intercept], 2)
        centred = changes - (p[:, :, None] * changes).sum(1, keepdims=True)
        curvature = np.einsum("nck,nc,ncl->kl", centred, p, centred) + np.diag(precision)
        # What Gauss and Newton leave out; below 0 the matrix might not be positive.
        curvature[0, 0] += max(float(((p - targets) * twice_by_u).sum()), 0.0)
        return cls(
            loss=float(_log_loss(scaled, targets).sum() + precision @ parameters**2 / 2),
            slope=np.einsum("nck,nc->k", changes, p - targets) + precision * parameters,
            curvature=curvature,
        )


def _scaling(parameters: np.ndarray) -> Scaling:
    log_bound = np.log(BOUND)
    temperature = np.exp(log_bound * np.tanh(parameters[0] / log_bound))
    return Scaling(float(temperature), parameters[1:])


def _log_loss(logits: np.ndarray, targets: np.ndarray) -> Numbers:
    """Cross-entropy of each slide, nats."""
    shifted = logits - logits.max(1, keepdims=True)
    return np.log(np.exp(shifted).sum(1)) - (targets * shifted).sum(1)


def _too_few(labels: Labels, patients: Sequence[str] | None) -> bool:
    """Whether there is nothing to fit, or no part that could be left out."""
    of_patient = _first_of_each(patients, len(labels))
    counts = np.bincount(labels[of_patient])
    return len(labels) < FEWEST_SLIDES or int((counts >= FEWEST_OF_A_CLASS).sum()) < 2


def _parts(labels: Labels, patients: Sequence[str] | None) -> Int[np.ndarray, " n"]:
    """Part of the cross-validation that each slide is in: patients dealt out by class."""
    first = _first_of_each(patients, len(labels))
    names = range(len(labels)) if patients is None else patients
    by_class = first[np.argsort(labels[first], kind="stable")]
    part_of = {names[row]: number % FOLDS for number, row in enumerate(by_class)}
    return np.array([part_of[name] for name in names])


def _first_of_each(patients: Sequence[str] | None, count: int) -> Int[np.ndarray, " patients"]:
    """Row of each patient's first slide."""
    if patients is None:
        return np.arange(count)
    return np.sort(np.unique(np.array(patients), return_index=True)[1])
