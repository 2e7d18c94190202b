"""Youden's cut: by hand, and against scikit-learn's curve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from mil.statistics.threshold import validation_threshold, youden_threshold


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


def test_few_slides_draw_it_towards_a_half():
    scores = np.array([0.1, 0.2, 0.6, 0.9])
    positive = np.array([0, 0, 1, 1])
    for copies, weight in ((1, 4 / 24), (5, 20 / 40), (500, 2000 / 2020)):
        drawn = validation_threshold(np.tile(positive, copies), np.tile(scores, copies))
        assert np.log(drawn / (1 - drawn)) == pytest.approx(weight * np.log(0.4 / 0.6))
    # 10 slides, of which one is positive, count as 3.6.
    few = validation_threshold(np.array([0] * 9 + [1]), np.array([0.1] * 9 + [0.3]))
    assert np.log(few / (1 - few)) == pytest.approx(3.6 / 23.6 * np.log(0.2 / 0.8))
    assert validation_threshold(np.array([1, 1]), np.array([0.2, 0.7])) == 0.5
    assert 0.5 < validation_threshold(positive, np.array([1 - 1e-16, 1, 1, 1])) <= 1


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
