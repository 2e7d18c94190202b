"""Outlines of a mask: its area and place, with holes, up to the border."""

import numpy as np
import pytest
from shapely import unary_union

from mil.tile.outlines import outlines
from tests.tile.test_tissue import disc


def test_outlines_have_the_masks_area_and_place():
    mask = disc(3.0) & ~disc(0.4) | disc(0.2, (750, 500))
    scale = 16.0
    origin = (1000, 500)
    pieces = outlines(mask, scale, origin)
    assert len(pieces) == 2
    assert sum(len(piece.interiors) for piece in pieces) == 1
    whole = unary_union(pieces)
    assert whole.is_valid
    assert whole.area == pytest.approx(mask.sum() * scale**2, rel=0.02)
    y, x = np.nonzero(mask)
    assert whole.centroid.x == pytest.approx((x.mean() + 0.5) * scale + origin[0], abs=scale / 4)
    assert whole.centroid.y == pytest.approx((y.mean() + 0.5) * scale + origin[1], abs=scale / 4)


def test_outline_of_a_square_and_of_what_touches_the_border():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 0:10] = True
    (piece,) = outlines(mask, 4.0, (0, 0))
    np.testing.assert_allclose(piece.bounds, (0, 20, 40, 60), atol=2.0)
    assert outlines(np.zeros((5, 5), bool), 4.0, (0, 0)) == []
