"""The title of the QC image is whole and legible, whatever its length and the image's size."""

import numpy as np
import pytest
from PIL import Image

from mil.tile.qc_image import FLAGGED, draw_qc_image

NO_TILES = np.empty((0, 2))


def legend(width: int, height: int, title: str, **quality) -> np.ndarray:
    """The part above the image, and a column of it is white where nothing is written."""
    overview = Image.new("RGB", (width, height), (0, 0, 255))
    corners = np.zeros((len(next(iter(quality.values()), [])), 2))
    drawn = np.asarray(draw_qc_image(overview, title, corners, 4.0, quality, []))
    above = drawn[: len(drawn) - height]
    assert (drawn[len(above) + 8 :, 8:width] == (0, 0, 255)).all()
    return above


def ink(pixels: np.ndarray) -> int:
    return int((pixels.min(-1) < 128).sum())


@pytest.mark.parametrize("width", [100, 640, 2048])
def test_a_long_title_takes_more_lines(width):
    word = legend(width, 50, "slide")
    long = legend(width, 50, "slide " * 60)
    assert len(long) > 2 * len(word)
    # All of its words are there.
    assert ink(long) == pytest.approx(60 * ink(word), rel=0.02)
    assert (long[:, -4:] == 255).all()


def test_one_word_wider_than_the_image_is_broken():
    short = legend(640, 50, "x" * 10)
    long = legend(640, 50, "x" * 300)
    assert ink(long) == pytest.approx(30 * ink(short), rel=0.02)
    assert (long[:, -4:] == 255).all()


def test_letters_grow_with_the_image():
    assert len(legend(2048, 50, "slide")) > 1.5 * len(legend(640, 50, "slide"))


def test_counts_of_flags_are_not_cut_off():
    green = np.array(FLAGGED["pen"][:3])
    title = "a long title of a slide that leaves no room beside it, on one line of this image"
    above = legend(100, 50, title, pen=np.ones(3))
    assert (np.abs(above.astype(int) - green).max(-1) < 10).any()
