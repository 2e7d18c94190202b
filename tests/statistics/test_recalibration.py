"""Calibration slope and intercept against statsmodels."""

import numpy as np
import pytest
from scipy.stats import t
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from mil.statistics.recalibration import log_odds, recalibrate


def slides(n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and too extreme probabilities of slides, three of a patient."""
    rng = np.random.default_rng(1)
    odds = rng.normal(size=n)
    positive = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(int)
    return positive, 1 / (1 + np.exp(-2 * odds - 0.5)), np.arange(n) // 3


def fit(positive, odds, member, *, free: bool):
    """The fit by statsmodels with the variance between patients."""
    ones = np.ones(len(odds))
    design = np.stack([ones, odds], 1) if free else ones[:, None]
    model = GLM(positive, design, family=Binomial(), offset=None if free else odds)
    return model.fit(tol=1e-12, cov_type="cluster", cov_kwds={"groups": member}, use_t=True)


def test_slope_and_intercept_are_those_of_statsmodels():
    positive, probabilities, member = slides()
    result = recalibrate(positive, probabilities, member)
    odds = log_odds(probabilities)
    patients = member.max()
    free = fit(positive, odds, member, free=True)
    held = fit(positive, odds, member, free=False)
    np.testing.assert_allclose(result.fitted, free.params, rtol=1e-7)
    np.testing.assert_allclose(result.covariance, free.cov_params(), rtol=1e-6)
    assert result.slope == pytest.approx(free.params[1], rel=1e-7)
    assert result.intercept == pytest.approx(held.params[0], rel=1e-7)
    half = t.ppf(0.975, patients) * held.bse[0]
    assert result.intercept_ci95 == pytest.approx((held.params[0] - half, held.params[0] + half))
    # Probabilities whose log odds are doubled have slope one half.
    assert 0.3 < result.slope < 0.7


def test_the_curve_is_the_prediction_of_statsmodels():
    positive, probabilities, member = slides()
    result = recalibrate(positive, probabilities, member)
    at = np.array([0.1, 0.5, 0.9])
    middle, low, high = result.curve(at)
    free = fit(positive, log_odds(probabilities), member, free=True)
    design = np.stack([np.ones(3), log_odds(at)], 1)
    np.testing.assert_allclose(middle, free.predict(design), rtol=1e-6)
    assert (low < middle).all()
    assert (middle < high).all()


@pytest.mark.parametrize(("positive", "probabilities", "reason"), [
    ([1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], "of one class"),
    ([0, 1, 0, 1], [0.3, 0.3, 0.3, 0.3], "all predictions are equal"),
    ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], "every slope fits"),
    ([1, 1, 0, 0], [0.1, 0.2, 0.2, 0.4], "every slope fits"),
])  # fmt: skip
def test_slides_without_a_fit_say_why(positive, probabilities, reason):
    with pytest.raises(ValueError, match=reason):
        recalibrate(np.array(positive), np.array(probabilities), np.arange(4))
    with pytest.raises(ValueError, match=r"one class|fewer than three patients"):
        recalibrate(np.array(positive), np.array([0.1, 0.3, 0.2, 0.4]), np.array([0, 0, 1, 1]))


def test_certain_probabilities_are_fitted():
    positive = np.array([0, 1, 1, 0, 1, 0])
    probabilities = np.array([0.0, 1.0, 0.0, 1.0, 0.7, 0.2])
    result = recalibrate(positive, probabilities, np.arange(6))
    assert np.isfinite(result.fitted).all()
    assert abs(result.slope) < 0.2
