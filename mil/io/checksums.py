"""Checksums of the arrays in our HDF5 files, by which changed or damaged numbers are noticed.

HDF5 keeps none for contiguous data. XXH3 takes a thirtieth of the time of SHA-256: 1 ms
for a bag of 25 MB. It guards against accidents, not against forgery.
"""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from xxhash import xxh3_64

from mil.errors import FormatError

# Attribute of a file: NAME=CHECKSUM of each of its arrays, separated by spaces.
ATTRIBUTE = "xxh3_64"


def checksum(array: np.ndarray) -> str:
    """Checksum of an array's numbers, type and shape, hex."""
    digest = xxh3_64(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def write_arrays(file: h5py.File, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays into an open file, with their checksums.

    Args:
        file: File open for writing.
        arrays: All arrays of the file, by name.
    """
    for name, array in arrays.items():
        file[name] = array
    pairs = (f"{name}={checksum(array)}" for name, array in arrays.items())
    file.attrs[ATTRIBUTE] = " ".join(pairs)


def read_checksums(file: h5py.File, path: Path) -> dict[str, str]:
    """Checksum of each array by its name; empty for files of older versions, which have none.

    Raises:
        FormatError: The attribute is damaged.
    """
    stored = file.attrs.get(ATTRIBUTE, "")
    pairs = stored.split() if isinstance(stored, str) else [""]
    checksums = dict(pair.partition("=")[::2] for pair in pairs)
    if not all(checksums.values()):
        raise FormatError(f"{path}: its checksums are damaged; delete it and make it again")
    return checksums


def check_arrays(file: h5py.File, arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Refuse a file whose arrays are not as they were written.

    Args:
        file: The open file; nothing is checked if it has no checksums.
        arrays: Arrays as they were read, by name; those that a reader left out are not
            compared.
        path: The file, for messages.

    Raises:
        FormatError: An array differs, was added or is missing.
    """
    checksums = read_checksums(file, path)
    if not checksums:
        return
    for name in checksums:
        if name not in file:
            raise _changed(path, f"lost its {name}")
    for name, array in arrays.items():
        if checksum(array) != checksums.get(name):
            raise _changed(path, f"its {name} differ from their checksum")


def _changed(path: Path, fault: str) -> FormatError:
    return FormatError(
        f"{path}: {fault}, so it was changed or damaged after it was written; delete it and make "
        "it again"
    )
