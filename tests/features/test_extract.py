"""Reading tiles: each feature belongs to its tile, whatever the number of threads, and a bad spot costs one tile."""

import numpy as np
import pytest

from mil.errors import UnreadableSlideError
from mil.features.extract import extract
from mil.io.slides import SlideReader
from tests.synthetic import spoil_tile, write_slide

SIDE = 64
COLUMNS, ROWS = 12, 8
COORDS = np.array([(x * SIDE, y * SIDE) for y in range(ROWS) for x in range(COLUMNS)], np.int32)


def colours() -> np.ndarray:
    """What the mean colour of each tile is: red tells its column, green its row."""
    return (COORDS // SIDE * [20, 30]).astype(np.float32)


def mean_colour(pixels):
    assert pixels.shape[1:] == (32, 32, 3)
    return pixels.float().mean((1, 2))[:, :2]


def read(path, coords=COORDS, **changes):
    return extract(
        path, coords, mean_colour,
        **{"dim": 2, "side_level0_px": float(SIDE), "tile_px": 32, "batch_size": 7, "workers": 2, **changes},
    )  # fmt: skip


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "a.tif"
    small = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    small[..., :2] = colours().reshape(ROWS, COLUMNS, 2)
    write_slide(path, small.repeat(SIDE, 0).repeat(SIDE, 1), 0.5, tile=64)
    return path


def test_each_feature_belongs_to_its_tile(slide):
    features, valid, _ = read(slide)
    np.testing.assert_allclose(features, colours(), atol=0.01)
    assert features.dtype == np.float32
    assert valid.all()


def test_order_is_that_of_the_coordinates(slide):
    order = np.random.default_rng(0).permutation(len(COORDS))
    np.testing.assert_allclose(read(slide, COORDS[order])[0], colours()[order], atol=0.01)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_threads_change_nothing(slide, workers):
    sizes = []

    def encode(pixels):
        sizes.append(len(pixels))
        return mean_colour(pixels)

    found = extract(
        slide, COORDS[:30], encode, dim=2, side_level0_px=64.0, tile_px=32, batch_size=8, workers=workers
    )  # fmt: skip
    np.testing.assert_array_equal(found[0], read(slide, COORDS[:30], batch_size=30, workers=1)[0])
    assert sizes == [8, 8, 8, 6]


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 13, 14, 15, 21, 22])
def test_at_the_borders_of_batches(slide, count):
    done = []
    features, valid, tried = read(slide, COORDS[:count], advance=done.append)
    assert tried == count
    np.testing.assert_allclose(features, colours()[:count], atol=0.01)
    assert (len(valid), valid.all()) == (count, True)
    assert sum(done) == count


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_a_bad_spot_costs_its_tile_only(slide, tmp_path, batch_size):
    path, bad = tmp_path / "b.tif", [5, 40, 41]
    with SlideReader(slide) as reader:
        pixels = np.asarray(reader.read_box((0.0, 0.0), (768.0, 512.0), (768, 512)))
    write_slide(path, pixels, 0.5, tile=64, compression="jpeg")
    for index in bad:  # the file's tiles are the grid's
        spoil_tile(path, index)
    features, valid, tried = read(path, batch_size=batch_size)
    assert np.flatnonzero(~valid).tolist() == bad
    assert (features[bad] == 0).all()
    assert tried == len(COORDS)
    np.testing.assert_allclose(features[valid], colours()[valid], atol=2)


def test_a_slide_with_too_many_bad_spots_is_given_up(slide, tmp_path):
    path = tmp_path / "b.tif"
    with SlideReader(slide) as reader:
        pixels = reader.read_box((0.0, 0.0), (768.0, 512.0), (768, 512))
    write_slide(path, pixels, 0.5, tile=64, compression="jpeg")
    for index in range(8, 96):
        spoil_tile(path, index)
    features, valid, tried = read(path, batch_size=16, max_unreadable=20)
    assert np.flatnonzero(valid).tolist() == list(range(8))
    assert tried == 32  # after the second batch 24 are bad
    assert (features[8:] == 0).all()
    assert read(path, batch_size=16, max_unreadable=88)[2] == 96


def test_a_slide_that_is_gone(tmp_path):
    with pytest.raises(UnreadableSlideError, match="no such file"):
        read(tmp_path / "none.tif")


def test_an_error_of_the_encoder_is_not_swallowed(slide):
    def encode(_):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        extract(slide, COORDS, encode, dim=2, side_level0_px=64.0, tile_px=32, batch_size=7, workers=2)


def test_handles_are_closed(slide, monkeypatch):
    opened, closed = [], []
    enter, leave = SlideReader.__init__, SlideReader.__exit__
    monkeypatch.setattr(SlideReader, "__init__", lambda self, *to: (opened.append(self), enter(self, *to))[1])
    monkeypatch.setattr(SlideReader, "__exit__", lambda self, *why: (closed.append(self), leave(self, *why))[1])
    read(slide)
    assert len(opened) >= 1
    assert {id(one) for one in opened} == {id(one) for one in closed}
