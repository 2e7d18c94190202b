"""The 2x2 table by hand."""

import numpy as np
import pytest

from mil.statistics.predictive_values import two_by_two

# Ten slides of ten patients: 3 of 4 positives are called, 2 of 6 negatives.
POSITIVE = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
CALLED = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])


def test_counts_and_intervals_by_hand():
    table = two_by_two(POSITIVE, CALLED, np.arange(10))
    assert table[:4] == (3, 2, 1, 4)
    assert table.n == 10
    # Wilson's intervals of 3/4, 4/6, 3/5 and 4/5 (Newcombe 1998, method 3).
    for metric, value, ends in (
        (table.sensitivity, 0.75, (0.3006, 0.9544)),
        (table.specificity, 2 / 3, (0.3000, 0.9032)),
        (table.ppv, 0.6, (0.2307, 0.8824)),
        (table.npv, 0.8, (0.3755, 0.9638)),
    ):
        assert metric.value == pytest.approx(value)
        assert metric.ci95 == pytest.approx(ends, abs=1e-4)


def test_slides_of_one_patient_say_less():
    alone = two_by_two(POSITIVE, CALLED, np.arange(10))
    grouped = two_by_two(POSITIVE, CALLED, np.array([0, 0, 1, 2, 3, 3, 4, 4, 5, 5]))
    assert grouped[:4] == alone[:4]
    assert grouped.specificity.ci95[0] < alone.specificity.ci95[0]


def test_what_no_slide_allows_has_no_value():
    table = two_by_two(np.zeros(3, int), np.zeros(3, int), np.arange(3))
    assert (table.sensitivity.value, table.ppv.value) == (None, None)
    assert table.npv.value == 1
    assert two_by_two(POSITIVE, CALLED, np.zeros(10, int)).npv.ci95 is None
