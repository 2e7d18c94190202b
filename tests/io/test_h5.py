"""HDF5 files of ours are told from others, and from halves of their own."""

import os
import subprocess
import sys

import h5py
import pytest

from mil.errors import FormatError
from mil.io.h5 import reading, writing
from mil.versions import TOOL_VERSION


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.h5"
    with writing(path, "mil.thing", 3) as file:
        file["values"] = list(range(1000))
    return path


def refused(path, name="mil.thing", version=3) -> str:
    with pytest.raises(FormatError) as caught, reading(path, name, version):
        pass
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


def test_what_was_written_is_read_with_its_version(path):
    with reading(path, "mil.thing", 3) as file:
        assert file["values"][:].tolist() == list(range(1000))
        assert file.attrs["tool_version"] == TOOL_VERSION


def test_no_end_mark(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["complete"]
    assert "no end mark" in refused(path)


def test_the_end_mark_comes_last(tmp_path):
    with writing(tmp_path / "b.h5", "mil.thing", 3) as file:
        assert "complete" not in file.attrs


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_cut_short(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "cut short" in refused(path)


def test_other_version(path):
    assert "expected mil.thing version 4, found mil.thing version 3" in refused(path, version=4)


def test_other_format(path):
    assert "expected mil.bag version 3, found mil.thing version 3" in refused(path, "mil.bag")


def test_somebody_elses_file(tmp_path):
    with h5py.File(tmp_path / "clam.h5", "w") as file:
        file["features"] = [1.0]
    assert "expected mil.thing version 3, found another format" in refused(tmp_path / "clam.h5")


def test_another_file_is_not_replaced(path, tmp_path):
    whole = path.read_bytes()
    with (
        pytest.raises(FormatError, match=r"a\.h5: is already there as a file of mil\.thing, and"),
        writing(path, "mil.bag", 3),
    ):
        pass
    assert path.read_bytes() == whole
    (tmp_path / "slide.tif").write_bytes(b"II*pixels")
    with (
        pytest.raises(FormatError, match=r"slide\.tif: is already there as a file of another"),
        writing(tmp_path / "slide.tif", "mil.thing", 3),
    ):
        pass
    assert (tmp_path / "slide.tif").read_bytes() == b"II*pixels"


@pytest.mark.parametrize("size", [0, 1000, 100_000])
def test_a_file_of_the_same_format_whole_or_cut_short_is_replaced(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with writing(path, "mil.thing", 3) as file:
        file["values"] = [1]
    with reading(path, "mil.thing", 3) as file:
        assert file["values"][:].tolist() == [1]


def test_a_folder_in_place_of_a_file(tmp_path):
    assert "is a folder, not a mil.thing file" in refused(tmp_path)
    with (
        pytest.raises(IsADirectoryError, match=f"^.Errno 21. Is a directory: '{tmp_path}'$"),
        writing(tmp_path, "mil.thing", 3),
    ):
        pass


@pytest.mark.parametrize("value", [[1, 2], "many\nlines", b"bytes"])
def test_a_foreign_attribute_of_any_type_is_one_line(path, value):
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = value
    assert "expected mil.thing version 3, found" in refused(path)


def test_nobody_is_told_to_delete_what_the_disk_does_not_give(path, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Unable to synchronously open file (errno = 13,\n)")

    monkeypatch.setattr(h5py, "File", denied)
    assert refused(path).endswith(
        "cannot be read: Permission denied; check its permissions and its disk"
    )


def test_only_what_a_run_left_is_to_be_deleted(path, tmp_path):
    (tmp_path / "notes.h5").write_text("hello")
    assert "delete this one if a run left it" in refused(tmp_path / "notes.h5")
    path.write_bytes(path.read_bytes()[:500])
    assert refused(path).endswith("; delete it and run again")


def test_not_hdf5_and_not_there(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    assert "not an HDF5 file" in refused(tmp_path / "text.h5")
    assert "no such file" in refused(tmp_path / "none.h5")


def test_a_failure_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), writing(tmp_path / "b.h5", "mil.thing", 3) as file:
        file["values"] = [1, 2]
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_write_permission_is_read(path):
    path.chmod(0o444)
    with reading(path, "mil.thing", 3) as file:
        assert len(file["values"]) == 1000


@pytest.mark.parametrize("signature", [b"GCOL", b"TREE", b"SNOD"])
def test_damage_further_in_is_one_line_too(tmp_path, signature):
    path = tmp_path / "a.h5"
    with writing(path, "mil.thing", 3) as file:
        file["more/values"] = [1, 2]
        file.attrs["words"] = "text is kept on a heap"
    whole = path.read_bytes()
    assert signature in whole
    path.write_bytes(whole.replace(signature, b"XXXX"))
    with (
        pytest.raises(FormatError, match=r"a\.h5: damaged") as caught,
        reading(path, "mil.thing", 3) as file,
    ):
        _ = file.attrs["words"], file["more/values"][:]
    assert "\n" not in str(caught.value)


def link(file, other):
    file["other"] = h5py.ExternalLink(other, "/values")


def soft_link(file, other):
    file["other"] = h5py.SoftLink("/values")


def external_storage(file, other):
    file.create_dataset("other", (4,), "u1", external=[(other, 0, 4)])


def virtual(file, other):
    layout = h5py.VirtualLayout((1000,), "i8")
    layout[:] = h5py.VirtualSource(other, "values", (1000,))
    file.create_virtual_dataset("other", layout)


def never_written(file, other):
    file.create_dataset("other", (1 << 40,), "f8")


def group_in_itself(file, other):
    file["group"] = file["/"]


WAYS_OUT = [link, soft_link, external_storage, virtual, never_written, group_in_itself]


@pytest.mark.parametrize("way", WAYS_OUT, ids=lambda way: way.__name__)
def test_what_is_not_in_the_file_is_not_looked_for(path, way):
    other = path.with_name("other.h5")
    other.write_bytes(path.read_bytes())
    with h5py.File(path, "r+") as file:
        way(file, str(other))
    assert "keeps data in other files" in refused(path)


def test_data_in_groups_and_empty_data_are_in_the_file(path):
    with h5py.File(path, "r+") as file:
        file["a/b"], file["none"] = [1.0], [[]]
    with reading(path, "mil.thing", 3) as file:
        assert file["a/b"][:].tolist() == [1.0]


def test_a_full_disk_is_one_error_whatever_hdf5_makes_of_it(tmp_path):
    with (
        pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: '.*x\.h5'$"),
        writing(tmp_path / "x.h5", "mil.x", 1),
    ):
        raise RuntimeError(
            "Disable slist failed (\n errno = 28, error message = 'No space left on device', buf "
            "= 0x5)"
        )
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from mil.cli import main
from mil.io import h5

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

def app():
    with h5.writing(Path(sys.argv[1]), "mil.x", 1) as file:
        for number in range(20):
            file[f"rows{number}"] = np.zeros(5_000)

import mil.cli
mil.cli.app = app
main()
"""


def test_a_disk_that_takes_no_more_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "x.h5")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    place = f"mil: [Errno 27] File too large: '{tmp_path / 'x.h5'}'"
    assert done.stderr.startswith(f"{place}; free some space there, or choose another path")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_not_waited_for(tmp_path):
    pipe = tmp_path / "a.h5"
    os.mkfifo(pipe)
    assert "no such file" in refused(pipe)


def test_names_that_are_no_utf8_are_read_past(path):
    with h5py.File(path, "r+") as file:
        file[b"\xff"] = 1
        file.create_group(b"\xfe")[b"\xfd"] = 2
    with reading(path, "mil.thing", 3) as file:
        assert file["values"][:].tolist() == list(range(1000))


def test_a_link_whose_name_is_no_utf8_is_not_followed(path):
    with h5py.File(path, "r+") as file:
        file[b"\xff"] = h5py.ExternalLink("/etc/passwd", "/x")
    assert "keeps data in other files" in refused(path)
