"""Tiles of a slide are read again as their encoder saw them."""

from dataclasses import replace

import numpy as np
import pytest

from mil.encoders.resample import fast_resample
from mil.encoders.runner import ExtractionSettings
from mil.errors import FormatError
from mil.features.extract import extract
from mil.io.bags import read_positions
from mil.io.slides import SlideReader, TileRequest
from mil.io.tile_images import footprints_of_bag, footprints_of_tiles, read_tile_images
from tests.messages import one_line
from tests.synthetic import bag_file, spoil_tile, tissue_slide

SIZE = (640, 512)
# A tile's side on the slide is no whole number of pixels; the last column lies half outside.
SIDE = 113.3
COORDS = np.array([(x, y) for y in (0, 113, 227) for x in (0, 113, 227, 340, 453, 567)])
GEOMETRY = {
    "tile_px": 64,
    "mpp": 0.25,
    "side_level0_px": SIDE,
    "width_level0_px": SIZE[0],
    "height_level0_px": SIZE[1],
}


class Remembers:
    """An encoder that keeps the pixels that it gets."""

    dim = 1

    def __init__(self) -> None:
        self.batches = []

    def __call__(self, pixels):
        self.batches.append(pixels.numpy().copy())
        return pixels.float().mean((1, 2, 3))[:, None]


@pytest.fixture
def slide(tmp_path):
    tissue_slide(tmp_path / "s1.tif", SIZE, levels=(1, 2), box_px=(40, 40, 600, 480))
    return tmp_path / "s1.tif"


@pytest.fixture
def tiles(tmp_path):
    valid = np.ones(len(COORDS), bool)
    valid[[1, 7]] = False
    return bag_file(
        tmp_path / "s1.h5", "s1", np.ones((len(COORDS), 2)), COORDS, valid=valid, **GEOMETRY
    )


def seen_by_encoder(slide, tiles) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that an encoder got in stage `features`, and which tiles could be read."""
    geometry = tiles.geometry
    request = TileRequest(slide, tiles.coords, geometry.side_level0_px, geometry.tile_px)
    encoder = Remembers()
    extracted = extract(request, [encoder], ExtractionSettings(5, 1, 1))
    return np.concatenate(encoder.batches), extracted.valid


def test_the_pixels_are_those_that_the_encoder_got(slide, tiles):
    seen, valid = seen_by_encoder(slide, tiles)
    assert valid.all()
    # Any order, one tile twice.
    chosen = np.array([17, 0, 6, 5, 6, 11])
    images = list(
        read_tile_images(slide, footprints_of_tiles(tiles), chosen, resampler=fast_resample)
    )
    assert [image.number for image in images] == [0, 5, 6, 11, 17]
    for image in images:
        np.testing.assert_array_equal(image.pixels, seen[image.number])


@pytest.mark.slow
def test_without_torch_they_differ_by_a_grey_level_at_most(slide, tiles):
    seen, _ = seen_by_encoder(slide, tiles)
    images = read_tile_images(slide, footprints_of_tiles(tiles), np.arange(len(COORDS)))
    again = np.stack([image.pixels for image in images]).astype(int)
    assert np.abs(again - seen).max() == 1


@pytest.mark.slow
def test_a_tile_that_cannot_be_decoded_costs_itself(slide, tiles):
    spoil_tile(slide, 1)
    seen, valid = seen_by_encoder(slide, tiles)
    images = list(
        read_tile_images(
            slide, footprints_of_tiles(tiles), np.arange(len(COORDS)), resampler=fast_resample
        )
    )
    unreadable = [image.number for image in images if image.pixels is None]
    assert unreadable == np.flatnonzero(~valid).tolist()
    assert 0 < len(unreadable) < len(COORDS)
    readable = [image.pixels for image in images if image.pixels is not None]
    np.testing.assert_array_equal(np.stack(readable), seen)


def test_of_a_bag_they_are_its_valid_tiles(slide, tiles, tmp_path):
    bag = read_positions(tmp_path / "s1.h5")
    footprints = footprints_of_bag(bag)
    np.testing.assert_array_equal(footprints.corners, np.delete(COORDS, [1, 7], axis=0))
    assert (footprints.tile_px, footprints.side_level0_px) == (64, SIDE)
    assert footprints.mpp == pytest.approx(0.25 * SIDE / 64)
    assert footprints.size_px == SIZE
    named = footprints_of_bag(bag, replace(tiles.geometry, scene="second"))
    assert named.scene == "second"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"coords": None}, "does not say where its tiles are, in pixels"),
        ({"side_level0_px": None}, "does not say where its tiles are, in pixels"),
        ({"tile_px": None}, "does not say at which size its tiles were seen"),
        ({"tile_px": 100_000}, "claims tiles of 100000 px"),
    ],
)
def test_a_bag_that_knows_too_little_is_refused(tiles, tmp_path, changes, reason):
    bag = replace(read_positions(tmp_path / "s1.h5"), **changes)
    with one_line(FormatError, match=f"the bag of s1 {reason}"):
        footprints_of_bag(bag)


def test_another_slide_is_refused(slide, tiles):
    footprints = footprints_of_tiles(tiles)
    with SlideReader(slide) as reader:
        assert reader.size_px == footprints.size_px
    larger = replace(footprints, size_px=(640, 513))
    # A bag of another tool need not know the size: its tiles tell it.
    unknown = replace(footprints, size_px=None, corners=COORDS + np.array([100, 0]))
    for other in (larger, unknown):
        with one_line(FormatError, match="of another size than the slide of these tiles"):
            list(read_tile_images(slide, other, np.array([0])))
