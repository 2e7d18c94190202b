"""The tile grid: where tiles are, and how much of them the mask covers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mil.tile.grid import footprint_px, grid, share_inside

extents = st.tuples(st.integers(0, 3000), st.integers(0, 3000))
sides = st.floats(30, 700)
origins = st.tuples(st.integers(0, 5000), st.integers(0, 5000))


@given(extents, sides, origins)
def test_tiles_lie_inside_row_by_row_and_errors_do_not_add_up(extent, side, origin):
    corners = grid(extent, side, origin)
    columns, rows = (len(np.unique(corners[:, k])) for k in (0, 1))
    assert len(corners) == columns * rows  # none twice
    # row by row
    i = np.tile(np.arange(columns), rows)
    j = np.repeat(np.arange(rows), columns)
    ideal = np.array(origin) + np.stack([i, j], axis=1) * side
    assert np.abs(corners - ideal).max(initial=0) <= 0.5
    assert (ideal + side <= np.array(origin) + extent + 1e-5).all()  # inside
    if len(corners):
        full = (columns + 1) * side > extent[0] - 1e-5, (rows + 1) * side > extent[1] - 1e-5
        assert full == (True, True)  # no further column or row would fit
    else:
        assert min(extent) < side


def test_an_odd_side_by_hand():
    assert grid((1000, 700), 333.3, (10, 20)).tolist() == [
        [10, 20],
        [343, 20],
        [677, 20],
        [10, 353],
        [343, 353],
        [677, 353],
    ]
    assert grid((896, 448), 448.0).tolist() == [[0, 0], [448, 0]]
    assert len(grid((895, 448), 448.0)) == 1


def test_a_side_that_fits_exactly_but_for_rounding():
    side = footprint_px(224, 0.5, 0.2472)  # 453.07...
    assert len(grid((round(side * 7), 500), side * round(side * 7) / (side * 7))) in (7,)
    assert len(grid((300, 300), 300 / 7)) == 49


@pytest.mark.parametrize(
    ("size", "target", "slide", "side"),
    [
        (224, 0.5, 0.25, 448.0),
        (224, 0.5, 0.4942, 226.62889518413597),
        (256, 1.0, 0.25, 1024.0),
        (224, 0.5, 1.0, 112.0),
    ],
)
def test_footprint(size, target, slide, side):
    assert footprint_px(size, target, slide) == pytest.approx(side, rel=1e-12)


@pytest.mark.parametrize("bad", [(0, 0.5, 0.25), (224, 0, 0.25), (224, 0.5, -1)])
def test_footprint_of_nothing(bad):
    with pytest.raises(ValueError, match="must be positive"):
        footprint_px(*bad[:1], target_mpp=float(bad[1]), slide_mpp=float(bad[2]))


def covered_by_hand(mask, x, y, side):
    """Share of a square's area, pixel by pixel."""
    rows = np.arange(mask.shape[0])
    columns = np.arange(mask.shape[1])
    down = (np.minimum(rows + 1, y + side) - np.maximum(rows, y)).clip(0)
    across = (np.minimum(columns + 1, x + side) - np.maximum(columns, x)).clip(0)
    return down @ mask @ across / side**2


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 23),
    st.integers(1, 31),
    st.floats(0.3, 40),
    st.lists(st.tuples(st.floats(-30, 40), st.floats(-30, 40)), min_size=1, max_size=8),
)
def test_share_equals_counting_pixel_by_pixel(seed, height, width, side, corners):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    found = share_inside(mask, np.array(corners), side)
    np.testing.assert_allclose(
        found, [covered_by_hand(mask, x, y, side) for x, y in corners], atol=1e-9
    )


def test_share_by_hand():
    mask = np.zeros((4, 4), bool)
    mask[:, 2:] = True
    corners = np.array([[0.0, 0], [1.0, 0], [2.0, 0], [0.5, 1.25], [3.0, 3.0]])
    np.testing.assert_allclose(share_inside(mask, corners, 2.0), [0, 0.5, 1, 0.25, 0.25])
