"""Area between the curves of patch flipping."""

import numpy as np
import pytest

from mil.statistics.flipping import FlipCurves, flip_area

SHARES = np.array([0, 0.01, 0.1, 1])
NAN = float("nan")


def area(most, least, tiles=1000):
    return flip_area(SHARES, FlipCurves(np.array(most, float), np.array(least, float)), tiles)


def test_each_decade_weighs_alike():
    # Two decades: the distance rises to 2 over the first and stays over the second.
    assert area([0, 0, -2, -2], [0, 0, 0, 0]) == pytest.approx((1 + 2) / 2)
    # Share 0 is the whole bag and no part of the axis.
    assert area([9, 0, -2, -2], [0, 0, 0, 0]) == pytest.approx(1.5)


def test_the_other_order_changes_the_sign():
    assert area([0, 0, 0, 0], [0, 0, -2, -2]) == pytest.approx(-1.5)
    assert area([0, 1, 2, 3], [0, 1, 2, 3]) == 0


def test_shares_without_tiles_left_shorten_the_axis():
    assert area([0, -1, -3, NAN], [0, 0, 0, NAN]) == pytest.approx(2)
    assert area([0, -1, NAN, NAN], [0, 0, NAN, NAN]) is None


def test_the_axis_of_a_small_bag_begins_with_its_first_tile():
    """Of 10 tiles, 1 % is one tile as 10 % is: one decade is left."""
    assert area([0, -2, -2, -4], [0, 0, 0, 0], tiles=10) == pytest.approx(3)
    assert area([0, -2, -2, NAN], [0, 0, 0, NAN], tiles=10) is None
    assert area([0, NAN, NAN, NAN], [0, NAN, NAN, NAN], tiles=1) is None
