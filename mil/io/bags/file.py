"""The bag file: features of all tiles of one slide by one encoder."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from jaxtyping import Int
from pydantic import TypeAdapter, ValidationError

from mil.errors import FormatError
from mil.io.bags.content import Bag, BagHeader, BagPositions
from mil.io.checksums import check_arrays, write_arrays
from mil.io.h5 import dataset_of, plain, reading, writing
from mil.io.tiles import STATES

# Readers refuse other versions; raise it when a field changes its meaning.
FORMAT = "mil.bag"
VERSION = 3


def write_bag(path: Path | str, bag: Bag, *, made_from: str = "") -> None:
    """Write a bag file whole or not at all: contiguous, uncompressed, with checksums.

    The attributes on `coords` have TRIDENT's names, so that tools which read TRIDENT's
    bags open ours.

    Args:
        path: File to write.
        bag: Bag of a slide.
        made_from: Digest of what it depends on; see `mil.io.provenance`.
    """
    arrays = {"features": bag.features, "valid": bag.valid}
    if bag.coords is not None:
        arrays["coords"] = bag.coords.astype(np.int32)
    if bag.coords_um is not None:
        arrays["coords_um"] = bag.coords_um.astype(np.float32)
    with writing(Path(path), FORMAT, VERSION, made_from=made_from) as file:
        write_arrays(file, arrays)
        if bag.coords is not None:
            file["coords"].attrs.update(_as_trident(bag))
        # HDF5 has no None: what is not known is left out.
        header = {field.name: getattr(bag, field.name) for field in fields(BagHeader)}
        known = {name: value for name, value in header.items() if value is not None}
        if not bag.stain_norm:
            # So that a bag has the bytes that it had before there was stain normalisation.
            del known["stain_norm"], known["stain"]
        file.attrs.update(known)
        file.attrs["tile_order"] = _tile_order(bag.coords)
        file.attrs["invalid_tiles"] = int((~bag.valid).sum())


def read_bag(path: Path | str) -> Bag:
    """Read a bag file.

    Raises:
        FormatError: the file is no bag, was never finished, holds something that cannot
            be, or was changed since it was written.
    """
    path = Path(path)
    with reading(path, FORMAT, VERSION) as file:
        return Bag(**asdict(_header(file, path)), **_arrays(file, path))


def read_share(path: Path | str, number: int, count: int) -> Bag:
    """Read one of equal shares of a bag's tiles, and no other tile's features.

    The checksum of the file, which is that of all tiles, is not compared.

    Args:
        path: Bag file.
        number: Number of the share, 0 to `count` - 1; tiles are in the order of the file.
        count: Number of shares.

    Raises:
        ValueError: There is no such share.
        FormatError: The file is no bag, was never finished, or holds something that cannot
            be.
    """
    if not 0 <= number < count:
        raise ValueError(f"share {number} of {count}: shares are 0 to {count - 1}")
    path = Path(path)
    with reading(path, FORMAT, VERSION) as file:
        arrays = _arrays(file, path, share=(number, count))
        return Bag(**asdict(_header(file, path)), **arrays)


def read_positions(path: Path) -> BagPositions:
    """Read a bag file without its features; raises what `read_bag` does."""
    with reading(path, FORMAT, VERSION) as file:
        arrays = _arrays(file, path, features=False)
        return BagPositions(**asdict(_header(file, path)), **arrays)


def read_header(path: Path) -> BagHeader:
    """Read the attributes of a bag file without its features; raises what `read_bag` does."""
    with reading(path, FORMAT, VERSION) as file:
        return _header(file, path)


class BagTally(NamedTuple):
    """Header of a bag, and the number of its tiles."""

    header: BagHeader
    num_tiles: int
    num_unreadable: int  # tiles without features


def read_tally(path: Path) -> BagTally:
    """Read the header of a bag and count its tiles; raises what `read_bag` does."""
    with reading(path, FORMAT, VERSION) as file:
        header = _header(file, path)
        if "valid" not in file:
            return BagTally(header, 0, 0)
        valid = dataset_of(file, "valid", path)
        if valid.dtype.kind != "b" or valid.ndim != 1:
            return BagTally(header, 0, 0)
        return BagTally(header, len(valid), int(np.count_nonzero(~valid[:])))


def read_identity(path: Path) -> dict[str, str]:
    """Read what a head must know of a bag; see `BagHeader.identity`.

    Raises:
        FormatError: the bag holds no features, since its slide is not `ok`.
    """
    header = read_header(path)
    if header.state != "ok":
        raise FormatError(f"{path}: holds no features, its state is {header.state}")
    return header.identity


_HEADER_TYPE = TypeAdapter(BagHeader)
# Kinds of numbers, as NumPy abbreviates them: float, bool, signed and unsigned integer.
_KINDS = {
    "features": "f",
    "valid": "b",
    "coords": "iu",
    "coords_um": "f",
}


def _header(file: h5py.File, path: Path) -> BagHeader:
    """The attributes, whose types and ranges are checked: a bag may come from anywhere."""
    # Fetched once: each `file.attrs` costs as much as reading an attribute.
    stored = file.attrs
    names = [field.name for field in fields(BagHeader) if field.name in stored]
    try:
        header = _HEADER_TYPE.validate_python({name: plain(stored[name]) for name in names})
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        raise FormatError(
            f"{path}: its attributes cannot be used: {faults}; make the bag again"
        ) from None
    if header.state not in STATES:
        raise FormatError(f"{path}: no state is called {header.state!r}; make the bag again")
    return header


def _arrays(
    file: h5py.File,
    path: Path,
    *,
    features: bool = True,
    share: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """Features, validity and, where known, coordinates, each with a row for each tile.

    Args:
        file: Open bag file.
        path: Path of the bag file, for messages.
        features: Whether to read the features, which are nearly all of a bag.
        share: Number of the share of the tiles to read, and number of shares.
    """
    datasets = {name: dataset_of(file, name, path) for name in _KINDS if name in file}
    shape: tuple[int, ...] = datasets["features"].shape if "features" in datasets else ()
    if len(shape) != 2 or "valid" not in datasets:
        raise FormatError(
            f"{path}: no table of features with a row and a `valid` for each tile; make the bag "
            "again"
        )
    shapes = {
        "features": shape,
        "valid": shape[:1],
        "coords": (shape[0], 2),
        "coords_um": (shape[0], 2),
    }
    # A wrong type or a missing row would show only much later, as wrong attention.
    for name, dataset in datasets.items():
        if dataset.dtype.kind not in _KINDS[name] or dataset.shape != shapes[name]:
            raise FormatError(
                f"{path}: {name} is not the numbers of each tile that it should be; make the bag "
                "again"
            )
    if not features:
        del datasets["features"]
    number, count = share
    rows = slice(shape[0] * number // count, shape[0] * (number + 1) // count)
    arrays = {name: data[rows] for name, data in datasets.items()}
    if count == 1:
        check_arrays(file, arrays, path)
    return {"coords": None, **arrays}


def _tile_order(coords: Int[np.ndarray, "tiles 2"] | None) -> str:
    """Order of the tiles; bags of other tools keep the order of their source."""
    if coords is None:
        return "unknown"
    down = np.diff(coords[:, 1].astype(np.int64))
    right = np.diff(coords[:, 0].astype(np.int64))
    # Each tile lies below the one before it, or right of it in the same row.
    row_major = (down > 0) | ((down == 0) & (right > 0))
    return "row-major" if row_major.all() else "source"


def _as_trident(bag: Bag) -> dict[str, Any]:
    """Attributes under TRIDENT's names, for its readers; what is not known is left out."""
    attributes = {
        "patch_size": bag.tile_px,
        "patch_size_level0": bag.side_level0_px,
        "level0_magnification": _magnification(bag.mpp_level0),
        "target_magnification": _magnification(bag.target_mpp),
        "overlap": 0,
        "name": bag.slide,
        "savetodir": "",
        "level0_width": bag.width_level0_px,
        "level0_height": bag.height_level0_px,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _magnification(mpp: float | None) -> float | None:
    """Nominal magnification, 10 µm/px over the pixel size: what TRIDENT's readers expect."""
    # Here, since that package loads OpenSlide, which reading bags does not need.
    from mil.io.slides.resolution import MPP_AT_POWER_1

    return MPP_AT_POWER_1 / mpp if mpp else None
