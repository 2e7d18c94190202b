"""Which tiles are tried, and which are known to be lost."""

import numpy as np
import pytest

from mil.doctor.probes import cut_off, four_corners, last_row, positions, unreadable
from mil.io.slides import SlideReader
from mil.tile.grid import grid
from tests.doctor.slides import cut_slide
from tests.io.slides.patterns import write_leica


def test_the_last_row_is_tried_at_its_ends_and_in_the_middle():
    coords = grid((1000, 300), 100.0)
    assert last_row(coords).tolist() == [[0, 200], [500, 200], [900, 200]]
    assert last_row(coords[:1]).tolist() == [[0, 0]] * 3
    assert last_row(coords[:0]).tolist() == []


def test_corners_are_those_of_the_scanned_part(tmp_path):
    write_leica(tmp_path / "a.scn", (2048, 1536), (3000, 2000), (8192, 8192))
    with SlideReader(tmp_path / "a.scn") as reader:
        corners = four_corners(reader, 448.0)
    assert corners.tolist() == [[3000, 2000], [4600, 2000], [3000, 3088], [4600, 3088]]


@pytest.mark.parametrize(
    ("share", "side"), [(0.3, 224.0), (0.7, 224.0), (0.7, 300.5), (0.9, 128.0), (1.0, 224.0)]
)
def test_tiles_known_to_be_lost_are_those_that_cannot_be_read(tmp_path, share, side):
    path = cut_slide(tmp_path / "a.tif", share, (1500, 1100))
    with SlideReader(path) as reader:
        coords = grid(reader.extent_px, side)
        lost = cut_off(reader, 0, coords, side)
        failed = unreadable(reader, coords, side, 128)
    assert np.array_equal(lost, failed)
    assert lost.any() == (share < 1)


def test_many_places_are_counted():
    assert positions([(1, 2), (3, 4)]) == "(1, 2), (3, 4)"
    assert positions([(i, 0) for i in range(5)]) == "(0, 0), (1, 0), (2, 0) and 2 more"
