"""Physical scale: pixels lie where they should, as large as they should; unreadable slides."""

import math

import numpy as np
import pytest
from PIL import Image

from mil.errors import UnreadableSlideError
from mil.io.slides import SlideReader, as_array, draw_overview, overview
from tests.synthetic import spoil_tile, tissue_slide, write_slide

SIZE = (1560, 1170)  # width, height of level 0, pixels; times 3.9 they are whole
SPOTS = np.array(
    [(x, y) for y in (260.0, 540.0, 820.0) for x in (300.0, 620.0, 1180.0)]
)  # centres, level-0 pixels
# Size of level 0, downsamples, how the levels' sizes are rounded.
PYRAMIDS = {
    "one level": (SIZE, (1,), math.floor),
    "powers of two": (SIZE, (1, 2, 4), math.floor),
    "odd": (SIZE, (1, 3.9), math.floor),
    "a pixel dropped": ((1501, 1103), (1, 2, 4), math.floor),
    "a pixel added": ((1501, 1101), (1, 2, 16), math.ceil),
}


def spotted(size: tuple[int, int] = SIZE, radius_px: float = 24.0) -> np.ndarray:
    """White with dark round spots whose centres of mass are `SPOTS`.

    A pixel's centre is at its index + 0.5.
    """
    x = np.arange(size[0]) + 0.5
    y = np.arange(size[1]) + 0.5
    dark = sum(
        np.exp(-(((y[:, None] - cy) ** 2) + (x[None] - cx) ** 2) / 2 / radius_px**2)
        for cx, cy in SPOTS
    )
    return np.repeat((255 - 200 * dark).clip(0, 255).round().astype(np.uint8)[..., None], 3, axis=2)


def centre(darkness: np.ndarray, guess: np.ndarray, radius: float) -> np.ndarray:
    """Centre of mass within a square around a guess, pixels of the picture."""
    left, top = np.floor(guess - radius).astype(int)
    right, bottom = np.ceil(guess + radius).astype(int)
    part = darkness[top:bottom, left:right]
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    return np.array([(part * x).sum(), (part * y).sum()]) / part.sum()


@pytest.fixture(scope="module", params=PYRAMIDS, ids=str)
def pyramid(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("pyramid") / "a.tif"
    size, factors, rounding = PYRAMIDS[request.param]
    return path, write_slide(path, spotted(size), 0.25, factors, rounding=rounding), factors


def read(reader: SlideReader, x: float, y: float, side: float, size: int) -> np.ndarray:
    return as_array(reader.read(float(x), float(y), float(side), size))


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("corner", [(0, 0), (151, 127), (153.4, 131.7)], ids=str)
@pytest.mark.parametrize("reduction", [0.5, 1.0, 1.37, 1.9999, 2.0, 3.95, 7.3], ids=str)
def test_what_is_read_lies_where_it_should(pyramid, corner, reduction):
    path, _, _ = pyramid
    size = round(900 / reduction)
    side = size * reduction
    with SlideReader(path) as reader:
        tile = read(reader, *corner, side, size)
    assert tile.shape == (size, size, 3)
    darkness = 255.0 - tile[..., 0]
    inside = SPOTS[((SPOTS - corner) > 110).all(1) & ((SPOTS - corner) < side - 110).all(1)]
    assert len(inside) >= 4
    guesses = (inside - corner) / reduction
    found = (
        np.array([centre(darkness, guess, 100 / reduction) for guess in guesses]) * reduction
        + corner
    )
    assert np.abs(found - inside).max() <= 0.25  # level-0 pixels
    first = inside.min(0) < inside.max(0)
    last = np.ptp(inside, axis=0)
    assert first.all()
    np.testing.assert_allclose(np.ptp(found, axis=0), last, rtol=1e-3)


def test_a_level_is_returned_as_it_is_stored(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (768, 1024, 3), np.uint8)
    factors = (1, 2, 4, 8)
    stored = write_slide(tmp_path / "a.tif", noise, 0.25, factors)
    with SlideReader(tmp_path / "a.tif") as reader:
        for pixels, factor in zip(stored, factors, strict=True):
            tile = read(reader, 80 * factor, 16 * factor, 37 * factor, 37)
            np.testing.assert_array_equal(tile, pixels[16:53, 80:117])


def test_the_nearest_finer_level_is_read(pyramid):
    path, _, factors = pyramid
    with SlideReader(path) as reader:
        assert [level.downsample for level in reader.levels] == pytest.approx(factors)
        for number, level in enumerate(reader.levels):
            assert reader.level_for(level.downsample) == number
            assert reader.level_for(level.downsample * 1.01) == number
            assert reader.level_for(level.downsample * 0.99) == max(0, number - 1)
        assert reader.level_for(0.5) == 0
        assert reader.level_for(1e6) == len(factors) - 1


def test_reduction_is_anti_aliased(tmp_path):
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 200
    write_slide(tmp_path / "a.tif", stripes, 0.25)
    with SlideReader(tmp_path / "a.tif") as reader:
        small = read(reader, 0, 0, 512, 100).astype(int)
    assert np.abs(small[:, 2:-2] - 100).max() <= 4


def test_a_box_keeps_its_own_shape(tmp_path):
    write_slide(tmp_path / "a.tif", spotted(), 0.25, (1, 2))
    with SlideReader(tmp_path / "a.tif") as reader:
        part = as_array(reader.read_box((200.0, 160.0), (200.0, 200.0), (50, 100)))
    assert part.shape == (100, 50, 3)
    found = centre(255.0 - part[..., 0], np.array([25.0, 50.0]), 25.0)
    np.testing.assert_allclose(found, [25.0, 50.0], atol=0.15)


def test_outside_the_slide_is_white(tmp_path):
    write_slide(tmp_path / "a.tif", np.full((300, 400, 3), 90, np.uint8), 0.25)
    with SlideReader(tmp_path / "a.tif") as reader:
        assert reader.size_px == (400, 300)
        corner = read(reader, -20, -30, 100, 100)
        end = read(reader, 350, 250, 100, 100)
    assert (corner[:30] == 255).all()
    assert (corner[:, :20] == 255).all()
    assert (corner[30:, 20:] == 90).all()
    assert (end[:50, :50] == 90).all()
    assert (end[50:] == 255).all()
    assert (end[:, 50:] == 255).all()


def test_text_empty_and_missing_files(tmp_path):
    (tmp_path / "text.tif").write_text("not a slide\n" * 100)
    (tmp_path / "empty.tif").touch()
    for name, why in {
        "text.tif": "not a slide",
        "empty.tif": "an empty file",
        "none.tif": "no such file",
    }.items():
        with pytest.raises(UnreadableSlideError, match=why) as caught:
            SlideReader(tmp_path / name)
        assert one_line(caught).startswith(str(tmp_path / name))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.7])
