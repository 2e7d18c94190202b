"""Detections: highest tiles, each with nothing higher near it."""

import numpy as np
import pytest

from mil.evaluate.detections import RADIUS_UM, radius_um, suppressed_maxima


def row(*x):
    return np.stack([np.array(x, float), np.zeros(len(x))], axis=1)


def test_by_hand():
    centres = row(0, 100, 200, 300, 400)
    values = np.array([1.0, 3, 2, 1, 0])
    # 100 takes 0 and 200 away; 300 is left, and takes 400.
    assert suppressed_maxima(centres, values, 100.0).tolist() == [1, 3]
    assert suppressed_maxima(centres, values, 99.0).tolist() == [1, 2, 0, 3, 4]
    assert suppressed_maxima(centres, values, 99.0, most=2).tolist() == [1, 2]


def test_what_is_minus_infinity_is_no_detection_and_ties_go_by_order():
    centres = row(0, 1, 50)
    assert suppressed_maxima(centres, np.array([5.0, 5, -np.inf]), 10.0).tolist() == [0]
    assert suppressed_maxima(centres, np.full(3, -np.inf), 10.0).tolist() == []


def test_overlapping_tiles_are_suppressed_by_distance_and_not_by_number():
    """At a quarter of the stride four times as many tiles lie within the radius."""
    x = np.arange(0, 1000, 28.0)
    tiles = suppressed_maxima(row(*x), -np.abs(x - 504), 187.0)
    assert x[tiles].tolist() == [504, 308, 700, 112, 896]


def test_the_radius_reaches_the_eight_tiles_around():
    assert radius_um(112.0) == RADIUS_UM
    assert radius_um(300.0) > 300 * 2**0.5
    side = 300.0
    grid = np.array([[x, y] for y in range(3) for x in range(3)]) * side
    values = np.array([0.0, 1, 2, 3, 9, 4, 5, 6, 7])
    assert suppressed_maxima(grid, values, radius_um(side)).tolist() == [4]


@pytest.mark.parametrize("seed", range(5))
def test_as_by_comparing_every_pair(seed):
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 12, size=(30, 2)).astype(float)
    values = rng.integers(0, 9, size=30).astype(float)
    left = list(np.argsort(-values, kind="stable"))
    expected = []
    while left:
        expected.append(int(left[0]))
        left = [n for n in left if np.hypot(*(centres[n] - centres[left[0]])) > 3]
    assert suppressed_maxima(centres, values, 3.0).tolist() == expected
