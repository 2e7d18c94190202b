"""Files on which HDF5 hangs, and files whose objects are of another kind than ours."""

import h5py
import numpy as np
import pytest

from mil.errors import FormatError
from mil.interop.detect import find_feature_files
from mil.io import guard, probe
from mil.io.bags import read_bag, read_header, write_bag
from mil.io.bags.file import FORMAT, VERSION
from mil.io.bags.fingerprint import bag_digest
from mil.io.guard import run_guarded
from mil.io.h5 import reading
from mil.io.scores import read_scores
from mil.io.tiles import read_tiles, write_tiles
from tests.messages import one_line
from tests.synthetic import bag_file, make_tiles

FEATURES = np.ones((3, 4))


@pytest.fixture
def path(tmp_path):
    bag_file(tmp_path / "s1.h5", "s1", FEATURES)
    return tmp_path / "s1.h5"


@pytest.fixture
def hanging(path, monkeypatch):
    """A file whose attributes are never read to their end."""
    with h5py.File(path, "r+") as file:
        file.attrs["touched"] = 1
    visit = probe._visit_all

    def visit_all(paths):
        while path in paths:
            pass
        visit(paths)

    monkeypatch.setattr(probe, "run_guarded", run_guarded)
    monkeypatch.setattr(probe, "_visit_all", visit_all)
    monkeypatch.setattr(probe, "SECONDS", 0.2)
    # The clock of a busy machine runs on while the loop waits for its turn.
    monkeypatch.setattr(guard, "PATIENCE", 1000.0)
    monkeypatch.setattr(probe, "SECONDS_PER_FILE", 0.0)
    return path


def test_a_file_that_is_never_read_to_its_end_is_named_and_the_others_are_read(hanging, tmp_path):
    bag_file(tmp_path / "s2.h5", "s2", FEATURES)
    with h5py.File(tmp_path / "s2.h5", "r+") as file:
        file.attrs["touched"] = 1
    probe.probe([tmp_path / "s2.h5", hanging, tmp_path / "none.h5"])
    with one_line(FormatError, match=r"s1\.h5: reading takes over 0.2 s; the file is damaged"):
        read_bag(hanging)
    with pytest.raises(FormatError, match="the file is damaged"):
        write_bag(hanging, read_bag(tmp_path / "s2.h5"))
    assert read_header(tmp_path / "s2.h5").slide == "s2"
    detected = find_feature_files(tmp_path)
    assert [file.slide for file in detected.files] == ["s2"]
    assert [str(fault).split(":")[0] for fault in detected.faults] == [str(hanging)]


def test_a_file_that_is_written_anew_is_no_longer_refused(hanging, tmp_path):
    with pytest.raises(FormatError):
        read_bag(hanging)
    bag_file(tmp_path / "other.h5", "s1", FEATURES)
    bag = read_bag(tmp_path / "other.h5")
    hanging.unlink()
    write_bag(hanging, bag)
    assert read_bag(hanging).slide == "s1"


def as_group(file, name):
    del file[name]
    file.create_group(name)


def as_compound(file, name):
    del file[name]
    file[name] = np.zeros((3, 4), [("x", "f2")])


def as_references(file, name):
    del file[name]
    file.create_dataset(name, (3,), h5py.ref_dtype)


def as_texts(file, name):
    del file[name]
    file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())


def as_nothing(file, name):
    del file[name]
    file[name] = h5py.Empty("f4")


def as_type(file, name):
    del file[name]
    file[name] = np.dtype("f4")


def as_soft_link(file, name):
    del file[name]
    file[name] = h5py.SoftLink("/valid")


KINDS = [as_group, as_compound, as_references, as_texts, as_nothing, as_type, as_soft_link]


@pytest.mark.parametrize("change", KINDS)
@pytest.mark.parametrize("name", ["features", "valid", "coords"])
def test_objects_of_another_kind_in_a_bag_are_one_line(path, name, change):
    with h5py.File(path, "r+") as file:
        change(file, name)
        del file.attrs["xxh3_64"]
    for read in (read_bag, bag_digest):
        with one_line(FormatError, match=r"s1\.h5: "):
            read(path)


@pytest.mark.parametrize("change", KINDS)
@pytest.mark.parametrize("name", ["coords", "quality"])
def test_objects_of_another_kind_in_tiles_are_one_line(tmp_path, name, change):
    tiles = make_tiles(np.zeros((3, 2), int))
    tiles.quality["blur"] = np.zeros(3, np.float32)
    write_tiles(tmp_path / "a.h5", tiles)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        change(file, name)
    with one_line(FormatError, match=r"a\.h5: "):
        read_tiles(tmp_path / "a.h5")


@pytest.mark.parametrize("name", ["slide", "state", "mpp_level0", "digest", "complete", "format"])
@pytest.mark.parametrize(
    "value", [np.arange(3), h5py.Empty("f4"), np.bytes_(b"\xff")], ids=["array", "empty", "bytes"]
)
def test_attributes_of_another_kind_are_one_line(tmp_path, name, value):
    write_tiles(tmp_path / "a.h5", make_tiles(np.zeros((3, 2), int)))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs[name] = value
    with one_line(FormatError, match=r"a\.h5: "):
        read_tiles(tmp_path / "a.h5")
    with one_line(FormatError, match=r"a\.h5: "):
        read_scores(tmp_path / "a.h5")


def test_a_fault_of_our_own_keeps_its_traceback(path):
    with pytest.raises(TypeError), reading(path, FORMAT, VERSION):
        len(3)
