"""Survival curves and the log-rank test against lifelines."""

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test

from mil.statistics.kaplan_meier import kaplan_meier, log_rank, number_at_risk


def followed(n: int = 50, seed: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times with ties, events and groups."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % 2
    times = np.ceil(rng.exponential(10 / (1 + group)))
    return times, rng.random(n) < 0.7, group


@pytest.mark.parametrize("last_is_event", [True, False])
def test_the_estimate_is_that_of_lifelines(last_is_event):
    times, events, _ = followed()
    events[times.argmax()] = last_is_event
    fitter = KaplanMeierFitter().fit(times, events)
    curve = kaplan_meier(times, events)
    theirs = fitter.survival_function_.loc[curve.times].to_numpy()[:, 0]
    np.testing.assert_allclose(curve.survival, theirs, atol=1e-12)
    ends = fitter.confidence_interval_survival_function_.loc[curve.times].to_numpy()
    known = np.isfinite(ends).all(1) & (curve.survival > 0)
    np.testing.assert_allclose(curve.low[known], ends[known, 0], atol=1e-9)
    np.testing.assert_allclose(curve.high[known], ends[known, 1], atol=1e-9)
    assert curve.median == fitter.median_survival_time_
    at_risk = fitter.event_table["at_risk"].loc[curve.times[1:]].to_numpy()
    np.testing.assert_array_equal(number_at_risk(times, curve.times[1:]), at_risk)


def test_the_log_rank_test_is_that_of_lifelines():
    times, events, group = followed()
    theirs = logrank_test(
        times[group == 0], times[group == 1], events[group == 0], events[group == 1]
    )
    ours = log_rank(times, events, group)
    assert ours.chi2 == pytest.approx(theirs.test_statistic)
    assert ours.p == pytest.approx(theirs.p_value)


def test_by_hand():
    """Of four one dies at 1, one is lost at 2, one dies at 3, one at 4."""
    curve = kaplan_meier(np.array([1.0, 2, 3, 4]), np.array([True, False, True, True]))
    assert curve.times.tolist() == [0, 1, 3, 4]
    assert curve.survival == pytest.approx([1, 3 / 4, 3 / 8, 0])
    assert curve.median == 3
    assert curve.censored.tolist() == [2]
    assert curve.at(np.array([0.0, 2.9, 3, 99])) == pytest.approx([1, 3 / 4, 3 / 8, 0])
    assert (curve.low[-1], curve.high[-1]) == (0, 0)


def test_nobody_has_the_event():
    curve = kaplan_meier(np.array([1.0, 2]), np.array([False, False]))
    assert curve.survival.tolist() == [1]
    assert curve.median is None


@pytest.mark.parametrize(("events", "group", "reason"), [
    ([True, True], [1, 1], "one of the groups is empty"),
    ([False, False], [0, 1], "no event"),
    ([False, True], [0, 1], "while both groups were at risk"),
])  # fmt: skip
def test_groups_without_a_test_say_why(events, group, reason):
    with pytest.raises(ValueError, match=reason):
        log_rank(np.array([1.0, 2.0]), np.array(events), np.array(group))
