"""The bag file: features of all tiles of one slide by one encoder; ours in row-major grid order."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field, TypeAdapter, ValidationError

from mil.config import tiling_name
from mil.errors import FormatError
from mil.io.h5 import reading, writing
from mil.io.tiles import STATES, Tiles

FORMAT = "mil.bag"
VERSION = 3
# Lengths as a file may state them; 0 stands in bags of slides that are not `ok`.
Pixels = Annotated[int, Field(ge=0, lt=2**31)]
Length = Annotated[float, Field(ge=0, lt=1e9)]


@dataclass(frozen=True, kw_only=True)
class BagHeader:
    """What a bag says of itself. What nobody knows is None or empty, never guessed.

    A bag that was imported from another tool may lack its scale; then it trains heads,
    but some pictures and exports have to be refused. Lengths are pixels of level 0
    unless the name says otherwise.
    """

    slide: str
    encoder: str
    state: str = "ok"
    reason: str = ""
    encoder_revision: str = ""
    encoder_settings: str = ""  # its entry of configs/encoders.yaml, as JSON
    weights_sha256: str = ""
    transform: str = ""
    precision: str = ""
    tile_px: Pixels | None = None
    target_mpp: Length | None = None
    side_level0_px: Length | None = None
    mpp_level0: Length | None = None
    width_level0_px: Pixels | None = None
    height_level0_px: Pixels | None = None
    origin_x_level0_px: int = 0  # where the scanned part of the slide begins
    origin_y_level0_px: int = 0
    tile_digest: str = ""
    source: str = "slide"  # or the tool it was imported from: clam, trident, stamp, acmil

    @property
    def origin_px(self) -> tuple[int, int]:
        """Where the scanned part of the slide begins, level-0 pixels, x and y."""
        return self.origin_x_level0_px, self.origin_y_level0_px

    @property
    def tiling(self) -> str:
        """Name of the tiling, such as `224px_0.5mpp`."""
        return tiling_name(self.tile_px, self.target_mpp)

    @property
    def identity(self) -> dict[str, str]:
        """What a head must know of the bags it was trained on: `encoder`, `weights_sha256`, `tiling`."""
        return {
            "encoder": self.encoder,
            "weights_sha256": self.weights_sha256,
            "tiling": self.tiling,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class BagPositions(BagHeader):
    """Positions of one slide's tiles, without their features."""

    # Level-0 pixels, top left corners; None: not known.
    coords: Int[np.ndarray, "tiles 2"] | None
    valid: Bool[np.ndarray, " tiles"]
    # Top left corners in micrometres, if the source counts in them.
    coords_um: Float[np.ndarray, "tiles 2"] | None = None

    def places(self) -> tuple[Int[np.ndarray, "valid 2"], float] | None:
        """Corners of the valid tiles and side of a tile, level-0 pixels; None where not known."""
        if self.coords is None or not self.side_level0_px:
            return None
        return self.coords[self.valid], self.side_level0_px


@dataclass(frozen=True, kw_only=True, eq=False)
class Bag(BagPositions):
    """One slide's features. Unreadable tiles have `valid` False and a row of zeros."""

    features: Float[np.ndarray, "tiles dim"]


def bag_of(
    tiles: Tiles,
    features: Float[np.ndarray, "tiles dim"],
    valid: Bool[np.ndarray, " tiles"],
    *,
    state: str,
    reason: str,
    encoder: Mapping[str, str],
) -> Bag:
    """The bag of a slide whose tiles were read.

    Args:
        tiles: the tiles that were read.
        features: one row a tile, in the tiles' order.
        valid: which tiles could be read.
        state: the slide's named state after reading its tiles.
        reason: why, when the state is not `ok`.
        encoder: `encoder`, `encoder_revision`, `weights_sha256`, `transform`,
            `precision`.
    """
    scale: dict[str, Any] = {name: getattr(tiles.geometry, name) for name in _SHARED}
    return Bag(
        **scale,
        **dict[str, Any](encoder),
        state=state,
        reason=reason,
        tile_digest=tiles.digest,
        features=features,
        coords=tiles.coords.astype(np.int32),
        valid=valid,
    )


_SHARED = (
    "slide",
    "tile_px",
    "target_mpp",
    "side_level0_px",
    "mpp_level0",
    "width_level0_px",
    "height_level0_px",
    "origin_x_level0_px",
    "origin_y_level0_px",
)


