"""Youden's cut: by hand, and against scikit-learn's curve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from mil.statistics.threshold import youden_threshold


def gain(positive, scores, cut):
    return (scores[positive == 1] >= cut).mean() - (scores[positive == 0] >= cut).mean()


def test_middle_between_neighbours():
    assert youden_threshold(
        np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.9])
    ) == pytest.approx(0.4)


def test_the_middlemost_of_equal_cuts():
    # + - + -: cutting at 0.85 and at 0.5 both gain a half
    positive = np.array([1, 0, 1, 0])
    scores = np.array([0.9, 0.8, 0.7, 0.3])
    assert gain(positive, scores, 0.85) == gain(positive, scores, 0.5) == 0.5
    assert youden_threshold(positive, scores) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("positive", "scores"),
    [
        ([1, 1], [0.2, 0.7]),
        ([0, 0], [0.2, 0.7]),
        ([0, 1], [0.3, 0.3]),
        ([1, 0], [0.2, 0.9]),
        ([], []),
    ],
    ids=["positives", "negatives", "all_equal", "wrong_way_round", "nothing"],
)
def test_no_choice(positive, scores):
    assert youden_threshold(np.array(positive, int), np.array(scores, float)) == 0.5


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=2, max_size=30))
def test_no_cut_is_better(drawn):
    positive = np.array([d[0] for d in drawn])
    scores = np.array([d[1] / 8 for d in drawn])
    if not 0 < positive.sum() < len(positive):
        return
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    best = (true - false).max()
    cut = youden_threshold(positive, scores)
    if best > 1e-9:
        assert gain(positive, scores, cut) == pytest.approx(best)
        assert cut not in scores
    else:
        assert cut == 0.5