def test_a_truncated_slide(tmp_path, share):
    path = tmp_path / "a.tif"
    write_slide(
        path,
        np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8),
        0.25,
        compression="jpeg",
    )
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UnreadableSlideError) as caught, SlideReader(path) as reader:
        read(reader, 800, 800, 200, 200)
    one_line(caught)


def test_a_bad_spot_does_not_spoil_the_rest(tmp_path):
    path = tmp_path / "a.tif"
    picture = np.full((512, 512, 3), 120, np.uint8)
    write_slide(path, picture, 0.25, compression="jpeg")
    spoil_tile(path, 1)
    with SlideReader(path) as reader:
        with pytest.raises(
            UnreadableSlideError, match=r"pixels at \(300, 10\) cannot be decoded"
        ) as caught:
            read(reader, 300, 10, 100, 100)
        one_line(caught)
        after = read(reader, 10, 300, 100, 100).astype(int)
    assert np.abs(after - 120).max() <= 2


def test_a_picture_in_regions_equals_one_in_one_piece(tmp_path, monkeypatch):
    tissue_slide(tmp_path / "a.tif", (1500, 1002), levels=(1, 2))
    with SlideReader(tmp_path / "a.tif") as reader:
        for side in (400, 1100):  # from the second level, from the first
            monkeypatch.setattr(overview, "BLOCK_PX", 4096)
            whole = draw_overview(reader, 1500 / side)
            assert (whole.image.size, whole.scale, whole.lost) == (
                (side, round(1002 * side / 1500)),
                1500 / side,
                0,
            )
            for block in (97, 256):
                monkeypatch.setattr(overview, "BLOCK_PX", block)
                pieces = as_array(draw_overview(reader, 1500 / side).image).astype(int)
                assert np.abs(pieces - as_array(whole.image)).max() <= 2


def test_a_picture_shows_things_in_place_and_never_enlarges(tmp_path):
    write_slide(tmp_path / "a.tif", spotted(), 0.25, (1, 3.9))
    with SlideReader(tmp_path / "a.tif") as reader:
        small = draw_overview(reader, 5.2)
        assert (small.image.size, small.scale) == ((300, 225), 5.2)
        whole = draw_overview(reader, 0.7)
        assert (whole.image.size, whole.scale) == (SIZE, 1.0)
        np.testing.assert_array_equal(as_array(whole.image), spotted())
    for spot in SPOTS:
        found = centre(255.0 - as_array(small.image)[..., 0], spot / 5.2, 20.0) * 5.2
        np.testing.assert_allclose(found, spot, atol=0.5)


def test_as_array_is_height_width_colour():
    assert as_array(Image.new("RGB", (3, 2), (1, 2, 3))).tolist() == [[[1, 2, 3]] * 3] * 2
