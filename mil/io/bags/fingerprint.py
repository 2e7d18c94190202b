"""A digest that distinguishes a bag's features from others' without reading all of them."""

import math
from hashlib import blake2b
from pathlib import Path
from typing import Any

import h5py

from mil.io.bags.file import FORMAT, VERSION
from mil.io.checksums import read_checksums
from mil.io.h5 import dataset_of, reading

# Features hashed at either end of a bag, bytes.
END_BYTES = 256 << 10


def features_digest(path: Path, end_bytes: int | None = END_BYTES) -> str:
    """Digest of the shape of a bag's features and of their first and last rows.

    Args:
        path: the bag's file.
        end_bytes: bytes read at either end; None: all features, so that equal digests
            mean equal features.

    Raises:
        FormatError: the file is no bag.
    """
    with reading(path, FORMAT, VERSION) as file:
        digest = blake2b(digest_size=16)
        _update(digest, dataset_of(file, "features", path), end_bytes)
        return digest.hexdigest()


def bag_digest(path: Path) -> str:
    """Digest of all that a head sees of a bag: features, coordinates and validity.

    It is of the bag's checksums, which `read_bag` compares with the numbers. Bags of older
    versions have none: of their features, shape and either end are read (`END_BYTES`),
    since readers of scores check every bag.

    Raises:
        FormatError: it is not a bag.
    """
    with reading(path, FORMAT, VERSION) as file:
        digest = blake2b(digest_size=16)
        checksums = read_checksums(file, path)
        if checksums:
            digest.update(" ".join(sorted(map("=".join, checksums.items()))).encode())
            return digest.hexdigest()
        _update(digest, dataset_of(file, "features", path), END_BYTES)
        for name in ("valid", "coords", "coords_um"):
            if name in file:
                digest.update(name.encode())
                _update(digest, dataset_of(file, name, path), None)
        return digest.hexdigest()


def _update(digest: Any, rows: h5py.Dataset, end_bytes: int | None) -> None:
    """Add shape, type, first and last rows of a dataset to a digest."""
    digest.update(f"{rows.shape} {rows.dtype}".encode())
    count = len(rows)
    row_bytes = max(rows.dtype.itemsize * math.prod(rows.shape[1:]), 1)
    at_an_end = count if end_bytes is None else min(-(-end_bytes // row_bytes), count)
    digest.update(rows[:at_an_end].tobytes())
    digest.update(rows[max(at_an_end, count - at_an_end) :].tobytes())
