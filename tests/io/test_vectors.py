"""The vectors file: what is written is read back, and nothing else is believed."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from mil.errors import FormatError
from mil.io.vectors import (
    SlideVectors,
    VectorHead,
    VectorsHeader,
    read_vectors,
    read_vectors_header,
    vector_files,
    write_vectors,
)
from tests.messages import one_line

HEADER = VectorsHeader(
    slide="s1",
    slide_encoder="abmil",
    encoder="tiny",
    weights_sha256="0" * 64,
    tiling="224px_0.5mpp",
    bag_digest="ab",
    tiles=3,
    heads=(VectorHead("abmil", 1, 0, "cd"), VectorHead("abmil", 1, 1, "ef")),
)
ROWS = np.array([[1.5, 2.5, np.nan], [3.0, 4.0, 5.0]], np.float32)


def test_vectors_come_back_with_what_they_were_made_of(tmp_path):
    write_vectors(tmp_path / "s1.h5", SlideVectors(HEADER, ROWS), made_from="digest")
    stored = read_vectors(tmp_path / "s1.h5")
    assert stored.header == read_vectors_header(tmp_path / "s1.h5") == HEADER
    np.testing.assert_array_equal(stored.vectors, ROWS)
    # A head of fewer members has a shorter row.
    assert [stored.vector(row).tolist() for row in (0, 1)] == [[1.5, 2.5], [3.0, 4.0, 5.0]]


def test_a_slide_that_is_not_ok_has_its_state_and_no_vector(tmp_path):
    header = replace(HEADER, state="no_tissue", reason="blank", tiles=0)
    write_vectors(tmp_path / "s1.h5", SlideVectors(header, np.empty((0, 0), np.float32)))
    stored = read_vectors(tmp_path / "s1.h5")
    assert (stored.header.state, stored.header.reason) == ("no_tissue", "blank")
    assert stored.vectors.shape == (0, 0)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (ROWS[:1], "it has 1 vectors, not 2"),
        (np.full((2, 3), np.nan, np.float32), "not numbers"),
        (np.array([[np.nan, 1], [1, 2]], np.float32), "not numbers"),
        (np.array([[np.inf, 1], [1, 2]], np.float32), "not numbers"),
    ],
)
def test_rows_that_cannot_be_are_one_line(tmp_path, rows, fault):
    write_vectors(tmp_path / "s1.h5", SlideVectors(HEADER, rows))
    with one_line(FormatError, match=f"{fault}.*run `mil embed` again"):
        read_vectors(tmp_path / "s1.h5")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"state": "lost"}, "no state is called 'lost'"),
        ({"slide": "../s1"}, "is no id of a slide"),
    ],
)
def test_a_header_of_a_stranger_is_one_line(tmp_path, change, fault):
    write_vectors(tmp_path / "s1.h5", SlideVectors(replace(HEADER, **change), ROWS))
    with one_line(FormatError, match=fault):
        read_vectors_header(tmp_path / "s1.h5")


def test_changed_numbers_are_noticed(tmp_path):
    write_vectors(tmp_path / "s1.h5", SlideVectors(HEADER, ROWS))
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        file["vectors"][1, 1] = 9
    with one_line(FormatError, match="differ from their checksum"):
        read_vectors(tmp_path / "s1.h5")


def test_a_folder_without_vectors_is_one_line(tmp_path):
    (tmp_path / ".mil_s1.h5").touch()
    with one_line(FormatError, match="no vectors of slides"):
        vector_files(tmp_path)
