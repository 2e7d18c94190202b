"""Our HDF5 files: written whole, with format, version and an end mark."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mil.errors import FormatError
from mil.io.atomic import atomic_path
from mil.versions import TOOL_VERSION


@contextmanager
def writing(path: Path, format_name: str, version: int) -> Iterator[h5py.File]:
    """Open an HDF5 file to fill; it appears under `path` with its end mark, or not at all.

    Args:
        path: file to write.
        format_name: name of the format, such as `mil.bag`.
        version: version of the format.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    # HDF5 closes the file before `atomic_path` moves it.
    with (
        _full_disk(path),
        atomic_path(path) as scratch,
        h5py.File(scratch, "w") as file,
    ):
        file.attrs.update(format=format_name, format_version=version, tool_version=TOOL_VERSION)
        yield file
        file.attrs["complete"] = True


@contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    """Turn HDF5's errors of a full disk, of many kinds and lines, into one OSError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # HDF5 has no error codes, only the system's text within its own.
        for number in (errno.ENOSPC, errno.EDQUOT):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(path)) from None
        raise


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
    try:
        # Many jobs read one file at once, and none writes to it.
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except OSError as error:
        raise FormatError(
            f"{path}: not an HDF5 file, or cut short ({error}); delete it and run again"
        ) from None
    with file, _damage(path):
        stored_name = file.attrs.get("format", "another format")
        stored_version = file.attrs.get("format_version", "?")
        if (stored_name, stored_version) != (format_name, version):
            raise FormatError(
                f"{path}: expected {format_name} version {version}, found {stored_name} version "
                f"{stored_version}"
            )
        # Written last, so that it tells a finished file from one that a crash cut short.
        if not file.attrs.get("complete", False):
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


def _is_self_contained(group: h5py.Group, depth: int = 2) -> bool:
    """Whether all data lies in the file itself, as our writer puts it there.

    A file may come from anywhere. A link could show what else is on this disk, and a
    table that was never written could fill the memory.
    """
    for name in group:
        link = group.id.links.get_info(name.encode())
        if link.type != h5py.h5l.TYPE_HARD or depth == 0:
            return False
        member = group[name]
        if isinstance(member, h5py.Group):
            if not _is_self_contained(member, depth - 1):
                return False
        elif member.is_virtual or member.external or member.id.get_storage_size() != member.nbytes:
            return False
    return True


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn HDF5's errors of a file that is damaged further in into one line."""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(
            f"{path}: damaged, or lacks what it should hold ({reason}); delete it and run again"
        ) from None


def plain(value: Any) -> Any:
    """An attribute's value as Python's own number, text or truth value."""
    return value.item() if isinstance(value, np.generic) else value
