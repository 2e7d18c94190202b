"""Untrusted files with one fault: one line that names file and fault, and no bag."""

import pickle
import re

import h5py
import numpy as np
import pytest
import torch

from tests.interop.layouts import COORDS, bags, features, good_files, put, refused, replaced

TRAPPED = []


class Trap:
    """Unpickling this would be noticed."""

    def __reduce__(self):
        return (TRAPPED.append, ("sprung",))


@pytest.fixture
def files(tmp_path):
    return good_files(tmp_path / "in")


KEYS = {"clam": "features", "trident": "features", "stamp": "feats", "acmil": "a/feat"}
PLACES = {"clam": "coords", "trident": "coords", "stamp": "coords", "acmil": "a/coords"}


WITH_NAN = features()
WITH_NAN[3, 2] = np.nan


def never_written(file, name):
    file.create_dataset(name, shape=(10**9, 8), dtype="f4", chunks=(1024, 8))


def object_dtype(file, name):
    file.create_dataset(name, (5,), dtype=h5py.string_dtype())[:] = "x"


def references(file, name):
    made = file.create_dataset(name, (5, 8), dtype=h5py.ref_dtype)
    made[0, 0] = file.ref


FEATURES = {
    "rank 1": (np.ones(8, np.float32), "features of a whole slide"),
    "rank 3": (np.ones((5, 8, 2), np.float32), r"features of shape \(5, 8, 2\)"),
    "no columns": (np.ones((5, 0), np.float32), r"features of shape \(5, 0\)"),
    "NaN": (WITH_NAN, "1 of 5 tiles hold NaN or infinity, first row 3"),
    "fewer": (features(4), r"coords of shape \(5, 2\) for 4 tiles"),
    "whole numbers": (np.ones((5, 8), int), "no floating-point numbers"),
    "text": (np.full((5, 8), b"x"), "not numbers"),
    "beyond float16": (
        features() + 1e5,
        "which float16 cannot hold; keep them with --dtype float32",
    ),
    "strings": (object_dtype, "holds object, not numbers"),
    "references": (references, "holds object, not numbers"),
    "never written": (never_written, r"claims the shape \(1000000000, 8\) but was never written"),
    "a group": (h5py.Group.create_group, "(is not a dataset|AtlasPatch)"),
}


@pytest.mark.parametrize("tool", KEYS)
@pytest.mark.parametrize("wrong", FEATURES)
def test_features_that_cannot_be(files, tmp_path, tool, wrong):
    content, line = FEATURES[wrong]
    replaced(files[tool], KEYS[tool], content if callable(content) else put(content))
    assert re.search(line, refused(files[tool], tmp_path))


BAD_COORDS = {
    "wrong rank": (np.arange(5), r"coords of shape \(5,\) for 5 tiles"),
    "three columns": (np.ones((5, 3), int), r"coords of shape \(5, 3\)"),
    "NaN": (np.where(np.arange(10).reshape(5, 2) == 4, np.nan, 1.0), "coords hold NaN"),
    "too far": (COORDS * 2**40, "which no slide has"),
    "text": (np.full((5, 2), b"x"), "not numbers"),
}


@pytest.mark.parametrize("tool", PLACES)
@pytest.mark.parametrize("wrong", BAD_COORDS)
def test_coordinates_that_cannot_be(files, tmp_path, tool, wrong):
    data, line = BAD_COORDS[wrong]
    replaced(files[tool], PLACES[tool], put(data))
    assert re.search(line, refused(files[tool], tmp_path))


@pytest.mark.parametrize("tool", ["clam", "trident", "acmil"])
def test_fractions_are_not_pixels(files, tmp_path, tool):
    replaced(files[tool], PLACES[tool], put(COORDS + 0.25))
    assert "coords are fractions, so not pixels of level 0" in refused(files[tool], tmp_path)


@pytest.mark.parametrize("tool", KEYS)
def test_files_cut_short_or_of_something_else(files, tmp_path, tool):
    whole = files[tool].read_bytes()
    for content in (whole[: len(whole) // 2], b"not HDF5" * 100, b""):
        files[tool].write_bytes(content)
        assert "not an HDF5 file, cut short or damaged" in refused(
            files[tool], tmp_path, "--from", tool
        )


@pytest.mark.parametrize("tool", KEYS)
def test_links_are_not_followed(files, tmp_path, tool):
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["secret"] = features()
    (tmp_path / "raw.bin").write_bytes(features().tobytes())
    external = h5py.ExternalLink(str(tmp_path / "elsewhere.h5"), "secret")
    layout = h5py.VirtualLayout((5, 8), "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "elsewhere.h5", "secret", (5, 8))
    makers = {
        "is a link to somewhere else": lambda file, name: file.__setitem__(name, external),
        "is a link to somewhere": lambda file, name: file.__setitem__(
            name, h5py.SoftLink("/elsewhere")
        ),
        "keeps its data in other files": lambda file, name: file.create_virtual_dataset(
            name, layout
        ),
        "keeps its data in other": lambda file, name: file.create_dataset(
            name, (5, 8), "f4", external=[(str(tmp_path / "raw.bin"), 0, h5py.h5f.UNLIMITED)]
        ),
    }
    for line, make in makers.items():
        replaced(files[tool], KEYS[tool], make)
        assert line in refused(files[tool], tmp_path, "--from", tool)


@pytest.mark.parametrize("tool", KEYS)
def test_what_is_missing_is_named(files, tmp_path, tool):
    replaced(files[tool], KEYS[tool], lambda file, name: None)
    assert f"has no dataset {KEYS[tool].split('/')[-1]!r}" in refused(
        files[tool], tmp_path, "--from", tool
    )


def test_nothing_is_unpickled(tmp_path):
    (tmp_path / "pt_files").mkdir()
    for number, content in enumerate(({"features": Trap()}, Trap(), [torch.ones(2, 2), Trap()])):
        torch.save(content, tmp_path / f"pt_files/{number}.pt")
    (tmp_path / "pt_files/plain.pt").write_bytes(pickle.dumps(Trap()))
    torch.save(np.array([Trap()], dtype=object), tmp_path / "pt_files/objects.pt")
    for file in sorted((tmp_path / "pt_files").iterdir()):
        line = refused(file, tmp_path)
        assert "reading it would run" in line or "not a file saved by torch" in line
        assert "weights_only" not in line
    assert TRAPPED == []


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"a": torch.ones(2, 2)}, "holds a dict of a, not one tensor"),
        (torch.ones(7), "features of a whole slide"),
        (torch.full((2, 2), float("nan")), "2 of 2 tiles hold NaN"),
        (torch.ones(2, 2, dtype=torch.int64), "no floating-point numbers"),
    ],
)
def test_tensors_that_are_not_features(tmp_path, value, line):
    (tmp_path / "pt_files").mkdir()
    torch.save(value, tmp_path / "pt_files/a.pt")
    assert line in refused(tmp_path / "pt_files/a.pt", tmp_path)


@pytest.mark.parametrize("tool", ["clam", "trident", "stamp"])
def test_a_file_in_a_folder_that_lost_its_features_is_not_passed_over(files, tmp_path, tool):
    other = files[tool].with_name("b.h5")
    other.write_bytes(files[tool].read_bytes())
    replaced(other, KEYS[tool], lambda file, name: None)
    code, output = bags(
        "import", files[tool].parent, "--out", tmp_path / "bags", "--encoder", "tiny"
    )
    assert (
        code,
        f"{other}: holds coordinates, not features" in output,
        "1 of 2 bags" in output,
    ) == (
        1,
        True,
        True,
    )
