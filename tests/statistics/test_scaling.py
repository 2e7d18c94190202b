"""Temperature and intercepts: against scipy's minimiser, and what they do for new slides."""

import numpy as np
import pytest
from scipy.optimize import minimize

from mil.statistics.calibration import softmax
from mil.statistics.scaling import (
    BOUND,
    calibrate_logits,
    cross_validated_gain,
    fit_scaling,
    smoothed_targets,
)
from tests.statistics.calibrating import cohort, log_loss, two


def sample(classes=2, count=80, factor=4.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return factor * (np.eye(classes)[labels] + rng.normal(size=(count, classes))), labels


def test_smoothed_targets_by_hand():
    targets = smoothed_targets(np.array([0, 0, 0, 1]), 2)
    np.testing.assert_allclose(targets[:, 0], [4 / 5, 4 / 5, 4 / 5, 1 / 3])
    np.testing.assert_allclose(smoothed_targets(np.array([2]), 3), [[1 / 4, 1 / 4, 2 / 4]])


@pytest.mark.parametrize("classes", [2, 3])
def test_the_fit_is_the_minimum(classes):
    logits, labels = sample(classes)
    targets = smoothed_targets(labels, classes)

    def loss(parameters):
        log_t = np.log(8) * np.tanh(parameters[0] / np.log(8))
        p = softmax(logits / np.exp(log_t) + parameters[1:])
        prior = (parameters[0] / 0.7) ** 2 / 2 + (parameters[1:] ** 2).sum() / 0.25
        return -(targets * np.log(p)).sum() + prior

    best = minimize(loss, np.zeros(classes + 1), tol=1e-10).x
    fitted = fit_scaling(logits, labels)
    assert fitted.temperature == pytest.approx(8 ** np.tanh(best[0] / np.log(8)), rel=1e-4)
    np.testing.assert_allclose(fitted.intercepts, best[1:], atol=1e-4)


def test_many_slides_find_scale_and_shift():
    rng = np.random.default_rng(3)
    odds = rng.normal(size=20_000) * 2
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-odds))).astype(int)
    fitted = fit_scaling(two(3 * (odds - 1)), labels)
    assert fitted.temperature == pytest.approx(3, rel=0.05)
    assert np.diff(fitted.intercepts)[0] == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("factor", [1e-6, 1e-2, 1e2, 1e4])
@pytest.mark.parametrize("wrong", [False, True])
def test_no_temperature_reaches_its_bound(factor, wrong):
    labels = np.arange(40) % 2
    logits = factor * two((2 * labels - 1.0) * (-1 if wrong else 1))
    temperature = fit_scaling(logits, labels).temperature
    assert 1 / BOUND < temperature < BOUND


@pytest.mark.parametrize(
    ("labels", "patients"),
    [
        ([0, 1, 0, 1], None),
        ([0] * 19 + [1], None),
        ([0, 1] * 4, ["p", "q"] * 4),
        ([1] * 8, None),
    ],
    ids=["four_slides", "one_positive", "two_patients", "one_class"],
)
def test_too_few_slides_change_nothing(labels, patients):
    labels = np.array(labels)
    logits = two(np.linspace(-9, 9, len(labels)))
    calibration = calibrate_logits(logits, labels, 1, patients)
    assert calibration.reason == f"too few validation slides ({len(labels)})"
    assert (calibration.temperature, calibration.intercepts) == (1.0, [])
    assert calibration.n == len(labels)


def test_no_gain_changes_nothing():
    rng = np.random.default_rng(1)
    odds = rng.normal(size=400) * 2
    labels = (rng.random(400) < 1 / (1 + np.exp(-odds))).astype(int)
    calibration = calibrate_logits(two(odds), labels, 1)
    assert cross_validated_gain(two(odds), labels) <= 0
    assert calibration.reason == (
        "no lower log loss in a cross-validation of the 400 validation slides"
    )
    assert (calibration.temperature, calibration.intercepts) == (1.0, [])
    assert calibration.threshold == pytest.approx(0.5, abs=0.1)


def test_patients_are_not_divided():
    """Copies of a slide in several parts would let it test itself."""
    logits, labels = sample(count=12)
    copies = np.repeat(np.arange(12), 5)
    apart = cross_validated_gain(logits[copies], labels[copies])
    together = cross_validated_gain(logits[copies], labels[copies], [f"p{i}" for i in copies])
    once = cross_validated_gain(logits, labels)
    assert apart != pytest.approx(together)
    assert once != pytest.approx(together / 5)  # five copies weigh more against the prior


def test_the_order_of_classes_changes_nothing():
    logits, labels = sample()
    one = calibrate_logits(logits, labels, 1)
    other = calibrate_logits(logits[:, ::-1], 1 - labels, 0)
    assert other.temperature == pytest.approx(one.temperature)
    assert other.intercepts == pytest.approx(one.intercepts[::-1])
    assert other.threshold == pytest.approx(one.threshold)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "size", [6, pytest.param(10, marks=SLOW), 20, pytest.param(40, marks=SLOW)]
)
def test_new_slides_gain(size):
    """Of twenty cohorts, the mean log loss falls, and no temperature reaches its bound."""
    rng = np.random.default_rng(size)
    gains = []
    for number in range(20):
        auroc = (0.6, 0.75, 0.9, 0.98)[number % 4]
        drawn = cohort(rng, size, auroc, scale=(0.2, 1.0, 4.0, 12.0, 1.0)[number % 5])
        of_head = calibrate_logits(drawn.logits, drawn.labels, 1)
        after = drawn.new_logits / of_head.temperature + np.array(of_head.intercepts or [0, 0])
        gains.append(
            log_loss(drawn.new_logits, drawn.new_labels) - log_loss(after, drawn.new_labels)
        )
        assert 1.01 / BOUND < of_head.temperature < 0.99 * BOUND
    assert np.mean(gains) > 0


@pytest.mark.parametrize("size", [10, pytest.param(40, marks=SLOW)])
def test_calibrated_heads_lose_next_to_nothing(size):
    rng = np.random.default_rng(size)
    losses = []
    for number in range(20):
        drawn = cohort(rng, size, (0.6, 0.75, 0.9, 0.98)[number % 4], scale=1.0)
        of_head = calibrate_logits(drawn.logits, drawn.labels, 1)
        after = drawn.new_logits / of_head.temperature + np.array(of_head.intercepts or [0, 0])
        losses.append(
            log_loss(after, drawn.new_labels) - log_loss(drawn.new_logits, drawn.new_labels)
        )
    assert np.mean(losses) < 0.01