def write_bag(path: Path, bag: Bag) -> None:
    """Write a bag file whole or not at all: contiguous, uncompressed.

    The attributes on `coords` have TRIDENT's names, so that tools which read TRIDENT's
    bags open ours.
    """
    with writing(path, FORMAT, VERSION) as file:
        file["features"], file["valid"] = bag.features, bag.valid
        if bag.coords is not None:
            file["coords"] = bag.coords.astype(np.int32)
            file["coords"].attrs.update(_as_trident(bag))
        if bag.coords_um is not None:
            file["coords_um"] = bag.coords_um.astype(np.float32)
        known = {field.name: getattr(bag, field.name) for field in fields(BagHeader)}
        file.attrs.update({name: value for name, value in known.items() if value is not None})
        file.attrs.update(tile_order=_tile_order(bag.coords), invalid_tiles=int((~bag.valid).sum()))


def read_bag(path: Path) -> Bag:
    """Read a bag file.

    Raises:
        FormatError: it is not one, was never finished, or holds something that cannot
            be.
    """
    with reading(path, FORMAT, VERSION) as file:
        return Bag(**asdict(_header(file, path)), **_arrays(file, path))


def read_positions(path: Path) -> BagPositions:
    """Read a bag file without its features; raises what `read_bag` does."""
    with reading(path, FORMAT, VERSION) as file:
        arrays = _arrays(file, path, features=False)
        return BagPositions(**asdict(_header(file, path)), **arrays)


def read_header(path: Path) -> BagHeader:
    """What a bag file says of itself, without its features; raises what `read_bag` does."""
    with reading(path, FORMAT, VERSION) as file:
        return _header(file, path)


def read_identity(path: Path) -> dict[str, str]:
    """What a head must know of the bags it was trained on; see `BagHeader.identity`.

    Raises:
        FormatError: the bag holds no features, since its slide is not `ok`.
    """
    header = read_header(path)
    if header.state != "ok":
        raise FormatError(f"{path}: holds no features, its state is {header.state}")
    return header.identity


def common_identity(paths: Sequence[Path]) -> dict[str, str]:
    """The identity that all bags share.

    Raises:
        FormatError: two bags differ in encoder, weights or tiling.
    """
    identity = read_identity(paths[0])
    for path in paths[1:]:
        other = read_identity(path)
        for key, value in identity.items():
            if other[key] != value:
                raise FormatError(
                    f"{path}: {key} is {other[key] or 'not known'}, but {value or 'not known'} "
                    f"in {paths[0].name}; "
                    "delete the bags of one of them, or give them a folder of their own"
                )
    return identity


_CHECKED = TypeAdapter(BagHeader)
_KINDS = {
    "features": "f",
    "valid": "b",
    "coords": "iu",
    "coords_um": "f",
}  # of numbers, as NumPy abbreviates them


def _header(file: h5py.File, path: Path) -> BagHeader:
    """The attributes, whose types and ranges are checked: a bag may come from anywhere."""
    held = file.attrs  # asked for once: each time costs as much as reading one
    attrs = {field.name: held[field.name] for field in fields(BagHeader) if field.name in held}
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in attrs.items()
    }
    try:
        header = _CHECKED.validate_python(plain)
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
        raise FormatError(
            f"{path}: its attributes cannot be used: {faults}; make the bag again"
        ) from None
    if header.state not in STATES:
        raise FormatError(f"{path}: no state is called {header.state!r}; make the bag again")
    return header


def _arrays(file: h5py.File, path: Path, *, features: bool = True) -> dict[str, Any]:
    """Features, validity and, where known, coordinates, each with a row for each tile.

    Args:
        file: Open bag file.
        path: Path of the bag file, for messages.
        features: Whether to read the features, which are nearly all of a bag.
    """
    datasets = {name: file[name] for name in _KINDS if name in file}
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
    for name, dataset in datasets.items():
        if dataset.dtype.kind not in _KINDS[name] or dataset.shape != shapes[name]:
            raise FormatError(
                f"{path}: {name} is not the numbers of each tile that it should be; make the bag "
                "again"
            )
    if not features:
        del datasets["features"]
    return {"coords": None, **{name: np.asarray(data) for name, data in datasets.items()}}


def _tile_order(coords: Int[np.ndarray, "tiles 2"] | None) -> str:
    """Bags of other tools keep the order of their source."""
    if coords is None:
        return "unknown"
    below = np.diff(coords[:, 1].astype(np.int64))
    right = np.diff(coords[:, 0].astype(np.int64))
    return "row-major" if ((below > 0) | ((below == 0) & (right > 0))).all() else "source"


def _as_trident(bag: Bag) -> dict[str, Any]:
    """TRIDENT's names, for its readers; what is not known is left out."""
    named = {
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
    return {name: value for name, value in named.items() if value is not None}


def _magnification(mpp: float | None) -> float | None:
    """Nominal magnification, 10 µm/px over the pixel size; what TRIDENT's readers expect to find."""
    return 10 / mpp if mpp else None
