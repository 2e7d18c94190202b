"""Our HDF5 files: written whole, with format, version and an end mark."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from mil.errors import FormatError, MilError, brief
from mil.io.atomic import atomic_path
from mil.io.digests import MADE_FROM as MADE_FROM
from mil.io.digests import statements
from mil.io.disk import raise_of_machine
from mil.io.probe import check_opens, trust
from mil.versions import TOOL_VERSION

# Name of the format of a file that is not ours.
OTHER_FORMAT = "another format"
# Formats that are taken for others, with what tells them apart.
CONTENTS = {"mil.vectors": " (one vector a slide, no tiles)"}
# Characters of a foreign attribute that a message shows.
LONGEST_SHOWN = 60
# What h5py says of an object whose file could not be written.
UNCLOSED = "Can't decrement id ref count"


@contextmanager
def writing(
    path: Path, format_name: str, version: int, *, made_from: str = ""
) -> Iterator[h5py.File]:
    """Open an HDF5 file to fill; it appears under `path` with its end mark, or not at all.

    Args:
        path: file to write.
        format_name: name of the format, such as `mil.bag`.
        version: version of the format.
        made_from: digest of what the content depends on; see `mil.io.provenance`.

    Raises:
        FormatError: something else lies there, which would be lost.
        OSError: the disk is full, or the folder cannot be written to.
    """
    check_replaceable(path, format_name)
    _silence_unclosed()
    # HDF5 closes the file before `atomic_path` moves it.
    with atomic_path(path) as scratch, h5py.File(scratch, "w") as file:
        file.attrs.update(format=format_name, format_version=version, tool_version=TOOL_VERSION)
        file.attrs.update(statements(made_from))
        yield file
        file.attrs["complete"] = True
    trust(path)


def check_replaceable(path: Path, format_name: str) -> None:
    """Refuse to replace a file that is not of the format, such as a slide or a bag.

    Args:
        path: file that will be written; mostly there is none.
        format_name: name of the format that will be written.

    Raises:
        FormatError: something else lies there, which would be lost.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    if h5py.is_hdf5(path):
        check_opens(path)
        try:
            with h5py.File(path, "r", locking=False) as file:
                stored_name = _one_line(file.attrs.get("format", OTHER_FORMAT))
        except OSError:
            # Cut short, as by a crash: nothing is lost with it.
            return
    else:
        stored_name = OTHER_FORMAT
    if stored_name != format_name:
        raise FormatError(
            f"{path}: is already there as a file of {stored_name}, and would be lost; give another "
            f"path for {format_name}, or delete it first"
        )


