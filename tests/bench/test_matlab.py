"""Matrices of MATLAB 5 files are those that scipy wrote; all else is one line, never a crash."""

import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from mil.bench import matlab
from mil.bench.matlab import read_matrix
from mil.errors import FormatError
from tests.messages import one_line

TABLE = np.arange(12, dtype=float).reshape(4, 3) / 4


def refused(path, name="X"):
    with one_line(FormatError) as caught:
        read_matrix(path, name)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "u1", "i8", bool])
def test_what_scipy_wrote(tmp_path, dtype, compress):
    table = (TABLE * 4).astype(dtype)
    savemat(
        tmp_path / "a.mat",
        {"before": TABLE[:1], "X": table, "after": "words"},
        do_compression=compress,
    )
    matrix = read_matrix(tmp_path / "a.mat", "X")
    np.testing.assert_array_equal(matrix, table)
    assert matrix.shape == (4, 3)
    assert read_matrix(tmp_path / "a.mat", "before").tolist() == [[0.0, 0.25, 0.5]]


def test_a_matrix_of_one_byte_stands_in_its_tag(tmp_path):
    savemat(tmp_path / "a.mat", {"X": np.array([[7]], np.uint8), "Y": TABLE})
    assert read_matrix(tmp_path / "a.mat", "X").tolist() == [[7]]
    np.testing.assert_array_equal(read_matrix(tmp_path / "a.mat", "Y"), TABLE)


def test_the_other_byte_order(tmp_path):
    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + b"\0" * (-len(data) % 8)

    inner = (
        element(6, struct.pack(">II", 6, 0))
        + element(5, struct.pack(">ii", 2, 2))
        + element(1, b"X")
    )
    inner += element(3, struct.pack(">4h", 1, -2, 3, 400))  # doubles that fit into 16 bits
    (tmp_path / "a.mat").write_bytes(b" " * 124 + b"\1\0MI" + element(14, inner))
    assert read_matrix(tmp_path / "a.mat", "X").tolist() == [[1, 3], [-2, 400]]


@pytest.mark.parametrize(
    "values",
    [
        "words",
        {"a": 1.0},
        TABLE * 1j,
        TABLE.reshape(2, 2, 3),
        np.zeros((0, 3)),
        np.array([["a", 1]], object),
    ],
)
def test_what_is_no_matrix_of_real_numbers(tmp_path, values):
    savemat(tmp_path / "a.mat", {"X": values})
    assert refused(tmp_path / "a.mat").startswith(str(tmp_path / "a.mat"))


def test_no_such_thing(tmp_path):
    assert "no such file" in refused(tmp_path / "a.mat")
    (tmp_path / "b.mat").write_bytes(b"hello")
    assert "no such header" in refused(tmp_path / "b.mat")
    savemat(tmp_path / "c.mat", {"Y": TABLE})
    assert "no matrix X" in refused(tmp_path / "c.mat")


def test_more_than_memory_should_hold(tmp_path, monkeypatch):
    savemat(tmp_path / "a.mat", {"X": np.zeros((1000, 100))}, do_compression=True)
    monkeypatch.setattr(matlab, "MAX_DECOMPRESSED_BYTES", 4096)
    assert "more than 4096 bytes" in refused(tmp_path / "a.mat")


@pytest.mark.parametrize("compress", [True, False])
def test_damage_is_refused_or_changes_values(tmp_path, compress):
    path = tmp_path / "a.mat"
    savemat(path, {"X": TABLE}, do_compression=compress)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    read = 0
    for _ in range(300):
        broken = bytearray(whole)
        for position in rng.integers(128, len(whole), size=2):
            broken[position] = rng.integers(256)
        path.write_bytes(broken[: rng.integers(100, 2 * len(whole))])
        try:
            read_matrix(path, "X")
            read += 1
        except FormatError as error:
            assert "\n" not in str(error)  # noqa: PT017
    assert read < 200
    path.write_bytes(whole[:128] + struct.pack("<II", 15, 10) + zlib.compress(b"short")[:10])
    refused(path)
