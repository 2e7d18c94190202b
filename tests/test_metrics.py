"""Metrics against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import f1_score, roc_auc_score

from mil.metrics import auroc, classification, f1_macro, mid_ranks, with_intervals

rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 5)), min_size=3, max_size=40)


@given(rows)
def test_equal_to_scikit_learn(drawn):
    labels, predicted, scores = (np.array(column) for column in zip(*drawn, strict=True))
    assert f1_macro(labels, predicted) == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    np.testing.assert_array_equal(mid_ranks(scores.astype(float)), rankdata(scores))
    positive = (labels == 1).astype(int)
    if 0 < positive.sum() < len(positive):
        assert auroc(positive, scores.astype(float)) == pytest.approx(roc_auc_score(positive, scores))
    else:
        assert auroc(positive, scores.astype(float)) is None


def test_macro_f1_is_not_accuracy_where_classes_are_uneven():
    labels = np.array([0] * 8 + [1, 1])
    probabilities = np.tile([0.9, 0.1], (10, 1))
    found = classification(labels, probabilities)
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["f1_macro"] == pytest.approx(8 / 9 / 2)
    assert found["auroc_macro"] == pytest.approx(0.5)


def test_three_classes_are_averaged_one_against_the_rest():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 3, 60), rng.dirichlet([1, 1, 1], 60)
    want = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert classification(labels, probabilities)["auroc_macro"] == pytest.approx(want)


def test_interval_covers_the_value_and_repeats():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 40)
    p = np.clip(0.5 * labels + rng.normal(0.25, 0.3, 40), 0, 1)
    probabilities, patients = np.stack([1 - p, p], 1), [f"p{i // 2}" for i in range(40)]
    first, again = (with_intervals(labels, probabilities, patients, resamples=200) for _ in range(2))
    assert first == again
    low, high = first["auroc_macro"]["ci95"]
    assert low < first["auroc_macro"]["value"] < high
    assert (first["n_slides"], first["n_patients"]) == (40, 20)


def test_whole_patients_are_drawn():
    # Each patient has one right and one wrong slide: whatever patients are drawn, accuracy is a half.
    labels, probabilities = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.1, 0.9]] * 2)
    found = with_intervals(labels, probabilities, ["a", "a", "b", "b"], resamples=50)
    assert found["accuracy"]["ci95"] == [0.5, 0.5]


def test_a_single_class_has_no_auroc_and_does_not_crash():
    found = with_intervals(np.array([1, 1]), np.array([[0.2, 0.8], [0.6, 0.4]]), ["a", "b"], resamples=20)
    assert found["auroc_macro"] == {"value": None, "ci95": None}
    assert found["accuracy"]["value"] == 0.5


def test_a_single_patient_has_no_interval():
    found = with_intervals(np.array([0, 1]), np.array([[0.8, 0.2], [0.4, 0.6]]), ["a", "a"], resamples=20)
    assert found["accuracy"] == {"value": 1.0, "ci95": None}
