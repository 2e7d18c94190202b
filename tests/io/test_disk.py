"""Errors of the system on files: one line, with the path that the user knows."""

import errno
import io
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import save_file

from mil import cli
from mil.errors import DatasetError
from mil.io import disk, h5
from mil.io.atomic import atomic_path, check_not_inputs, write_text
from mil.io.disk import REMEDIES, one_line, raise_of_machine

NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)


@contextmanager
def largest_file(num_bytes):
    """A limit on the size of files, which the system enforces as it does that of a disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def by_h5py(path):
    with h5py.File(path, "w") as file:
        file["a"] = NOISE


def by_torch(path):
    torch = pytest.importorskip("torch")
    torch.save(torch.from_numpy(NOISE), path)


WRITERS = {
    "bytes": lambda path: path.write_bytes(NOISE.tobytes()),
    "h5py": by_h5py,
    "torch": by_torch,
    "safetensors": lambda path: save_file({"a": NOISE}, path),
    "png": lambda path: Image.fromarray(NOISE).save(path, "PNG"),
    "jpeg": lambda path: Image.fromarray(NOISE).save(path, "JPEG", quality=98),
    "tiff": lambda path: Image.fromarray(NOISE).save(path, "TIFF"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_names_the_file_whatever_writes_it(tmp_path, name):
    target = tmp_path / "a.bin"
    target.write_text("old")
    with (
        largest_file(20_000),
        pytest.raises(OSError, match="File too large") as caught,
        atomic_path(target) as scratch,
    ):
        WRITERS[name](scratch)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(target)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    "number",
    [
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EMFILE,
        errno.EIO,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ESTALE,
    ],
)
def test_every_error_of_the_system_is_one_line_with_its_path(tmp_path, number, monkeypatch, capsys):
    target = tmp_path / "a.txt"

    def run():
        with atomic_path(target):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cli, "app", run)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    message = str(caught.value)
    assert message.startswith(f"mil: [Errno {number}] {os.strerror(number)}: '{target}'; ")
    assert REMEDIES[number] in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unable to write: errno = 28, error message = 'No space left on device'"),
        SafetensorError("Error while serializing: I/O error: No space left on device"),
    ],
)
def test_errors_without_a_number_are_known_by_their_text(tmp_path, error):
    with pytest.raises(OSError, match="No space left") as caught, atomic_path(tmp_path / "a"):
        raise error
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a"))


def test_an_error_without_number_or_text_is_asked_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_refusal", lambda scratch: errno.EDQUOT)
    with pytest.raises(OSError, match="quota") as caught, atomic_path(tmp_path / "a"):
        raise OSError("encoder error -2 when writing image file")
    assert caught.value.filename == str(tmp_path / "a")


@pytest.mark.parametrize("error", [RuntimeError("ours"), OSError("ours"), DatasetError("theirs")])
def test_errors_that_are_none_of_the_system_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, atomic_path(tmp_path / "a"):
        raise error
    assert caught.value is error
    assert not list(tmp_path.iterdir())


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(PermissionError) as caught, atomic_path(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied", "/another")
    assert caught.value.filename == "/another"


def test_a_name_that_is_too_long_is_named_without_its_scratch_prefix(tmp_path):
    target = tmp_path / ("語" * 75)
    with pytest.raises(OSError, match="name too long") as caught:
        write_text(target, "x")
    assert caught.value.filename == str(target)
    assert "choose a shorter name" in str(one_line(caught.value))


def test_links_that_lead_in_a_circle_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    check_not_inputs([tmp_path / "x"], [tmp_path / "a"])
    monkeypatch.setattr(cli, "app", lambda: (tmp_path / "a").resolve(strict=True))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert "Too many levels of symbolic links" in str(caught.value)
    assert str(tmp_path / "a") in str(caught.value)
    assert str(caught.value).endswith("lead in a circle: mend them, or choose another path")
    # The folder is refused before anything is written.
    monkeypatch.setattr(cli, "app", lambda: write_text(tmp_path / "a/x", ""))
    with pytest.raises(SystemExit, match=f"File exists: '{tmp_path / 'a'}'; choose another path"):
        cli.main()


def test_a_runtime_error_of_ours_keeps_its_traceback(monkeypatch):
    def fail():
        raise RuntimeError("ours")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(RuntimeError, match="ours"):
        cli.main()


def by_text(path):
    path.read_text()


def by_open(path):
    with path.open("rb") as file:
        shutil.copyfileobj(file, io.BytesIO())


def by_echo(path):
    with path.open("r+") as file:
        typer.echo("x" * 9000, file=file)


@pytest.mark.parametrize("act", [by_text, by_open, by_echo])
def test_an_error_of_reading_or_writing_names_the_open_file(tmp_path, act):
    # The system refuses to read it, or to write there, as a failing disk does.
    path = Path("/proc/self/mem") if act is not by_echo else Path("/dev/full")
    with pytest.raises(OSError, match=r"Errno") as caught:
        act(path)
    assert caught.value.filename is None
    assert f": '{path}'; " in one_line(caught.value)


def test_an_error_of_no_known_file_says_so():
    message = one_line(OSError(errno.ENOSPC, "No space left on device"))
    place = "the command's output, or a file of a library, perhaps in /"
    assert f"No space left on device: {place}" in message


def test_no_folder_for_temporary_files_is_one_line():
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert "set TMPDIR to a folder" in one_line(error)
    assert one_line(FileNotFoundError(errno.ENOENT, "No such file", "a")) is None


def test_a_full_folder_of_temporary_files_names_tmpdir(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    message = one_line(OSError(errno.ENOSPC, "No space left", str(tmp_path / "x/a.h5")))
    assert "x/a.h5" in message
    assert message.endswith("(that of temporary files is TMPDIR)")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError("Can't read data (file read failed: error message = 'Input/output error')"),
        SafetensorError("I/O error: Input/output error (os error 5)"),
    ],
)
def test_a_failing_disk_does_not_make_a_file_damaged(tmp_path, error):
    with pytest.raises(OSError, match="Input/output") as caught:
        raise_of_machine(error, tmp_path / "a.h5")
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(tmp_path / "a.h5"))


def test_damage_is_none_of_the_machine(tmp_path):
    raise_of_machine(OSError("Can't read data (wrong signature)"), tmp_path / "a.h5")
    raise_of_machine(FileNotFoundError(errno.ENOENT, "No such file"), tmp_path / "a.h5")


def test_a_bag_on_a_failing_disk_is_not_to_be_deleted(tmp_path):
    with h5.writing(tmp_path / "a.h5", "mil.x", 1) as file:
        file["a"] = np.zeros(3)
    with pytest.raises(OSError, match="Input/output"), h5.reading(tmp_path / "a.h5", "mil.x", 1):
        raise OSError("Can't read data (file read failed: 'Input/output error')")


def test_a_head_that_may_not_be_read_is_not_to_be_trained_again(tmp_path, monkeypatch):
    from mil.trained.record import read_record

    def refuse(path, encoding):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(PermissionError):
        read_record(tmp_path)
