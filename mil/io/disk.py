"""Errors of the operating system on files: the path that each concerns, and its remedy."""

import errno
import os
from io import IOBase
from pathlib import Path
from traceback import walk_tb
from typing import Any

from mil.errors import MilError, brief

DISK_FULL = "free some space there, or choose another path"
NO_PERMISSION = "change its permissions, or choose another path"
NO_PATH = "choose another path"
FAILING = "look at this disk or its connection, then run again"
TOO_MANY_OPEN = "raise the limit of open files (`ulimit -n`), or run fewer jobs at a time"
# Errors that a user can mend. Any other OSError is a fault of ours and keeps its traceback.
REMEDIES = {
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    # A limit on the size of files, as that of FAT.
    errno.EFBIG: DISK_FULL,
    errno.EACCES: NO_PERMISSION,
    errno.EPERM: NO_PERMISSION,
    errno.EROFS: "choose a path on a disk that can be written to",
    errno.EISDIR: NO_PATH,
    errno.ENOTDIR: NO_PATH,
    errno.EEXIST: NO_PATH,
    errno.ENAMETOOLONG: "choose a shorter name or path",
    errno.ELOOP: "its symbolic links lead in a circle: mend them, or choose another path",
    errno.EMFILE: TOO_MANY_OPEN,
    errno.ENFILE: TOO_MANY_OPEN,
    errno.EIO: FAILING,
    errno.ESTALE: FAILING,
}
# Those of them that say nothing about the content of a file that is read.
OF_MACHINE = (
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
    errno.ESTALE,
)
# Functions of a traceback, from the last, that may hold the file of an error.
INNERMOST = 3
UNKNOWN_FILE = "the command's output, or a file of a library, perhaps in {}"
# More than a file system keeps back, so that a full disk is noticed.
PROBE_BYTES = 1 << 20


def system_error(error: BaseException, scratch: Path, target: Path) -> OSError | None:
    """The system's error behind a failed write, with the path that the user knows.

    Python's errors of `write` carry no path. Those of HDF5, torch, PIL and safetensors are of
    many kinds, often without a number: then the system is asked by writing some more bytes.

    Args:
        error: What the writer raised.
        scratch: File that was written.
        target: File that it was to become.

    Returns:
        None where the system did not refuse the write, or the error names another file.
    """
    if isinstance(error, OSError) and error.errno is not None:
        is_ours = error.filename is None or Path(os.fsdecode(error.filename)) == scratch
        return _error(error.errno, target) if is_ours and error.errno in REMEDIES else None
    if isinstance(error, MilError) or not isinstance(error, Exception):
        return None
    number = _quoted(error) or _refusal(scratch)
    return None if number is None else _error(number, target)


def raise_of_machine(error: BaseException, path: Path) -> None:
    """Raise the system's error behind a failed read, lest a whole file be called damaged.

    Args:
        error: What the reader raised.
        path: File that was read.

    Raises:
        OSError: permission, disk, network or open files are at fault, not the content.
    """
    number = _quoted(error)
    if isinstance(error, OSError) and error.errno:
        number = error.errno
        path = Path(os.fsdecode(error.filename or path))
    if number in OF_MACHINE:
        raise _error(number, path) from None


def _quoted(error: BaseException) -> int | None:
    """Number of the error of the system that HDF5 or safetensors quote in their own text."""
    return next((number for number in REMEDIES if os.strerror(number) in str(error)), None)


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


def _refusal(scratch: Path) -> int | None:
    """Number of the error with which the system refuses more bytes of a file, if it does."""
    try:
        with scratch.open("ab") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno
    return None


def one_line(error: OSError | RuntimeError) -> str | None:
    """Message with path and remedy of an error that a user can mend; None: a fault of ours."""
    # Python before 3.13 says so of links that lead in a circle.
    if "Symlink loop" in str(error) and isinstance(error.__context__, OSError):
        error = error.__context__
    if not isinstance(error, OSError):
        return None
    text = brief(error)
    if error.errno == errno.ENOENT and "temporary directory" in text:
        return f"{text}; set TMPDIR to a folder that can be written to"
    if error.errno not in REMEDIES:
        return None
    remedy = REMEDIES[error.errno]
    folder = _temporary_folder()
    if error.filename is None:
        # Errors of `read` and `write` carry no path.
        text += f": {_file_of(error) or UNKNOWN_FILE.format(folder)}"
    elif remedy == DISK_FULL and folder in Path(os.fsdecode(error.filename)).absolute().parents:
        remedy += " (that of temporary files is TMPDIR)"
    return f"{text}; {remedy}"


def _file_of(error: OSError) -> str:
    """The open file, or pathlib's path, that the innermost functions of an error hold."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    for frame in frames[: -INNERMOST - 1 : -1]:
        values = list(frame.f_locals.values())
        names = [name for value in values if (name := _name_of(value))]
        # Any other function may hold paths of files that it does not use just now.
        if "pathlib" in frame.f_code.co_filename:
            names += [str(value) for value in values if isinstance(value, Path)]
        if names:
            return repr(names[0])
    return ""


def _name_of(value: Any) -> str:
    """Path of an open file; empty for any other value, and for one opened by a number."""
    name = getattr(value, "name", None) if isinstance(value, IOBase) else None
    return str(name) if isinstance(name, str | Path) else ""


def _temporary_folder() -> Path | None:
    # Here, since every command imports this module, and few fail.
    from tempfile import gettempdir

    try:
        return Path(gettempdir()).absolute()
    except OSError:
        return None
