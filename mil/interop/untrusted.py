"""Reading of untrusted files: no link followed, nothing unpickled, no claimed size believed.

Files of other tools come from anywhere. They are opened for reading only and without
locks, and every number is checked before it is used.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float, Shaped

from mil.errors import FormatError, MilError, brief
from mil.io.probe import check_opens

# The widest slide encoders give some thousand features.
MAX_DIM = 65_536
# Bags keep coordinates as int32.
MAX_COORDINATE = 2**31 - 1
# Deflate packs at most about 1032 to 1, so a table that claims more was never written.
MAX_COMPRESSION_RATIO = 1100
# Features are noise to a compressor: a fifth is saved, and never nine tenths of much.
LARGE_BYTES = 64 << 20
MAX_RATIO_OF_LARGE = 50
MAX_TEXT_CHARACTERS = 1000
MAX_ATTRIBUTE_VALUES = 100
MAX_ATTRIBUTE_BYTES = 1 << 20
# What h5py raises on damaged files: it has no exception of its own.
UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file, read-only and without locks.

    Raises:
        FormatError: it is no HDF5 file, or is damaged where it is read.
    """
    check_opens(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except MilError:
        # Already a message for the user; some of them are ValueErrors too.
        raise
    except UNREADABLE as error:
        raise FormatError(
            f"{path}: not an HDF5 file, cut short or damaged ({brief(error)})"
        ) from None


def get_item(group: h5py.Group, name: str, location: str) -> h5py.Dataset | h5py.Group | None:
    """Object in a group under a name; None if the name is not there.

    Args:
        group: the group, or the file.
        name: name in the group.
        location: the file, and the group in it, for messages.

    Raises:
        FormatError: the name is a link, which could lead out of the file.
    """
    links = group.id.links
    key = name.encode()
    if not links.exists(key):
        return None
    if links.get_info(key).type != h5py.h5l.TYPE_HARD:
        raise FormatError(
            f"{location}: {name!r} is a link to somewhere else, which is not followed; copy the "
            "data in"
        )
    return group[name]


def get_dataset(group: h5py.Group, name: str, location: str) -> h5py.Dataset | None:
    """Dataset whose data lies in the file itself; None if the name is not there.

    Args:
        group: the group, or the file.
        name: name in the group.
        location: the file, and the group in it, for messages.

    Raises:
        FormatError: it is no dataset, keeps its data in other files, or was never
            written.
    """
    item = get_item(group, name, location)
    if item is None:
        return None
    if not isinstance(item, h5py.Dataset):
        raise FormatError(f"{location}: {name!r} is not a dataset")
    # Both could read any file of this disk into a bag.
    if item.is_virtual or item.external:
        raise FormatError(
            f"{location}: {name!r} keeps its data in other files, which are not opened; copy the "
            "data in"
        )
    # HDF5 makes up zeros for what was never written, so a small file can claim any size.
    if item.shape is None or _claimed_bytes(item) > MAX_COMPRESSION_RATIO * _stored_bytes(item):
        raise FormatError(
            f"{location}: {name!r} claims the shape {item.shape} but was never written"
        )
    # Each chunk is unpacked as a whole, even for one row of it.
    chunk_bytes = math.prod(item.chunks or ()) * item.dtype.itemsize
    if chunk_bytes > max(2 * _claimed_bytes(item), LARGE_BYTES):
        raise FormatError(f"{location}: {name!r} claims chunks of {chunk_bytes / 1e6:.0f} MB")
    if _claimed_bytes(item) > max(MAX_RATIO_OF_LARGE * _stored_bytes(item), LARGE_BYTES):
        raise FormatError(
            f"{location}: {name!r} would unpack {_stored_bytes(item) / 1e6:.1f} MB to "
            f"{_claimed_bytes(item) / 1e6:.0f} MB, which no features do; write it again without "
            "compression"
        )
    return item


def get_numeric_dataset(group: h5py.Group, name: str, location: str) -> h5py.Dataset | None:
    """Dataset of numbers, as `get_dataset` gives it; None if the name is not there.

    Args:
        group: the group, or the file.
        name: name in the group.
        location: the file, and the group in it, for messages.

    Raises:
        FormatError: it is something else.
    """
    dataset = get_dataset(group, name, location)
    if dataset is not None and dataset.dtype.kind not in "fiu":
        raise FormatError(f"{location}: {name!r} holds {dataset.dtype}, not numbers")
    return dataset


def _claimed_bytes(dataset: h5py.Dataset) -> int:
    return math.prod(dataset.shape) * int(dataset.dtype.itemsize)


def _stored_bytes(dataset: h5py.Dataset) -> int:
    return int(dataset.id.get_storage_size())


def check_feature_shape(shape: tuple[int, ...], kind: str, location: str) -> None:
    """Check that an array can be features: one row of fractions a tile.

    Args:
        shape: shape of the array.
        kind: NumPy's letter for the kind of numbers, "f" for fractions.
        location: the file, and the group in it, for messages.

    Raises:
        FormatError: it cannot be.
    """
    if len(shape) == 1 and shape[0] > 0:
        raise FormatError(
            f"{location}: one vector of {shape[0]} numbers: features of a whole slide, not of its "
            "tiles"
        )
    # TRIDENT writes an empty vector for a slide without tiles.
    empty = shape == (0,) or (len(shape) == 2 and shape[0] == 0)
    if not empty and not (len(shape) == 2 and 0 < shape[1] <= MAX_DIM):
        raise FormatError(f"{location}: features of shape {shape}, not one row a tile")
    if kind != "f":
        raise FormatError(
            f"{location}: the features are no floating-point numbers, which every encoder "
            "computes; check that the file holds features"
        )


def read_features(dataset: h5py.Dataset, location: str) -> Float[np.ndarray, "tiles dim"]:
    """Features of each tile as stored, all finite.

    Raises:
        FormatError: the dataset cannot be features, or holds NaN or infinity.
    """
    check_feature_shape(dataset.shape, dataset.dtype.kind, location)
    return finite_rows(dataset[:], location)


def finite_rows(
    features: Float[np.ndarray, "..."], location: str
) -> Float[np.ndarray, "tiles dim"]:
    """The same features, checked; an empty vector becomes a table of no rows.

    Raises:
        FormatError: a value is NaN or infinite.
    """
    if not features.size:
        return features if features.ndim == 2 else features.reshape(0, 0)
    bad_rows = np.flatnonzero(~np.isfinite(features).all(axis=-1))
    if len(bad_rows):
        raise FormatError(
            f"{location}: {len(bad_rows)} of {len(features)} tiles hold NaN or infinity, first "
            f"row {bad_rows[0]}"
        )
    return features


def read_coords(dataset: h5py.Dataset, tiles: int, location: str) -> Shaped[np.ndarray, "tiles 2"]:
    """Coordinates of each tile as stored, all finite, in whatever unit the file has.

    Args:
        dataset: the coordinates.
        tiles: number of tiles that have features.
        location: the file, and the group in it, for messages.

    Raises:
        FormatError: they are not two plausible numbers for each tile.
    """
    if dataset.shape == (0,) and tiles == 0:
        return np.zeros((0, 2))
    if dataset.shape != (tiles, 2):
        raise FormatError(f"{location}: coords of shape {dataset.shape} for {tiles} tiles")
    coords = dataset[:]
    if not np.isfinite(coords).all():
        raise FormatError(f"{location}: coords hold NaN or infinity")
    # As floats: the absolute value of the smallest integer does not fit its type.
    largest = np.abs(coords.astype(float)).max(initial=0)
    if largest > MAX_COORDINATE:
        raise FormatError(f"{location}: coords up to {largest:.4g}, which no slide has")
    return coords


def read_attribute(attrs: h5py.AttributeManager, name: str, location: str) -> Any:
    """Value of one attribute, whatever its type; None if the name is not there.

    Raises:
        FormatError: it claims to be large, and reading it could take for ever.
    """
    if name not in attrs:
        return None
    attribute = attrs.get_id(name)
    values = math.prod(attribute.shape or ())
    if values > MAX_ATTRIBUTE_VALUES or attribute.get_storage_size() > MAX_ATTRIBUTE_BYTES:
        raise FormatError(f"{location}: {name} is too large for an attribute")
    return attrs[name]


def read_positive(attrs: h5py.AttributeManager, name: str, location: str) -> float | None:
    """Value of a positive number among the attributes; None if it is missing or 'None'.

    Raises:
        FormatError: it is something else.
    """
    value = read_attribute(attrs, name, location)
    # TRIDENT writes the text 'None' for what it does not know.
    if value is None or (isinstance(value, str) and value in ("None", "")):
        return None
    try:
        number = float(value.item() if isinstance(value, np.ndarray) else value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise FormatError(f"{location}: {name} is {str(value)[:50]!r}, not a positive number")
    return number


def read_text(attrs: h5py.AttributeManager, name: str, location: str) -> str:
    """Value of a line of text among the attributes; empty if it is missing or 'None'.

    Raises:
        FormatError: it is something else.
    """
    value = read_attribute(attrs, name, location)
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    # Not printable: line breaks and terminal codes, which would reach the user's screen.
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARACTERS or not value.isprintable():
        raise FormatError(f"{location}: {name} is not a line of text")
    return "" if value == "None" else value
