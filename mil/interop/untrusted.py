"""Files that come from strangers: opened for reading only, no link followed, nothing unpickled, no size believed."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float, Shaped

from mil.errors import FormatError, MilError

MAX_DIM = 65_536
MAX_COORDINATE = 2**31 - 1
MAX_PACKING = 1100  # deflate cannot pack denser: a table that claims more was never written
MAX_TEXT = 1000
MAX_VALUES = 100
MAX_ATTRIBUTE_BYTES = 1 << 20
UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file, read-only and without locks.

    Raises:
        FormatError: it is not one, or is damaged where it is read.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except MilError:
        raise
    except UNREADABLE as error:
        raise FormatError(
            f"{path}: not an HDF5 file, cut short or damaged ({_line(error)})"
        ) from None


def member(group: h5py.Group, name: str, where: str) -> h5py.Dataset | h5py.Group | None:
    """What a group holds under a name; None: nothing.

    Raises:
        FormatError: it holds a link, which could lead out of the file.
    """
    links = group.id.links
    key = name.encode()
    if not links.exists(key):
        return None
    if links.get_info(key).type != h5py.h5l.TYPE_HARD:
        raise FormatError(
            f"{where}: {name!r} is a link to somewhere else, which is not followed; copy the "
            "data in"
        )
    return group[name]


def dataset(group: h5py.Group, name: str, where: str) -> h5py.Dataset | None:
    """A dataset whose data lies in the file itself; None: there is none of that name.

    Raises:
        FormatError: it is something else.
    """
    found = member(group, name, where)
    if found is None:
        return None
    if not isinstance(found, h5py.Dataset):
        raise FormatError(f"{where}: {name!r} is not a dataset")
    if found.is_virtual or found.external:
        raise FormatError(
            f"{where}: {name!r} keeps its data in other files, which are not opened; copy the "
            "data in"
        )
    if found.shape is None or math.prod(found.shape) * found.dtype.itemsize > MAX_PACKING * _stored(
        found
    ):
        raise FormatError(f"{where}: {name!r} claims the shape {found.shape} but was never written")
    return found


def table(group: h5py.Group, name: str, where: str) -> h5py.Dataset | None:
    """Like `dataset`, and it holds numbers.

    Raises:
        FormatError: it is something else.
    """
    found = dataset(group, name, where)
    if found is not None and found.dtype.kind not in "fiu":
        raise FormatError(f"{where}: {name!r} holds {found.dtype}, not numbers")
    return found


def _stored(dataset: h5py.Dataset) -> int:
    return int(dataset.id.get_storage_size())


def check_features(shape: tuple[int, ...], kind: str, where: str) -> None:
    """Whether features are one row of numbers a tile.

    Raises:
        FormatError: they are not.
    """
    if len(shape) == 1 and shape[0] > 0:
        raise FormatError(
            f"{where}: one vector of {shape[0]} numbers: features of a whole slide, not of its "
            "tiles"
        )
    if len(shape) not in (1, 2) or (
        len(shape) == 2 and not (shape[0] == 0 or 0 < shape[1] <= MAX_DIM)
    ):
        raise FormatError(f"{where}: features of shape {shape}, not one row a tile")
    if kind != "f":
        raise FormatError(f"{where}: features that are whole numbers, not what an encoder gives")


def read_features(dataset: h5py.Dataset, where: str) -> Float[np.ndarray, "tiles dim"]:
    """Features of each tile, as stored; finite.

    Raises:
        FormatError: they cannot be features.
    """
    check_features(dataset.shape, dataset.dtype.kind, where)
    return finite(dataset[:], where)


def finite(features: Float[np.ndarray, "..."], where: str) -> Float[np.ndarray, "tiles dim"]:
    """The same features; an empty vector, as TRIDENT writes it, becomes a table of no rows.

    Raises:
        FormatError: a value is NaN or infinite.
    """
    bad = np.flatnonzero(~np.isfinite(features).all(axis=-1)) if features.size else np.zeros(0, int)
    if len(bad):
        raise FormatError(
            f"{where}: {len(bad)} of {len(features)} tiles hold NaN or infinity, first row {bad[0]}"
        )
    return features if features.ndim == 2 else features.reshape(0, 0)


def read_coords(dataset: h5py.Dataset, tiles: int, where: str) -> Shaped[np.ndarray, "tiles 2"]:
    """Coordinates of each tile, as stored; finite.

    Raises:
        FormatError: they are not two numbers for each of so many tiles.
    """
    if dataset.shape == (0,) and tiles == 0:
        return np.zeros((0, 2))
    if dataset.shape != (tiles, 2):
        raise FormatError(f"{where}: coords of shape {dataset.shape} for {tiles} tiles")
    coords = dataset[:]
    if not np.isfinite(coords).all():
        raise FormatError(f"{where}: coords hold NaN or infinity")
    if len(coords) and np.abs(coords.astype(float)).max() > MAX_COORDINATE:
        raise FormatError(
            f"{where}: coords up to {np.abs(coords.astype(float)).max():.4g}, which no slide has"
        )
    return coords


def attribute(attrs: h5py.AttributeManager, name: str, where: str) -> Any:
    """One attribute, whatever it is; None: there is none of that name.

    Raises:
        FormatError: it claims to be large, and reading it could take for ever.
    """
    if name not in attrs:
        return None
    found = attrs.get_id(name)
    if math.prod(found.shape or ()) > MAX_VALUES or found.get_storage_size() > MAX_ATTRIBUTE_BYTES:
        raise FormatError(f"{where}: {name} is too large for an attribute")
    return attrs[name]


def number(attrs: h5py.AttributeManager, name: str, where: str) -> float | None:
    """A positive number among the attributes; None where it is missing or said to be unknown ('None').

    Raises:
        FormatError: it is something else.
    """
    value = attribute(attrs, name, where)
    if value is None or (isinstance(value, str) and value in ("None", "")):
        return None
    try:
        found = float(value.item() if isinstance(value, np.ndarray) else value)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 < found < math.inf:
        raise FormatError(f"{where}: {name} is {str(value)[:50]!r}, not a positive number")
    return found


def text(attrs: h5py.AttributeManager, name: str, where: str) -> str:
    """A line of text among the attributes; empty where it is missing or said to be unknown ('None').

    Raises:
        FormatError: it is something else.
    """
    value = attribute(attrs, name, where)
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise FormatError(f"{where}: {name} is not a line of text")
    return "" if value == "None" else value


def read_pt(path: Path) -> Float[np.ndarray, "tiles dim"]:
    """Features from a .pt file that holds one tensor (CLAM) or one array (TRIDENT), and nothing else.

    Raises:
        FormatError: it is not one, or would have to be unpickled.
    """
    import torch

    # What an array of numbers is made of; everything else in a pickle is refused by
    # torch.
    plain = [np._core.multiarray._reconstruct, np.ndarray, np.dtype]  # type: ignore[attr-defined]
    plain += [type(np.dtype(kind)) for kind in ("float16", "float32", "float64")]
    try:
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(plain):
            value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  a damaged pickle fails in as many ways as there are instructions
        raise FormatError(
            f"{path}: not one tensor saved by torch, or damaged ({_line(error)[:80]})"
        ) from None
    if isinstance(value, torch.Tensor):
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if not isinstance(value, np.ndarray):
        raise FormatError(f"{path}: holds a {type(value).__name__}, not one tensor of features")
    check_features(value.shape, value.dtype.kind, str(path))
    return finite(value, str(path))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
