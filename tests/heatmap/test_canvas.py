"""Where a ready bag's attention is drawn when nothing was tiled here."""

from dataclasses import replace

import numpy as np
import pytest

from mil.errors import FormatError
from mil.heatmap.canvas import (
    GREY,
    LONGEST_PX,
    WHITE,
    blank_canvas,
    canvas_of,
    positions_of,
    slide_itself,
)
from mil.io.bags import Bag
from tests.synthetic import tissue_slide

SIDE = 448.0
COORDS = np.array([[896, 448], [1344, 448], [2240, 1792]], np.int32)
BAG = Bag(
    slide="s",
    encoder="e",
    features=np.ones((3, 2), np.float16),
    coords=COORDS,
    valid=np.ones(3, bool),
    side_level0_px=SIDE,
)


def grey(canvas) -> np.ndarray:
    """Which pixels are tiles; the others are glass."""
    pixels = np.asarray(canvas.image)
    tiles = (pixels == GREY).all(2)
    np.testing.assert_array_equal(~tiles, (pixels == WHITE).all(2))
    return tiles


def expected(canvas, corners=COORDS, side=SIDE) -> np.ndarray:
    wanted = np.zeros((canvas.image.height, canvas.image.width), bool)
    for corner in (corners - canvas.origin) / canvas.scale:
        (x0, y0), (x1, y1) = (
            np.rint(corner).astype(int),
            np.rint(corner + side / canvas.scale).astype(int),
        )
        wanted[y0:y1, x0:x1] = True
    return wanted


def glass(bag):
    return blank_canvas(bag, positions_of(bag))


def test_without_the_slides_size_the_tiles_have_a_margin():
    canvas = glass(BAG)
    assert canvas.origin == (896 - 448, 0)
    assert canvas.image.size == (LONGEST_PX, LONGEST_PX * 2688 // 2688)  # 448..3136 by 0..2688
    assert canvas.scale == pytest.approx(2688 / LONGEST_PX)
    np.testing.assert_array_equal(grey(canvas), expected(canvas))
    y, x = np.nonzero(grey(canvas))
    assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == (200, 200, 1000, 1000)


def test_with_it_the_tiles_lie_where_they_are_on_the_slide():
    canvas = glass(replace(BAG, width_level0_px=10_000, height_level0_px=5000))
    assert (canvas.image.size, canvas.origin) == ((1200, 600), (0, 0))
    np.testing.assert_array_equal(grey(canvas), expected(canvas))
    y, x = np.nonzero(grey(canvas))
    assert (x.min(), y.min()) == (round(896 * 0.12), round(448 * 0.12))


def test_the_scanned_part_begins_at_its_origin():
    bag = replace(
        BAG,
        width_level0_px=5000,
        height_level0_px=4000,
        origin_x_level0_px=800,
        origin_y_level0_px=400,
    )
    canvas = glass(bag)
    assert canvas.origin == canvas.scanned_px == (800, 400)
    assert canvas.image.size == (1200, round(1200 * 3600 / 4200))
    np.testing.assert_array_equal(grey(canvas), expected(canvas))


def test_a_size_that_is_too_small_cuts_no_tile():
    canvas = glass(replace(BAG, width_level0_px=1000, height_level0_px=1000))
    np.testing.assert_array_equal(grey(canvas), expected(canvas))
    assert grey(canvas)[-1, -1]


def test_a_row_of_tiles_is_not_a_line():
    row = np.stack([np.arange(60) * 448, np.zeros(60, int)], 1).astype(np.int32)
    bag = replace(BAG, coords=row, features=np.ones((60, 2), np.float16), valid=np.ones(60, bool))
    canvas = glass(bag)
    assert canvas.image.size == (1200, 150)
    np.testing.assert_array_equal(grey(canvas), expected(canvas, row))


def test_the_scale_bar_needs_a_known_scale():
    assert glass(BAG).um_per_px == 0
    assert glass(replace(BAG, mpp_level0=0.5)).um_per_px == pytest.approx(0.5 * 2688 / LONGEST_PX)


def test_invalid_tiles_are_no_tiles():
    canvas = glass(replace(BAG, valid=np.array([True, True, False])))
    np.testing.assert_array_equal(grey(canvas), expected(canvas, COORDS[:2]))


def test_a_bag_that_counts_in_micrometres():
    bag = replace(
        BAG,
        coords=None,
        side_level0_px=None,
        coords_um=COORDS.astype(np.float32) / 4,
        tile_px=224,
        target_mpp=0.5,
    )
    assert positions_of(bag).side == 112.0
    canvas = glass(bag)
    assert canvas.um_per_px == canvas.scale == pytest.approx(672 / LONGEST_PX)
    np.testing.assert_array_equal(grey(canvas), grey(glass(BAG)))


@pytest.mark.parametrize(
    "missing",
    [
        {"coords": None},
        {"side_level0_px": None},
        {"side_level0_px": 0.0},
        {"coords": None, "coords_um": np.ones((3, 2), np.float32)},
        {
            "coords": None,
            "coords_um": np.full((3, 2), np.nan, np.float32),
            "tile_px": 224,
            "target_mpp": 0.5,
        },
    ],
)
def test_no_places(missing):
    assert positions_of(replace(BAG, **missing)) is None


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "s.tif"
    tissue_slide(path, (2800, 2400), mpp=0.25, box_px=(896, 448, 1792, 896), compression=None)
    return path


def test_the_slide_lies_under_its_tiles(slide):
    canvas, note = canvas_of(BAG, positions_of(BAG), None, slide)
    assert (note, canvas.name, canvas.origin, canvas.um_per_px) == ("", "slide", (0, 0), 0)
    assert canvas.image.size == (1200, round(1200 * 2400 / 2800))
    tissue = np.asarray(canvas.image)[..., 1] < 220
    y, x = np.nonzero(tissue)
    found = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) * canvas.scale
    np.testing.assert_allclose(found, [896, 448, 1792, 896], atol=2 * canvas.scale)
    assert slide_itself(
        slide, replace(BAG, mpp_level0=0.25), positions_of(replace(BAG, mpp_level0=0.25))
    ).um_per_px == (pytest.approx(0.25 * canvas.scale))


@pytest.mark.parametrize(
    "change",
    [
        {"width_level0_px": 2801},
        {"height_level0_px": 30},
        {"coords": COORDS * 2},
        {"coords": COORDS - 1000},
    ],
)
def test_another_slide_of_that_name_is_not_drawn_on(slide, change):
    bag = replace(BAG, **change)
    with pytest.raises(FormatError, match="of another size than the slide of this bag"):
        slide_itself(slide, bag, positions_of(bag))
    canvas, note = canvas_of(bag, positions_of(bag), None, slide)
    assert canvas.name == "tiles of the bag"
    assert note.startswith("; drawn without the slide: ")


def test_a_broken_slide_is_no_reason_to_stop(tmp_path):
    (tmp_path / "s.tif").write_text("not a slide")
    canvas, note = canvas_of(BAG, positions_of(BAG), None, tmp_path / "s.tif")
    assert canvas.name == "tiles of the bag"
    assert "s.tif: not a slide that OpenSlide reads" in note
