"""torch's filter is Pillow's: within one grey level, wherever it is used."""

import numpy as np
import pytest

from mil.encoders.resample import fast_resample
from mil.io.slides import SlideReader, TileRequest, Window, resample, stream
from tests.synthetic import tissue_slide

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (600, 600, 3), np.uint8)


def both(
    side: float, size: int, at: float = 0.0, pixels: np.ndarray = NOISE
) -> tuple[np.ndarray, np.ndarray]:
    count = int(np.ceil(at + side - 1e-6))
    window = Window(pixels[:count, :count].copy(), 10.0, 20.0)
    rectangle = (10.0 + at, 20.0 + at, side, side, (size, size))
    return fast_resample(window, *rectangle).astype(int), resample(window, *rectangle).astype(int)


@pytest.mark.parametrize("side", [448.0, 453.07, 453.0, 450.9999999, 226.3, 300.25, 224.5, 200.3])
@pytest.mark.parametrize("size", [224, 223])
def test_within_one_grey_level_of_pillow(side, size):
    ours, pillows = both(side, size)
    assert ours.shape == pillows.shape == (size, size, 3)
    assert np.abs(ours - pillows).max() <= 1
    assert np.abs(ours - pillows).mean() < 0.01


@pytest.mark.parametrize("side", [448.0, 453.07])
def test_colours_of_a_pixel_stay_together(side):
    count = int(np.ceil(side))
    window = Window(NOISE[:count, :count].copy(), 0.0, 0.0)
    pixels = fast_resample(window, 0.0, 0.0, side, side, (224, 224))
    # Else torch took the channels apart, and whoever stores the tile puts them together.
    assert pixels.flags.c_contiguous


def test_a_slide_coarser_than_wanted():
    ours, pillows = both(112.0, 223)
    assert np.abs(ours - pillows).max() <= 2
    assert np.abs(ours - pillows).mean() < 0.01


@pytest.mark.parametrize(
    ("side", "size", "at"), [(448.0, 224, 0.5), (224.0, 224, 0.0), (224.0, 224, 0.25)]
)
def test_what_torch_cannot_do_is_pillows(side, size, at):
    ours, pillows = both(side, size, at)
    np.testing.assert_array_equal(ours, pillows)


def test_pixels_that_must_not_be_written_to():
    block = NOISE[:448, :448]
    block.flags.writeable = False
    resampled = fast_resample(Window(block, 0.0, 0.0), 0.0, 0.0, 448.0, 448.0, (224, 224))
    assert np.abs(resampled.astype(int) - both(448.0, 224)[1]).max() <= 1


def test_the_stream_uses_it(tmp_path):
    tissue_slide(tmp_path / "a.tif", (1024, 768), 0.25)
    coords = np.array([(x, y) for y in (0, 130, 300) for x in (0, 130, 700)], np.int32)
    request = TileRequest(tmp_path / "a.tif", coords, 129.7, 64)
    calls = []

    def counted(*rectangle):
        calls.append(rectangle)
        return fast_resample(*rectangle)

    (batch,) = stream([request], batch_size=16, workers=2, resampler=counted)
    assert len(calls) == 9
    with SlideReader(tmp_path / "a.tif") as reader:
        for (x, y), pixels in zip(coords, batch.pixels, strict=True):
            plain = reader.read(float(x), float(y), 129.7, 64).astype(int)
            assert np.abs(pixels.astype(int) - plain).max() <= 1
