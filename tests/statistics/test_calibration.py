"""Brier score against scikit-learn, ECE by hand."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from mil.statistics.calibration import (
    brier,
    ece,
    ece_if_calibrated,
    reliability,
    weighted_ece,
)


def test_brier():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 50)
    probabilities = rng.dirichlet([1, 1], 50)
    assert brier(labels, probabilities) == pytest.approx(
        brier_score_loss(labels, probabilities[:, 1])
    )
    labels = rng.integers(0, 3, 50)
    probabilities = rng.dirichlet([1, 1, 1], 50)
    want = brier_score_loss(labels, probabilities, labels=[0, 1, 2], scale_by_half=False)
    assert brier(labels, probabilities) == pytest.approx(want)


def test_ece_by_hand():
    p = np.array([0.05, 0.15, 0.15, 0.95, 1.0])
    labels = np.array([0, 1, 0, 1, 0])
    probabilities = np.stack([1 - p, p], 1)
    rows = reliability(labels, probabilities)
    assert [(row.n, round(row.said, 9), row.found) for row in rows] == [
        (1, 0.05, 0),
        (2, 0.15, 0.5),
        (2, 0.975, 0.5),
    ]
    assert (rows[-1].low, rows[-1].high) == (0.9, 1.0)
    assert ece(labels, probabilities) == pytest.approx((1 * 0.05 + 2 * 0.35 + 2 * 0.475) / 5)
    # of several classes: the most probable one, and whether it was right
    three = np.array([[0.95, 0.05, 0.0], [0.1, 0.85, 0.05]])
    assert ece(np.array([0, 2]), three) == pytest.approx((0.05 + 0.85) / 2)


def test_ece_of_weights_is_that_of_repetitions():
    rng = np.random.default_rng(2)
    p = rng.random(30)
    times = rng.integers(0, 3, 30)
    labels = (rng.random(30) < p).astype(int)
    again = np.repeat(np.arange(30), times)
    probabilities = np.stack([1 - p, p], 1)
    found = weighted_ece(p, labels.astype(float), times[None].astype(float))
    assert found[0] == pytest.approx(ece(labels[again], probabilities[again]))


def test_range_of_ece_without_fault():
    rng = np.random.default_rng(3)
    p = rng.random(60)
    probabilities = np.stack([1 - p, p], 1)
    member = np.arange(60)
    low, high = ece_if_calibrated(probabilities, member)
    found = np.array([ece((rng.random(60) < p).astype(int), probabilities) for _ in range(500)])
    assert (found < low).mean() == pytest.approx(0.025, abs=0.02)
    assert (found > high).mean() == pytest.approx(0.025, abs=0.02)
    # slides of one patient are chance once: the fewer patients, the wider
    assert ece_if_calibrated(probabilities, member // 6)[1] > high
