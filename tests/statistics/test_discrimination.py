"""AUROC and average precision, plain and weighted, against scikit-learn and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from mil.statistics.discrimination import (
    auprc,
    auroc,
    mid_ranks,
    one_vs_rest,
    weighted_auprc,
    weighted_auroc,
)

rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=40
)
OURS = [(auroc, weighted_auroc, roc_auc_score), (auprc, weighted_auprc, average_precision_score)]


@given(rows)
def test_equal_to_scikit_learn_with_ties_and_weights(drawn):
    positive, scores, times = (np.array(column) for column in zip(*drawn, strict=True))
    scores = scores / 8
    for plain, weighted, theirs in OURS:
        if 0 < positive.sum() < len(positive):
            assert plain(positive, scores) == pytest.approx(theirs(positive, scores))
        else:
            assert plain(positive, scores) is None
        there = positive[times > 0]
        stack = np.stack([times, np.ones(len(times))]).astype(float)
        found = weighted(positive, scores, stack)
        if 0 < there.sum() < len(there):
            assert found[0] == pytest.approx(theirs(positive, scores, sample_weight=times))
            # a weight is a repetition
            repeated = np.repeat(np.arange(len(times)), times)
            assert found[0] == pytest.approx(theirs(positive[repeated], scores[repeated]))
        else:
            assert np.isnan(found[0])


@given(rows)
def test_ranks(drawn):
    values = np.array([row[1] for row in drawn], float)
    np.testing.assert_array_equal(mid_ranks(values), rankdata(values))


def test_by_hand():
    # descending: + - + -; AUROC: 3 of 4 pairs; precision 1 at the first positive, 2/3
    # at the second
    positive = np.array([1, 0, 1, 0])
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    assert auroc(positive, scores) == 0.75
    assert auprc(positive, scores) == pytest.approx((1 + 2 / 3) / 2)


def test_three_classes_are_averaged_one_against_the_rest():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    probabilities = rng.dirichlet([1, 1, 1], 60)
    once = np.ones((1, 60))
    want = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert one_vs_rest(weighted_auroc, labels, probabilities, once)[0] == pytest.approx(want)
    want = average_precision_score(np.eye(3)[labels], probabilities, average="macro")
    assert one_vs_rest(weighted_auprc, labels, probabilities, once)[0] == pytest.approx(want)


def test_a_class_that_does_not_occur_is_not_averaged():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.4, 0.5, 0.1], [0, 1, 0]])
    want = np.mean([roc_auc_score(labels == c, probabilities[:, c]) for c in (0, 1)])
    assert one_vs_rest(weighted_auroc, labels, probabilities, np.ones((1, 4)))[0] == pytest.approx(
        want
    )
