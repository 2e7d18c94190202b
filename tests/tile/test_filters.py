"""Filters of our own, against SciPy's and against the definition."""

import numpy as np
import pytest
from scipy import ndimage

from mil.tile.density import STRIP_ROWS, ColourBounds, gaussian, mean3
from mil.tile.grid import share_inside, sums_above_left
from mil.tile.morphology import Regions, close_gaps, largest_near, largest_near_at
from mil.tile.smooth import enlarge

RNG = np.random.default_rng(0)


def plane(height: int, width: int) -> np.ndarray:
    return RNG.normal(size=(height, width)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (70, 33)])
@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.75])
def test_gaussian_is_scipys(shape, sigma):
    values = plane(*shape)
    expected = ndimage.gaussian_filter(values, sigma, truncate=3)
    np.testing.assert_allclose(gaussian(values, sigma), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (40, 33)])
def test_mean3_is_scipys(shape):
    values = plane(*shape)
    np.testing.assert_allclose(mean3(values), ndimage.uniform_filter(values, 3), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (40, 33)])
@pytest.mark.parametrize("radius", [1, 2, 5, 12])
def test_the_largest_near_is_scipys(shape, radius):
    values = plane(*shape)
    size = 2 * radius + 1
    np.testing.assert_array_equal(
        largest_near(values, radius), ndimage.maximum_filter(values, size)
    )
    mask = values > 1.5
    padded = np.pad(mask, radius)
    closed = ndimage.binary_closing(np.pad(padded, radius), np.ones((size, size)))
    inner = slice(2 * radius, -2 * radius)
    np.testing.assert_array_equal(close_gaps(mask, radius), closed[inner, inner])


@pytest.mark.parametrize("radius", [1, 5, 50])
def test_the_largest_near_a_few_places_is_that_of_all(radius):
    values = plane(40, 33)
    rows = np.arange(3, 40, 8)
    columns = np.arange(0, 33, 5)
    np.testing.assert_array_equal(
        largest_near_at(values, radius, rows, columns),
        largest_near(values, radius)[np.ix_(rows, columns)],
    )


def test_bounds_of_colour_hold_in_every_strip():
    red, green, blue = (plane(2 * STRIP_ROWS + 5, 40) for _ in range(3))
    roughness = RNG.integers(0, 255, red.shape, np.uint8)
    bounds = ColourBounds(red_above=0.1, blue_over_green=0.5, smoother_than=200)
    expected = (red > 0.1) & (blue > 0.5 * green) & (roughness < 200)
    np.testing.assert_array_equal(bounds.mask((red, green, blue), roughness), expected)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_an_enlarged_mask_repeats_each_pixel(factor):
    mask = plane(7, 5) > 0
    expected = mask.repeat(factor, 0).repeat(factor, 1)[:13, :9]
    np.testing.assert_array_equal(enlarge(mask, factor, (13, 9)), expected)


def test_regions_are_measured_by_number():
    mask = np.zeros((30, 60), bool)
    mask[2, 5:55] = True
    mask[10:20, 5:15] = True
    mask[25, 50:54] = True
    regions = Regions(mask)
    assert (regions.count, regions.area.tolist()) == (3, [1646, 50, 100, 4])
    right = np.zeros_like(mask)
    right[:, 12:] = True
    assert regions.pixels_in(right).tolist()[1:] == [43, 30, 4]
    every = np.array([False, True, True, True])
    # The square is long, and no line; the last is a line, and short.
    assert regions.are_lines(every, 2.0, 10.0).tolist() == [False, True, False, False]
    assert regions.are_lines(every, 9.0, 10.0).tolist() == [False, True, True, False]
    assert not regions.are_lines(np.zeros(4, bool), 9.0, 1.0).any()
    np.testing.assert_array_equal(regions.mask(every), mask)


def test_sums_of_the_rows_that_are_asked_for():
    values = RNG.random((20, 15))
    rows, sums = sums_above_left(values, np.array([7, 20, 3, 7]))
    assert rows.tolist() == [0, 3, 7, 20]
    for row, line in zip(rows, sums, strict=True):
        np.testing.assert_allclose(line, np.append(0, values[:row].sum(0).cumsum()))


def test_a_share_inside_is_its_definition():
    mask = RNG.random((23, 31)) < 0.4
    corners = RNG.uniform(-3, 28, (40, 2))
    side = 4.3
    weights = [
        [
            (np.minimum(corner[axis] + side, edges + 1) - np.maximum(corner[axis], edges)).clip(0)
            for axis, edges in ((1, np.arange(23)), (0, np.arange(31)))
        ]
        for corner in corners
    ]
    expected = [down @ mask @ across / side**2 for down, across in weights]
    np.testing.assert_allclose(share_inside(mask, corners, side), expected, atol=1e-12)
