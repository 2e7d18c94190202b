"""Intervals of proportions against statsmodels, of AUROC by definition, of resamples by formula."""

import numpy as np
import pytest
from scipy import special, stats
from statsmodels.stats.proportion import proportion_confint

from mil.statistics.bootstrap import interval, paired_difference
from mil.statistics.delong import delong
from mil.statistics.intervals import area, newcombe, proportion, wilson
from mil.statistics.normal import expit, logit, t_quantile, two_sided_p


@pytest.mark.parametrize(("right", "n"), [(0, 5), (3, 20), (20, 20), (49, 129)])
def test_wilson(right, n):
    assert wilson(right / n, n) == pytest.approx(
        proportion_confint(right, n, method="wilson"), abs=1e-12
    )


def test_one_slide_a_patient_is_plain_wilson():
    assert proportion(np.array([1.0] * 7 + [0.0] * 3), np.arange(10)) == wilson(0.7, 10)


def test_slides_that_repeat_one_another_count_once():
    right = np.repeat([1.0] * 7 + [0.0] * 3, 4)
    patients = np.repeat(np.arange(10), 4)
    # the variance between patients has 9 below, and 9 degrees of freedom
    assert proportion(right, patients) == pytest.approx(
        wilson(0.7, 9 * (1.959964 / stats.t.ppf(0.975, 9)) ** 2), abs=1e-6
    )
    assert proportion(np.ones(40), patients) == wilson(1.0, 10)
    assert proportion(np.ones(40), np.zeros(40, int)) is None
    # slides of a patient that contradict each other are at most independent
    want = wilson(0.5, 10 * (1.959964 / stats.t.ppf(0.975, 4)) ** 2)
    assert proportion(np.tile([1.0, 0.0], 5), np.arange(10) // 2) == pytest.approx(want, abs=1e-6)


def test_normal_and_t():
    assert two_sided_p(1.5) == pytest.approx(2 * stats.norm.sf(1.5))
    assert two_sided_p(-np.inf) == 0
    assert t_quantile(7) == pytest.approx(stats.t.ppf(0.975, 7))
    assert expit(logit(0.3)) == pytest.approx(0.3)
    assert (expit(-800.0), expit(800.0)) == (0, 1)


def test_area():
    positive = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    scores = np.array([[0.1, 0.4, 0.35, 0.8, 0.3, 0.9, 0.2, 0.7]])
    found = delong(positive, scores)
    low, high = area(found)
    assert low < found.auroc[0] < high < 1
    half = (
        stats.t.ppf(0.975, 6)
        * found.covariance[0, 0] ** 0.5
        / (found.auroc[0] * (1 - found.auroc[0]))
    )
    assert stats.logistic.cdf(stats.logistic.ppf(found.auroc[0]) + half) == pytest.approx(high)


def test_an_area_of_patients_with_several_slides_has_fewer_degrees_of_freedom():
    positive = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    scores = np.array([[0.1, 0.4, 0.35, 0.8, 0.3, 0.9, 0.2, 0.7]])
    found = delong(positive, scores, list("aabccded"))
    low, _ = area(found)
    half = (
        stats.t.ppf(0.975, 1)
        * found.covariance[0, 0] ** 0.5
        / (found.auroc[0] * (1 - found.auroc[0]))
    )
    assert (found.positives, found.negatives) == (2, 3)
    assert stats.logistic.cdf(stats.logistic.ppf(found.auroc[0]) - half) == pytest.approx(low)


def test_an_area_of_one_is_not_certain():
    found = delong(np.array([0] * 10 + [1] * 8), np.arange(18.0)[None])
    low, high = area(found)
    assert high == 1
    assert (low, high) == newcombe(1.0, 8, 10)
    assert 0.7 < low < 0.9
    # the end is where the area found is just 1.96 errors away
    mean = 9 - 1
    variance = low * (1 - low) * (1 + mean * ((1 - low) / (2 - low) + low / (1 + low))) / 80
    assert (1 - low) / variance**0.5 == pytest.approx(stats.norm.ppf(0.975), rel=1e-6)


def test_newcombe_mirrors():
    low, high = newcombe(0.8, 20, 30)
    assert newcombe(0.2, 20, 30) == pytest.approx((1 - high, 1 - low))
    assert low < 0.8 < high


@pytest.mark.parametrize("top", [1.0, 2.0])
def test_the_interval_of_resamples_is_a_t_interval_of_the_log_odds(top):
    drawn = np.array([0.6, 0.7, 0.9, np.nan, 0.8])
    share = 0.75
    patients = 5
    error = np.std([0.6, 0.7, 0.9, 0.8], ddof=1) * (5 / 4) ** 0.5
    half = stats.t.ppf(0.975, 4) * error / (0.75 * 0.25)
    want = special.expit(special.logit(0.75) + np.array([-half, half])) * top
    np.testing.assert_allclose(interval(share * top, drawn * top, patients, top=top), want)


def test_a_value_at_an_end_gets_wilsons_interval_of_patients():
    assert interval(1.0, np.ones(9), 7) == wilson(1.0, 7)
    assert interval(0.4, np.full(9, 0.4), 7) == wilson(0.4, 7)
    assert interval(0.4, np.array([0.1, 0.5]), 1) is None


def test_a_difference_has_the_error_of_its_resamples():
    found = paired_difference(0.1, np.array([0.0, 0.1, 0.3, np.nan]), 4)
    error = np.std([0.0, 0.1, 0.3], ddof=1) * (4 / 3) ** 0.5
    assert found.error == pytest.approx(error)
    assert found.p == pytest.approx(2 * stats.norm.sf(0.1 / error))
    assert found.ci95 == pytest.approx(stats.norm.interval(0.95, 0.1, error))
