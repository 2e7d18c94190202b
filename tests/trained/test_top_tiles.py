"""The tiles at either end of a map."""

import numpy as np
import pytest

from mil.trained.top_tiles import extreme_tiles, ranked_tiles

VALUES = np.array([0.5, 2.0, -1.0, 2.0, 0.0])


def test_ties_stand_in_the_order_of_the_bag():
    assert ranked_tiles(VALUES).tolist() == [1, 3, 0, 4, 2]


@pytest.mark.parametrize(
    ("counts", "top", "bottom"),
    [
        ((2,), [1, 3], [2, 4]),
        ((1, 3), [1], [2, 4, 0]),
        ((0, 2), [], [2, 4]),
        # No tile stands at both ends.
        ((3,), [1, 3, 0], [2, 4]),
        ((8,), [1, 3, 0, 4, 2], []),
    ],
)
def test_no_tile_is_at_both_ends(counts, top, bottom):
    extremes = extreme_tiles(VALUES, *counts)
    assert (extremes.top.tolist(), extremes.bottom.tolist()) == (top, bottom)


def test_nor_where_all_values_tie():
    top, bottom = extreme_tiles(np.zeros(6), 2)
    assert (top.tolist(), bottom.tolist()) == ([0, 1], [5, 4])
