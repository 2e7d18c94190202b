"""A known lit tile lands on known pixels of a layer's image tile."""

import io

import numpy as np
import pytest
from PIL import Image

from mil.view.colours import DIVERGING, SEQUENTIAL, colours_named
from mil.view.paint import COLOURS, Places, coverage, layer_png
from mil.view.pyramid import TILE_PX, Frame

SIDE = 453.3
# 3 x 2 tiles whose corners are whole and whose side is not, in a scan with a bounds offset.
ORIGIN = (100, 50)
COORDS = np.rint(ORIGIN + np.array([(x, y) for y in range(2) for x in range(3)]) * SIDE)
FRAME = Frame(*ORIGIN, 1460.0, 1007.0, 0.25)
COLOURS_OF = colours_named("inferno", signed=False)


def drawn(shares, places=Places(COORDS, SIDE), frame=FRAME, address=(0, 0, 0)) -> np.ndarray:  # noqa: B008
    """RGBA pixels of an image tile."""
    png = layer_png(np.asarray(shares, float), COLOURS_OF, places, frame, address)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def lit(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels of the top colour."""
    y, x = np.nonzero((pixels == (*COLOURS_OF[-1], 255)).all(2))
    assert len(x) == (np.ptp(x) + 1) * (np.ptp(y) + 1), "no rectangle"
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


@pytest.mark.parametrize(("zoom", "tile"), [(0, 0), (0, 4), (0, 5), (2, 5)])
def test_a_lit_tile_covers_its_pixels_at_every_zoom(zoom, tile):
    scale = FRAME.scale(zoom)
    assert scale == 2 ** (2 - zoom)
    whole = np.zeros((TILE_PX * 2**zoom, TILE_PX * 2**zoom, 4), np.uint8)
    for column in range(2**zoom):
        for row in range(2**zoom):
            if not FRAME.holds(zoom, column, row):
                continue
            part = drawn([1.0], Places(COORDS[[tile]], SIDE), address=(zoom, column, row))
            whole[row * TILE_PX :, column * TILE_PX :][:TILE_PX, :TILE_PX] = part
    first = np.rint((COORDS[tile] - ORIGIN) / scale).astype(int)
    last = np.rint((COORDS[tile] + SIDE - ORIGIN) / scale).astype(int)
    assert lit(whole) == (*first, *last)


def test_by_hand_with_a_downsample_that_is_not_a_power_of_two_times_the_side():
    # Corner (553, 503) less the offset is (453, 453); at 4 px a pixel 113.25 to 226.575.
    assert FRAME.max_zoom == 2
    assert lit(drawn(np.eye(6)[4])) == (113, 113, 227, 227)
    # The last tile of row and column: (907, 453) to (1360.3, 906.3).
    assert lit(drawn(np.eye(6)[5])) == (227, 113, 340, 227)


def test_tiles_of_a_row_meet_and_nothing_is_drawn_where_there_is_none():
    pixels = drawn(np.zeros(6))
    assert (pixels[:227, :340, 3] == 255).all()
    assert (pixels[227:, :, 3] == 0).all()
    assert (pixels[:, 340:, 3] == 0).all()


@pytest.mark.parametrize("address", [(1, 0, 0), (1, 1, 0)])
def test_a_gap_that_rounding_left_between_tiles_is_closed(address):
    # Sides of 9.5 and whole corners: tiles at 510 and 520 are half a pixel apart.
    corners = np.array([(x, 0) for x in (500, 510, 520)])
    pixels = drawn([0, 0.5, 1], Places(corners, 9.5), Frame(0, 0, 1024, 600, 0.5), address)
    row = pixels[4, :, 3]
    across = row[500:] if address[1] == 0 else row[: 529 - 512]
    assert (across == 255).all()


def test_a_missing_tile_stays_a_hole():
    places = Places(np.array([[0, 0], [2, 0], [6, 0]]), 2.0)
    assert drawn([1, 1, 1], places, Frame(0, 0, 512, 512, 0.5))[0, :8, 3].tolist() == [
        *[255] * 4,
        *[0] * 2,
        *[255] * 2,
    ]


def test_overlapping_tiles_show_their_mean():
    places = Places(np.array([[0, 0], [50, 0]]), 100.0)
    frame = Frame(0, 0, 512, 512, 0.5)
    values, number = coverage(np.array([0.25, 0.75]), places, frame, 1.0, (0, 0, 200, 120))
    assert number[0, [0, 49, 50, 99, 100, 149, 150]].tolist() == [1, 1, 2, 2, 1, 1, 0]
    np.testing.assert_allclose(values[99, [0, 50, 99, 149]], [0.25, 0.5, 0.5, 0.75], atol=1e-12)
    assert number[100:].max() == 0


def test_tiles_below_a_pixel_still_show():
    places = Places(np.array([[0, 0], [1024, 2048]]), 3.0)
    frame = Frame(0, 0, 512 * 64, 512 * 64, 0.5)
    assert lit(drawn([0, 1], places, frame)) == (16, 32, 17, 33)


def test_uniform_attention_has_one_colour():
    places = Places(np.array([(x * 7, y * 7) for y in range(40) for x in range(40)]), 9.5)
    pixels = drawn(np.full(1600, 0.1), places, Frame(0, 0, 400, 400, 0.5))
    colours = np.unique(pixels[pixels[..., 3] > 0], axis=0)
    assert colours.tolist() == [[*COLOURS_OF[int(0.1 * COLOURS)].tolist(), 255]]


def test_addresses_outside_the_frame_hold_nothing():
    assert [
        FRAME.holds(*one) for one in ((2, 2, 1), (2, 3, 0), (2, 0, 2), (3, 0, 0), (0, 1, 0))
    ] == [
        True,
        False,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("name", "signed"), [*((n, False) for n in SEQUENTIAL), *((n, True) for n in DIVERGING)]
)
def test_colour_maps_run_from_dark_or_through_pale(name, signed):
    light = colours_named(name, signed=signed).astype(float).mean(1)
    if signed:
        # The middle is zero: the palest, and both ends are dark.
        assert light[127] > 220
        assert max(light[0], light[-1]) < 120
    else:
        assert light[-1] > light[0] + 120