def stored_format(path: Path) -> str:
    """Name of the format that a file states; empty where it is no HDF5 file or states none.

    Args:
        path: Any file, or a path where there is none.
    """
    if not path.is_file():
        return ""
    check_opens(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _one_line(file.attrs.get("format", ""))
    # Attributes of strangers may be of any kind.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return ""


def _one_line(value: Any) -> str:
    """An attribute of a file from anywhere, as it stands in a message."""
    return " ".join(str(plain(value)).split())[:LONGEST_SHOWN]


@cache
def _silence_unclosed() -> None:
    """Keep h5py from printing a traceback for every object that cannot be closed.

    It does so as soon as the objects of a failed file are freed, beside the one error.
    """
    show = sys.excepthook
    show_unraisable = sys.unraisablehook

    def excepthook(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if UNCLOSED not in str(error):
            show(kind, error, trace)

    def unraisablehook(unraisable: Any) -> None:
        if UNCLOSED not in str(unraisable.exc_value):
            show_unraisable(unraisable)

    sys.excepthook = excepthook
    sys.unraisablehook = unraisablehook


@contextmanager
def reading(path: Path, format_name: str, version: int) -> Iterator[h5py.File]:
    """Open an HDF5 file of ours, without locks (network file systems have none).

    Args:
        path: file to read.
        format_name: name of the format it must have.
        version: version of the format it must have.

    Raises:
        FormatError: the file is missing, is of another format or version, was never
            finished, or is damaged where it is read.
    """
    check_opens(path)
    try:
        # HDF5 would wait for a pipe's writer for ever.
        if path.is_fifo():
            raise FileNotFoundError
        # Many jobs read one file at once, and none writes to it.
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except OSError as error:
        raise FormatError(f"{path}: {_unopened(path, format_name, error)}") from None
    with file, _damage(path):
        _check_format(file, path, format_name, version)
        # Written last, so that it tells a finished file from one that a crash cut short.
        if plain(file.attrs.get("complete", False)) is not True:
            raise FormatError(
                f"{path}: has no end mark, its writing was cut short; delete it and run again"
            )
        # Before anything is read: a claimed size is believed only if it is stored.
        if not _is_self_contained(file):
            raise FormatError(
                f"{path}: keeps data in other files, or claims data that was never written; make "
                "it again"
            )
        yield file


def _unopened(path: Path, format_name: str, error: OSError) -> str:
    """Reason why a file does not open as HDF5, and the remedy."""
    if error.errno == errno.EISDIR:
        return f"is a folder, not a {format_name} file; give the file itself"
    # HDF5 names the system's error only where that, and not the content, is the cause.
    if error.errno:
        return f"cannot be read: {os.strerror(error.errno)}; check its permissions and its disk"
    reason = brief(error)
    # A file without the signature may be anybody's: nobody is told to delete that.
    if path.stat().st_size and not h5py.is_hdf5(path):
        return (
            f"not an HDF5 file ({reason}); give a {format_name} file, or delete this one if a run "
            "left it, and run again"
        )
    return f"not an HDF5 file, or cut short ({reason}); delete it and run again"


def _check_format(file: h5py.File, path: Path, format_name: str, version: int) -> None:
    stored_name = _one_line(file.attrs.get("format", OTHER_FORMAT))
    stored_version = _one_line(file.attrs.get("format_version", ""))
    if (stored_name, stored_version) == (format_name, str(version)):
        return
    if stored_name == format_name:
        remedy = "another version of mil wrote it: make it again with this one"
    else:
        remedy = f"give a {format_name} file"
    in_version = f" version {stored_version}" if stored_version else ""
    raise FormatError(
        f"{path}: expected {format_name} version {version}, found {stored_name}{in_version}"
        f"{CONTENTS.get(stored_name, '')}; {remedy}"
    )


def _is_self_contained(group: h5py.Group, depth: int = 2) -> bool:
    """Whether all data lies in the file itself, as our writer puts it there.

    A file may come from anywhere. A link could show what else is on this disk, and a
    table that was never written could fill the memory.
    """
    for name in group:
        # h5py gives a name that is no UTF-8 as bytes.
        key = name.encode() if isinstance(name, str) else name
        link = group.id.links.get_info(key)
        if link.type != h5py.h5l.TYPE_HARD or depth == 0:
            return False
        member = group[name]
        if isinstance(member, h5py.Group):
            if not _is_self_contained(member, depth - 1):
                return False
        elif (
            not isinstance(member, h5py.Dataset)
            or member.is_virtual
            or member.external
            or member.id.get_storage_size() != member.nbytes
        ):
            return False
    return True


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn HDF5's errors of a file that is damaged further in into one line."""
    try:
        yield
    except MilError:
        raise
    except Exception as error:
        raise_of_machine(error, path)
        # Errors of our own code are faults of ours, and keep their traceback.
        if not isinstance(error, OSError | RuntimeError | KeyError) and not _is_of_h5py(error):
            raise
        reason = brief(error)
        raise FormatError(
            f"{path}: damaged, or lacks what it should hold ({reason}); delete it and run again"
        ) from None


def _is_of_h5py(error: BaseException) -> bool:
    """Whether an error comes from HDF5 or its reader, which raise errors of every kind."""
    frames = extract_tb(error.__traceback__)
    return bool(frames) and "h5py" in Path(frames[-1].filename).parts


def dataset_of(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Dataset of numbers under a name.

    Raises:
        FormatError: something else is there, or nothing.
    """
    item = file.get(name)
    if not isinstance(item, h5py.Dataset) or item.shape is None or item.dtype.kind not in "biuf":
        raise FormatError(
            f"{path}: {name} is not the numbers that it should be; delete it and make it again"
        )
    return item


def plain(value: Any) -> Any:
    """An attribute's value as Python's own number, text or truth value."""
    return value.item() if isinstance(value, np.generic) else value
