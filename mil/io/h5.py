"""What our HDF5 files share: written whole, told apart by format and version, finished by an end mark."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from mil.errors import FormatError
from mil.io.atomic import atomic_path
from mil.versions import TOOL_VERSION


@contextmanager
def writing(path: Path, format_name: str, version: int) -> Iterator[h5py.File]:
    """Give an HDF5 file to fill; it appears under `path` whole, with its end mark, or not at all.

    Raises:
        OSError: the disk is full, or no place to write to.
    """
    with (
        _full_disk(path),
        atomic_path(path) as scratch,
        h5py.File(scratch, "w") as file,
    ):  # h5 closes before the move
        file.attrs.update(format=format_name, format_version=version, tool_version=TOOL_VERSION)
        yield file
        file.attrs["complete"] = True


@contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    """What HDF5 raises on a full disk is of many kinds, and many lines long."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        for number in (errno.ENOSPC, errno.EDQUOT):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(path)) from None
        raise


@contextmanager
def reading(path: Path, format_name: str, version: int) -> Iterator[h5py.File]:
    """Open an HDF5 file of ours, without locks (network file systems have none).

    Raises:
        FormatError: it is missing, another format or version, was never finished, or is
            damaged where it is read.
    """
    try:
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except OSError as error:
        raise FormatError(
            f"{path}: not an HDF5 file, or cut short ({error}); delete it and run again"
        ) from None
    with file, _damage(path):
        found = file.attrs.get("format", "another format")
        number = file.attrs.get("format_version", "?")
        if (found, number) != (format_name, version):
            raise FormatError(
                f"{path}: expected {format_name} version {version}, found {found} version {number}"
            )
        if not file.attrs.get("complete", False):
            raise FormatError(
                f"{path}: has no end mark, its writing was cut short; delete it and run again"
            )
        if not _whole(file):
            raise FormatError(
                f"{path}: keeps data in other files, or claims data that was never written; make "
                "it again"
            )
        yield file


def _whole(group: h5py.Group, depth: int = 2) -> bool:
    """Whether all data lies in the file itself, as our writer puts it there: a file may come from anywhere.

    A link could show what else is on this disk, and a table that was never written
    could fill the memory.
    """
    for name in group:
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD or depth == 0:
            return False
        found = group[name]
        if isinstance(found, h5py.Group):
            if not _whole(found, depth - 1):
                return False
        elif found.is_virtual or found.external or found.id.get_storage_size() != found.nbytes:
            return False
    return True


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What HDF5 says of a file that opens but is damaged further in, in one line."""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(
            f"{path}: damaged, or lacks what it should hold ({reason}); delete it and run again"
        ) from None
