"""Net benefit against dcurves."""

import numpy as np
import pytest

from mil.statistics.decision_curve import (
    THRESHOLDS,
    net_benefit,
    net_benefit_with_band,
    treat_all,
)

POSITIVE = np.array([0, 1, 0, 1, 1, 0, 0, 0, 1, 0])
PROBABILITIES = np.array([0.1, 0.4, 0.5, 0.65, 0.9, 0.25, 0.05, 0.5, 0.5, 1.0])


@pytest.mark.slow
def test_net_benefit_is_that_of_dcurves():
    # Imported here: pandas and lifelines take two seconds.
    import dcurves
    import pandas as pd

    frame = pd.DataFrame({"y": POSITIVE, "model": PROBABILITIES})
    table = dcurves.dca(data=frame, outcome="y", modelnames=["model"], thresholds=THRESHOLDS)
    for name, ours in (
        ("model", net_benefit(POSITIVE, PROBABILITIES)),
        ("all", treat_all(POSITIVE)),
        ("none", np.zeros(99)),
    ):
        theirs = table[table["model"] == name]["net_benefit"].to_numpy(float)
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_a_threshold_is_an_exchange_rate():
    # At 0.5: four called positives are, three of seven are not.
    at_half = net_benefit(POSITIVE, PROBABILITIES, np.array([0.5, 0.8]))
    assert at_half == pytest.approx([3 / 10 - 3 / 10, 1 / 10 - 1 / 10 * 4])


def test_the_band_is_of_patients():
    member = np.arange(10)
    banded = net_benefit_with_band(POSITIVE, PROBABILITIES, member)
    np.testing.assert_array_equal(banded.value, net_benefit(POSITIVE, PROBABILITIES))
    assert (banded.low <= banded.value).all()
    twice = net_benefit_with_band(
        np.tile(POSITIVE, 2), np.tile(PROBABILITIES, 2), np.tile(member, 2)
    )
    np.testing.assert_allclose(twice.high, banded.high)
    # Of a mean over ten patients the bootstrap gives the standard error.
    gain = (PROBABILITIES >= 0.5) * np.where(POSITIVE == 1, 1.0, -1.0)
    error = gain.std(ddof=1) / 10**0.5
    assert (banded.high - banded.value)[49] / 2.262 == pytest.approx(error, rel=0.1)
    assert net_benefit_with_band(POSITIVE, PROBABILITIES, np.zeros(10, int)).low is None
