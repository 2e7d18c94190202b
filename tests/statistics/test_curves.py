"""ROC and precision-recall curves against scikit-learn; their bands."""

import numpy as np
import pytest
from scipy.stats import norm, t
from sklearn import metrics as sklearn_metrics

from mil.statistics.bootstrap import weights
from mil.statistics.curves import (
    GRID,
    precision_recall_band,
    precision_recall_curve,
    roc_band,
    roc_curve,
)
from mil.statistics.discrimination import auprc, auroc
from mil.statistics.intervals import wilson


def slides(seed: int = 0, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores with ties, and patients of two slides each."""
    rng = np.random.default_rng(seed)
    positive = (rng.random(n) < 0.4).astype(int)
    scores = np.round(rng.normal(positive), 1)
    return positive, scores, np.arange(n) // 2


def test_roc_is_that_of_scikit_learn():
    positive, scores, _ = slides()
    x, y, _ = sklearn_metrics.roc_curve(positive, scores, drop_intermediate=False)
    curve = roc_curve(positive, scores)
    np.testing.assert_allclose(curve.x, x, atol=1e-12)
    np.testing.assert_allclose(curve.y, y, atol=1e-12)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(auroc(positive, scores))


def test_precision_and_recall_are_those_of_scikit_learn():
    positive, scores, _ = slides()
    precision, recall, _ = sklearn_metrics.precision_recall_curve(positive, scores)
    curve = precision_recall_curve(positive, scores)
    # scikit-learn begins with all slides and ends with a point of its own at recall 0.
    np.testing.assert_allclose(curve.x[1:], recall[::-1][1:], atol=1e-12)
    np.testing.assert_allclose(curve.y[1:], precision[::-1][1:], atol=1e-12)
    assert (curve.x[0], curve.y[0]) == (0, curve.y[1])
    steps = (np.diff(curve.x) * curve.y[1:]).sum()
    assert steps == pytest.approx(auprc(positive, scores))


@pytest.mark.parametrize(("curve_of", "band_of"), [
    (roc_curve, roc_band), (precision_recall_curve, precision_recall_band),
])  # fmt: skip
def test_a_band_holds_its_curve_and_is_of_whole_patients(curve_of, band_of):
    positive, scores, member = slides()
    band = band_of(positive, scores, member)
    assert np.array_equal(band.x, GRID)
    curve = curve_of(positive, scores)
    if curve_of is roc_curve:
        last = np.searchsorted(curve.x, GRID, side="right") - 1
        height = np.interp(GRID, curve.x, curve.y)
        height[curve.x[last] == GRID] = curve.y[last][curve.x[last] == GRID]
    else:
        height = curve.y[np.searchsorted(curve.x, GRID - 1e-9)]
    assert (band.low <= height + 1e-9).all()
    assert (height <= band.high + 1e-9).all()
    assert (band.low >= 0).all()
    assert (band.high <= 1).all()
    # The same slides as independent patients say more.
    alone = band_of(positive, scores, np.arange(len(positive)))
    twice = np.tile(np.arange(len(positive)), 2)
    double = band_of(np.tile(positive, 2), np.tile(scores, 2), twice)
    np.testing.assert_allclose(double.low, alone.low, atol=0.02)


def test_a_point_of_the_band_is_wilsons_interval_by_its_resamples():
    """Precision at recall 0.5 of each resample, by scikit-learn."""
    positive, scores, member = slides()

    def precision(weight=None) -> float:
        precisions, recalls, _ = sklearn_metrics.precision_recall_curve(
            positive, scores, sample_weight=weight
        )
        return precisions[np.flatnonzero(recalls > 0.5 - 1e-9)[-1]]

    drawn = [precision(row) for row in next(weights(member, resamples=200))]
    variance = np.var(drawn, ddof=1) * 30 / 29
    rarer = min(len(set(member[positive == 1])), len(set(member[positive == 0])))
    share = precision()
    n = share * (1 - share) / variance * (1.959964 / t.ppf(0.975, rarer - 1)) ** 2
    half = 0.5 * len(set(member[positive == 1]))
    band = precision_recall_band(positive, scores, member, resamples=200)
    assert (band.low[25], band.high[25]) == pytest.approx(wilson(share, min(n, half)), abs=1e-5)


def test_the_band_of_a_sensitivity_never_falls():
    positive, scores, member = slides(seed=4)
    band = roc_band(positive, scores, member)
    assert (np.diff(band.low) >= 0).all()
    assert (np.diff(band.high) >= 0).all()


def test_perfect_scores_have_a_band_and_single_patients_none():
    positive = np.array([0, 0, 0, 1, 1, 1])
    band = roc_band(positive, positive.astype(float), np.arange(6))
    # Wilson's interval of three patients of three.
    assert band.low[0] == pytest.approx(0.4385, abs=1e-4)
    assert band.high[0] == 1
    assert roc_band(positive, positive.astype(float), np.array([0, 1, 2, 3, 3, 3])) is None


def test_equal_scores_are_one_point():
    curve = roc_curve(np.array([0, 1, 1]), np.zeros(3))
    assert (curve.x.tolist(), curve.y.tolist()) == ([0, 1], [0, 1])
    band = roc_band(np.array([0, 1, 0, 1]), np.zeros(4), np.arange(4))
    assert band.low[25] < 0.5 < band.high[25]


@pytest.mark.slow
@pytest.mark.parametrize("n", [40, 120])
@pytest.mark.parametrize("band_of", [roc_band, precision_recall_band])
def test_bands_cover(band_of, n):
    """The curve of two normal distributions one apart, half of the slides positive."""
    inner = slice(5, 46, 5)
    truth = norm.cdf(norm.ppf(GRID[inner]) + 1)
    if band_of is precision_recall_band:
        called_negatives = norm.sf(norm.isf(GRID[inner], loc=1))
        truth = GRID[inner] / (GRID[inner] + called_negatives)
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(300):
        positive = (rng.random(n) < 0.5).astype(int)
        band = band_of(positive, rng.normal(positive), np.arange(n), resamples=300)
        covered.append((band.low[inner] <= truth) & (truth <= band.high[inner]))
    assert np.mean(covered) > 0.93
    assert np.mean(covered, 0).min() > 0.9
