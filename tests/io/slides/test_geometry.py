"""Physical scale on pyramids whose levels are not halves: positions and sizes of tiles."""

import numpy as np
import pytest

from mil.io.slides import SlideReader, draw_overview
from mil.tile.grid import footprint_px, grid
from tests.io.slides.patterns import measure, place_error, write_leica, write_pattern

# µm/px of CAMELYON16's two scanners
RUMC = 0.243
UMCU = 0.226
TILE_PX = 224
TARGET_MPP = 0.5
HEIGHT = 800
# Width of level 0, widths of all levels, their downsamples where those of the sizes are
# not meant.
PYRAMIDS = {
    "one level": (20000, (20000,), ()),
    "1.9999, a pixel filled": (19999, (19999, 10000), (1, 2)),
    "1.9999": (39998, (39998, 20000), ()),
    "2.0005": (20005, (20005, 10000), ()),
    "2.0005, pixels cut": (4001, (4001, 2000, 1000), (1, 2, 4)),
    "3.8998": (19499, (19499, 5000), ()),
    "1.945": (9725, (9725, 5000), ()),
    "not powers of two": (15000, (15000, 5000, 3000), (1, 3, 5)),
    "1, 4, 16": (16390, (16390, 4097, 1024), (1, 4, 16)),
}


# Large ones, each like another that every run has.
LARGE = {"one level", "1.9999", "2.0005", "3.8998"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in PYRAMIDS
    ],
)
def slide(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("pyramid") / "a.tif"
    width, widths, downs = PYRAMIDS[request.param]
    levels = [
        (w, round(HEIGHT * w / width) if not downs else HEIGHT // downs[k])
        for k, w in enumerate(widths)
    ]
    write_pattern(path, (width, HEIGHT), levels, RUMC, downs)
    yield path, width
    path.unlink()


@pytest.mark.parametrize("decoder", ["auto", pytest.param("openslide", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("mpp", "target"),
    [
        (RUMC, TARGET_MPP),
        (UMCU, 0.75),
        pytest.param(RUMC, 0.75, marks=pytest.mark.slow),
        pytest.param(UMCU, TARGET_MPP, marks=pytest.mark.slow),
    ],
)
def test_tiles_lie_where_the_grid_says_and_show_the_scale_asked_for(slide, mpp, target, decoder):
    path, width = slide
    side = footprint_px(TILE_PX, target, mpp)
    corners = grid((width, HEIGHT), side)
    last = corners[-1]
    assert width - last[0] < 2 * side
    with SlideReader(path, decoder) as reader:
        for corner in (corners[0], corners[len(corners) // 2], last):
            tile = reader.read(float(corner[0]), float(corner[1]), side, TILE_PX)
            place, scale = measure(tile, side / TILE_PX)
            assert np.abs(place_error(place, corner)).max() <= 0.5  # level-0 pixels
            np.testing.assert_allclose(scale, side / TILE_PX, rtol=1e-3)
            ramp = 40 + 100 * (corner[0] + side / 2) / width + 100 * (corner[1] + side / 2) / HEIGHT
            assert tile[..., 2].mean() == pytest.approx(ramp, abs=1.5)  # not a whole period off


def test_a_tile_may_begin_between_pixels(slide):
    path, width = slide
    with SlideReader(path) as reader:
        for corner in ((101.25, 33.5), (width - 700.7, 111.1)):
            place, scale = measure(reader.read(*corner, 600.3, 200), 3.0)
            assert np.abs(place_error(place, corner)).max() <= 0.5
            np.testing.assert_allclose(scale, 600.3 / 200, rtol=1e-3)


@pytest.mark.parametrize("decoder", ["auto", "openslide"])
def test_a_scan_that_does_not_begin_at_the_corner(tmp_path, decoder):
    origin = (
        1004,
        700,
    )  # whole pixels of both levels: OpenSlide places a Leica scan so on every level
    write_leica(tmp_path / "a.scn", (2048, 1536), origin, (6000, 5000))
    with SlideReader(tmp_path / "a.scn", decoder) as reader:
        assert (reader.origin_px, reader.extent_px, reader.size_px) == (
            origin,
            (2048, 1536),
            (6000, 5000),
        )
        assert reader.resolution() == (pytest.approx(0.25), "openslide")
        for reduction in (1.0, 2.3, 4.0):
            side = 100 * reduction
            for corner in grid(reader.extent_px, side, origin)[[0, -1]]:
                place, scale = measure(
                    reader.read(float(corner[0]), float(corner[1]), side, 100), reduction
                )
                assert np.abs(place_error(place, corner - origin)).max() <= 0.5
                np.testing.assert_allclose(scale, reduction, rtol=1e-3)
        picture = draw_overview(reader, 8.0)
    assert picture.image.size == (256, 192)
    place, scale = measure(np.asarray(picture.image), 8.0)
    assert np.abs(place_error(place, (0, 0))).max() <= 0.5
    np.testing.assert_allclose(scale, 8.0, rtol=1e-3)


def test_the_nearest_finer_level_is_read(tmp_path):
    write_pattern(tmp_path / "a.tif", (4000, 1200), [(4000, 1200), (1999, 600), (500, 150)], RUMC)
    with SlideReader(tmp_path / "a.tif") as reader:
        assert [level.downsample_x for level in reader.levels] == [
            1.0,
            pytest.approx(4000 / 1999),
            8.0,
        ]
        assert [reader.level_for(d) for d in (0.5, 1.0, 1.99, 2.0, 2.01, 7.99, 8.0, 100.0)] == [
            0,
            0,
            0,
            1,
            1,
            1,
            2,
            2,
        ]
