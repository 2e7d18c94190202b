"""Holm's correction against statsmodels; power against its formula and by simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mil.statistics.delong import delong, paired
from mil.statistics.multiple import holm
from mil.statistics.power import (
    hanley_mcneil,
    smallest_auroc,
    smallest_difference,
    smallest_difference_before,
)


@pytest.mark.parametrize(
    "p", [[0.03], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.01], [0.9, 1.0, 0.0]], ids=str
)
def test_holm(p):
    np.testing.assert_allclose(holm(np.array(p)), multipletests(p, method="holm")[1])


def test_holm_of_nothing():
    assert len(holm(np.zeros(0))) == 0


def test_standard_error():
    # by chance it is that of Wilcoxon's rank sum, exactly
    assert hanley_mcneil(0.5, 12, 30) == pytest.approx((43 / (12 * 12 * 30)) ** 0.5)
    # 0.8: Q1 = 2/3, Q2 = 1.28/1.8; (0.16 + 1 (Q1 - 0.64) + 2 (Q2 - 0.64)) / 6
    assert hanley_mcneil(0.8, 2, 3) == pytest.approx(
        ((0.16 + 2 / 3 - 0.64 + 2 * (1.28 / 1.8 - 0.64)) / 6) ** 0.5
    )
    assert hanley_mcneil(1.0, 5, 5) == 0


def test_smallest_auroc():
    found = smallest_auroc(49, 80)
    z = stats.norm.ppf(0.975) * hanley_mcneil(0.5, 49, 80) + stats.norm.ppf(0.8) * hanley_mcneil(
        found, 49, 80
    )
    assert found - 0.5 == pytest.approx(z)
    assert smallest_auroc(10, 10) > found
    assert smallest_auroc(1, 1) is None
    assert smallest_auroc(0, 9) is None


def test_smallest_difference():
    assert smallest_difference(0.02) == pytest.approx(
        0.02 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    )
    assert smallest_difference_before(0.02, 0.5) == pytest.approx(smallest_difference(0.02))
    assert smallest_difference_before(0.02, 0.0) == pytest.approx(
        smallest_difference(0.02) * 2**0.5
    )


def test_a_difference_that_large_is_found_in_four_of_five_sets():
    rng = np.random.default_rng(0)

    def heads(n, gains):
        positive = (np.arange(n) % 2).astype(int)
        common = rng.normal(size=n)
        return positive, np.stack([common + rng.normal(size=n) + gain * positive for gain in gains])

    gains = (1.2, 2.0)
    many = delong(*heads(20_000, gains))
    error = float(np.sqrt([1, -1] @ many.covariance @ [1, -1] * 20_000 / 140))  # of 140 slides
    assert many.auroc[1] - many.auroc[0] == pytest.approx(smallest_difference(error), rel=0.12)
    shown = np.mean([paired(delong(*heads(140, gains)), 0, 1).p < 0.05 for _ in range(400)])
    assert shown == pytest.approx(0.8, abs=0.09)
