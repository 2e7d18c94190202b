"""Dice at a threshold, which validation slides choose; hits of the first tiles."""

import numpy as np
import pytest

from mil.evaluate.dice import best_threshold, dice, ranked_tiles
from mil.evaluate.localise import (
    annotated_share,
    average_precision,
    hit_of_drawn,
    top_hit,
)

SHARE = np.array([1.0, 0.5, 0.4, 0.0, 0.0, 0.0])  # the third lies on the border
VALUES = np.array([0.9, 0.3, 1.0, 0.6, 0.2, 0.1])


def test_dice_by_hand_without_tiles_on_the_border():
    tiles = ranked_tiles(VALUES, SHARE)
    assert tiles.annotated.tolist() == [True, False, True, False, False]
    # None called; 0.9; and 0.6; and 0.3; all five.
    thresholds = np.array([0.95, 0.9, 0.5, 0.3, 0])
    np.testing.assert_allclose(dice(tiles, thresholds), [0, 2 / 3, 2 / 4, 4 / 5, 4 / 7])


def test_the_threshold_has_the_largest_mean_over_the_slides():
    one = ranked_tiles(VALUES, SHARE)
    assert best_threshold([one]) == pytest.approx(0.3)
    other = ranked_tiles(np.array([0.9, 0.8, 0.7, 0.65]), np.array([1.0, 0, 0, 0]))
    # At 0.9: (2/3 + 1) / 2; at 0.3: (4/5 + 2/5) / 2.
    assert best_threshold([one, other]) == pytest.approx(0.9)
    assert best_threshold([]) is None


def test_average_precision_by_hand():
    # Annotated tiles come first and third of the five that are not on the border.
    assert average_precision(VALUES, SHARE) == pytest.approx((1 + 2 / 3) / 2)
    assert annotated_share(SHARE) == pytest.approx(2 / 5)


def test_hits_of_the_first_tiles_by_hand():
    assert [top_hit(VALUES, SHARE, k) for k in (1, 2, 6, 10)] == [0, 1, 1, 1]
    # The first is a miss; of three that tie for second and third, one is annotated.
    tied = np.array([0.5, 0.1, 0.9, 0.5, 0.5, 0.2])
    assert top_hit(tied, SHARE, 2) == pytest.approx(1 / 3)
    assert top_hit(tied, SHARE, 3) == pytest.approx(2 / 3)


def test_hits_by_chance_are_hypergeometric():
    # 1 - C(4, 3) / C(6, 3)
    assert hit_of_drawn(6, 2, 3) == pytest.approx(1 - 4 / 20)
    assert hit_of_drawn(6, 2, 5) == hit_of_drawn(6, 2, 99) == 1
    assert hit_of_drawn(6, 0, 5) == 0
