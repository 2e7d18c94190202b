"""Files of the classical MIL data sets; a file that is none of them is one line."""

import os

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from mil.bench.classical_files import read_jld, read_matlab
from mil.errors import FormatError
from tests.classical_files import jld_file, matlab_folder
from tests.messages import one_line

BAGS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.full((1, 3), 7.0, np.float32),
    np.zeros((4, 3), np.float32),
]
LABELS = [True, False, True]
FOLDS = [[[False, True, True], [True, False, False]], [[True, True, False], [False, False, True]]]


@pytest.fixture
def path(tmp_path):
    return jld_file(tmp_path / "Toy.jld", BAGS, LABELS, FOLDS)


def refused(read, path):
    with one_line(FormatError) as caught:
        read(path)
    assert str(path) in str(caught.value)  # a file of a folder, or the path itself
    return str(caught.value)


def test_jld(path):
    stored = read_jld(path)
    for bag, known in zip(stored.features, BAGS, strict=True):
        np.testing.assert_array_equal(bag, known)
    assert stored.labels.tolist() == LABELS
    assert [[fold.tolist() for fold in folds] for folds in stored.training] == FOLDS


def test_jld_of_more_bags_than_a_word_has_bits(tmp_path):
    labels = (np.arange(130) % 3 == 0).tolist()
    path = jld_file(tmp_path / "a.jld", [BAGS[1]] * 130, labels, [])
    stored = read_jld(path)
    assert stored.labels.tolist() == labels
    assert stored.training == []


def test_jld_without_folds(path):
    with h5py.File(path, "r+") as file:
        del file["folds"]
    assert read_jld(path).training == []


def test_jld_that_is_none(tmp_path, path):
    assert "no such file" in refused(read_jld, tmp_path / "b.jld")
    (tmp_path / "c.jld").write_text("hello")
    refused(read_jld, tmp_path / "c.jld")
    with h5py.File(tmp_path / "d.jld", "w") as file:
        file["X"] = [1, 2]
    assert "no y" in refused(read_jld, tmp_path / "d.jld")


@pytest.mark.parametrize(
    ("bags", "labels", "folds", "message"),
    [
        (BAGS, LABELS[:2], [], "3 bags, but 2 labels"),
        ([*BAGS[:2], np.zeros((4, 2), np.float32)], LABELS, [], "one length"),
        ([bag.astype(np.int64) for bag in BAGS], LABELS, [], "floating-point"),
        (BAGS, LABELS, [[[True, False, True], [True, False, False]]], "test each bag once"),
        (BAGS, LABELS, [[[True, False], [False, True]]], "test each bag once"),
        (BAGS, LABELS, [[]], "test each bag once"),
        ([], [], [], "0 bags"),
    ],
)
def test_jld_that_does_not_fit_together(tmp_path, bags, labels, folds, message):
    assert message in refused(read_jld, jld_file(tmp_path / "a.jld", bags, labels, folds))


def test_jld_whose_references_would_fill_the_memory(tmp_path):
    big = np.zeros((4000, 50), np.float32)
    path = jld_file(tmp_path / "a.jld", [big], [True], [])
    with h5py.File(path, "r+") as file:
        reference = file["X"][0]
        del file["X"]
        file.create_dataset("X", data=[reference] * 300, dtype=h5py.ref_dtype)
    assert "claims more data" in refused(read_jld, path)


def test_jld_that_points_elsewhere(tmp_path, path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["y"] = np.zeros(3)
    with h5py.File(path, "r+") as file:
        del file["y"]
        file["y"] = h5py.ExternalLink("secret.h5", "y")
    assert "in the file itself" in refused(read_jld, path)


def test_jld_of_a_table_that_was_never_written(tmp_path, path):
    with h5py.File(path, "r+") as file:
        claim = file.create_dataset("claim", (3, 10**9), np.float32)
        file["X"][0] = claim.ref
    assert "claims more data" in refused(read_jld, path)


def test_damaged_jld_is_read_or_refused(path):
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(whole)
        for position in rng.integers(len(whole), size=8):
            broken[position] = rng.integers(256)
        path.write_bytes(broken[: rng.integers(len(whole) // 2, len(whole) + 1)])
        try:
            read_jld(path)
        except FormatError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_matlab(tmp_path):
    stored = read_matlab(matlab_folder(tmp_path, BAGS, LABELS))
    for bag, known in zip(stored.features, BAGS, strict=True):
        np.testing.assert_array_equal(bag, known)
    assert stored.labels.tolist() == LABELS
    assert stored.training == ()


@pytest.mark.parametrize(
    ("name", "variable", "values", "message"),
    [
        ("Bag2", "Bag2", [[1], [1], [2]], "7 tiles"),
        ("Bag2", "Bag2", [[1], [1], [2], [4], [4], [4], [4]], "not 1 to 3"),
        ("Bag2", "Bag2", [[1], [1], [2], [3], [3], [3], [3.5]], "whole numbers"),
        ("Bag2", "Bag2", [[1], [1], [2], [3], [3], [3], [np.nan]], "whole numbers"),
        ("BagI", "bagI", [[1], [0], [2]], "0 and 1"),
        ("BagI", "bagI", [[1, 0, 2]], "one column"),
        ("X", "Y", [[1.0]], "no matrix X"),
    ],
)
def test_matlab_that_does_not_fit_together(tmp_path, name, variable, values, message):
    folder = matlab_folder(tmp_path, BAGS, LABELS)
    savemat(folder / f"{name}.mat", {variable: values})
    assert message in refused(read_matlab, folder)


@pytest.mark.parametrize("name", ["Toy.jld", "mat/X.mat", "mat/Bag2.mat", "mat/BagI.mat"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    jld_file(tmp_path / "Toy.jld", BAGS, LABELS, FOLDS)
    matlab_folder(tmp_path / "mat", BAGS, LABELS)
    pipe = tmp_path / name
    pipe.unlink()
    os.mkfifo(pipe)
    refused(*((read_jld, pipe) if name == "Toy.jld" else (read_matlab, pipe.parent)))
