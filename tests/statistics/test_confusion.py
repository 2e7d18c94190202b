"""Counted metrics against scikit-learn, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from mil.statistics import confusion as ours

rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


@given(rows)
def test_equal_to_scikit_learn(drawn):
    labels, predicted = (np.array(column) for column in zip(*drawn, strict=True))
    table = ours.confusion(labels, predicted, 3)
    np.testing.assert_array_equal(
        table, theirs.confusion_matrix(labels, predicted, labels=[0, 1, 2])
    )
    assert ours.accuracy(table) == pytest.approx(theirs.accuracy_score(labels, predicted))
    assert ours.f1_macro(table) == pytest.approx(
        theirs.f1_score(labels, predicted, average="macro", zero_division=0)
    )
    assert ours.f1_micro(table) == pytest.approx(
        theirs.f1_score(labels, predicted, average="micro", zero_division=0)
    )
    recalls = theirs.recall_score(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    assert ours.balanced_accuracy(table) == pytest.approx(recalls)


def test_two_classes_by_hand():
    labels = np.array([1] * 10 + [0] * 20)
    called = np.array([1] * 7 + [0] * 3 + [1] * 5 + [0] * 15)
    table = ours.confusion(labels, called, 2)
    assert table.tolist() == [[15, 5], [3, 7]]
    found = [float(f(table)) for f in (ours.sensitivity, ours.specificity, ours.ppv, ours.npv)]
    assert found == pytest.approx([7 / 10, 15 / 20, 7 / 12, 15 / 18])
    assert ours.balanced_accuracy(table) == pytest.approx((0.7 + 0.75) / 2)
    assert ours.f1_macro(table) == pytest.approx((2 * 7 / (10 + 12) + 2 * 15 / (20 + 18)) / 2)


def test_micro_macro_and_accuracy_where_classes_are_uneven():
    labels = np.array([0] * 8 + [1, 1])
    table = ours.confusion(labels, np.zeros(10, int), 2)
    assert ours.accuracy(table) == ours.f1_micro(table) == pytest.approx(0.8)
    assert ours.f1_macro(table) == pytest.approx(8 / 9 / 2)
    assert ours.balanced_accuracy(table) == 0.5
    assert np.isnan(ours.ppv(table))  # nobody is called positive


def test_a_weight_is_a_repetition():
    rng = np.random.default_rng(0)
    labels, predicted, times = (rng.integers(0, high, 30) for high in (3, 3, 4))
    found = ours.weighted_confusion(
        labels, predicted, 3, np.stack([times, np.ones(30)]).astype(float)
    )
    again = np.repeat(np.arange(30), times)
    np.testing.assert_array_equal(found[0], ours.confusion(labels[again], predicted[again], 3))
    np.testing.assert_array_equal(found[1], ours.confusion(labels, predicted, 3))
    np.testing.assert_allclose(ours.f1_macro(found), [ours.f1_macro(table) for table in found])
