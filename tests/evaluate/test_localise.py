"""How well attention finds annotated regions: areas and borders by hand."""

import numpy as np
import pytest
from shapely import MultiPolygon, Point, Polygon, box

from mil.evaluate.localise import share_annotated, tile_auroc

GRID = np.array([[0, 0], [100, 0], [200, 0], [0, 100], [100, 100], [200, 100]])


def test_share_of_a_rectangle():
    share = share_annotated(GRID, 100.0, MultiPolygon([box(50, -10, 225, 75)]))
    np.testing.assert_allclose(share, [0.5 * 0.75, 0.75, 0.25 * 0.75, 0, 0, 0])


def test_share_with_a_hole_and_two_pieces():
    ring = Polygon(box(0, 0, 200, 200).exterior, [box(20, 20, 120, 120).exterior])
    share = share_annotated(GRID, 100.0, MultiPolygon([ring, box(290, 190, 400, 400)]))
    expected = [1 - 0.8 * 0.8, 1 - 0.2 * 0.8, 0, 1 - 0.8 * 0.2, 1 - 0.2 * 0.2, 0.01]
    np.testing.assert_allclose(share, expected)


def test_share_of_a_disc_and_a_fractional_side():
    disc = Point(150, 100).buffer(40, quad_segs=256)
    share = share_annotated(GRID, 100.0, MultiPolygon([disc]))
    np.testing.assert_allclose(share, [0, np.pi * 0.08, 0, 0, np.pi * 0.08, 0], atol=1e-4)
    half = share_annotated(np.array([[10, 10]]), 62.5, MultiPolygon([box(10, 10, 41.25, 100)]))
    np.testing.assert_allclose(half, [0.5])


def test_nothing_annotated():
    assert share_annotated(GRID, 100.0, MultiPolygon()).tolist() == [0.0] * 6


def test_auroc_leaves_border_tiles_out():
    share = np.array([1.0, 0.5, 0.49, 0.01, 0.0, 0.0])
    attention = np.array([0.9, 0.3, 0.0, 1.0, 0.2, 0.5])  # border tiles would spoil it
    assert tile_auroc(attention, share) == pytest.approx(3 / 4)
    assert tile_auroc(attention[[0, 1, 4]], share[[0, 1, 4]]) == 1.0


@pytest.mark.parametrize("share", [[0.0, 0.0, 0.2], [1.0, 0.7, 0.2]])
def test_auroc_needs_both_kinds(share):
    assert tile_auroc(np.array([0.1, 0.2, 0.3]), np.array(share)) is None
