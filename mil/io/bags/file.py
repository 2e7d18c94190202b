"""The bag file: features of all tiles of one slide by one encoder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import h5py
import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field, TypeAdapter, ValidationError

from mil.config import tiling_name
from mil.errors import FormatError
from mil.io.checksums import check_arrays, write_arrays
from mil.io.h5 import dataset_of, plain, reading, writing
from mil.io.tiles import STATES, Tiles

# Readers refuse other versions; raise it when a field changes its meaning.
FORMAT = "mil.bag"
VERSION = 3
# Lengths as a file may state them; 0 stands in bags of slides that are not `ok`.
LengthPx = Annotated[int, Field(ge=0, lt=2**31)]
Length = Annotated[float, Field(ge=0, lt=1e9)]


@dataclass(frozen=True, kw_only=True)
class BagHeader:
    """Attributes of a bag. What is not known is None or empty, never guessed.

    A bag that was imported from another tool may lack its scale; then it trains heads,
    but some heatmaps and exports have to be refused. Lengths are pixels of level 0
    unless the name tells otherwise.

    Attributes:
        slide: the slide's id.
        encoder: name of the encoder.
        state: named state of the slide.
        reason: why the state is not `ok`; else empty.
        encoder_revision: revision of the encoder's weights at their source.
        encoder_settings: the encoder's entry of configs/encoders.yaml, as JSON.
        weights_sha256: checksum of the encoder's weights.
        transform: preprocessing of the pixels.
        precision: floating-point precision that the encoder ran in.
        stain_norm: method by which stains were normalised before the encoder: `macenko`;
            empty: none.
        stain: the slide's stains as JSON; see `mil.io.bags.stain.SlideStain`.
        tile_px: side of a tile as the encoder sees it, pixels.
        target_mpp: resolution that the encoder sees, micrometres per pixel.
        side_level0_px: side of a tile on the slide.
        mpp_level0: micrometres per pixel of level 0.
        width_level0_px: width of the slide.
        height_level0_px: height of the slide.
        origin_x_level0_px: left edge of the scanned part of the slide.
        origin_y_level0_px: top edge of the scanned part of the slide.
        tile_digest: digest of the tiles; see `mil.io.tiles.Tiles.digest`.
        source: `slide`, or the tool or layout it was imported from: clam, trident, stamp,
            acmil, torchmil, parquet.
    """

    slide: str
    encoder: str
    state: str = "ok"
    reason: str = ""
    encoder_revision: str = ""
    encoder_settings: str = ""
    weights_sha256: str = ""
    transform: str = ""
    precision: str = ""
    stain_norm: str = ""
    stain: str = ""
    tile_px: LengthPx | None = None
    target_mpp: Length | None = None
    side_level0_px: Length | None = None
    mpp_level0: Length | None = None
    width_level0_px: LengthPx | None = None
    height_level0_px: LengthPx | None = None
    origin_x_level0_px: int = 0
    origin_y_level0_px: int = 0
    tile_digest: str = ""
    source: str = "slide"

    @property
    def origin_px(self) -> tuple[int, int]:
        """Corner of the scanned part of the slide, level-0 pixels, (x, y)."""
        return self.origin_x_level0_px, self.origin_y_level0_px

    @property
    def tiling(self) -> str:
        """Name of the tiling, such as `224px_0.5mpp`."""
        return tiling_name(self.tile_px, self.target_mpp)

    @property
    def identity(self) -> dict[str, str]:
        """Facts that a head records of its bags.

        `encoder`, `weights_sha256`, `tiling` and `stain_norm`.
        """
        return {
            "encoder": self.encoder,
            "weights_sha256": self.weights_sha256,
            "tiling": self.tiling,
            "stain_norm": self.stain_norm,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class BagPositions(BagHeader):
    """Positions of one slide's tiles, without their features.

    Attributes:
        coords: top left corners of the tiles, level-0 pixels; None: not known.
        valid: whether each tile could be read.
        coords_um: the corners in micrometres, if the source counts in them; else None.
    """

    coords: Int[np.ndarray, "tiles 2"] | None
    valid: Bool[np.ndarray, " tiles"]
    coords_um: Float[np.ndarray, "tiles 2"] | None = None

    def positions(self) -> tuple[Int[np.ndarray, "valid 2"], float] | None:
        """Positions of the valid tiles: corners and side of a tile, level-0 pixels.

        None where the bag does not hold them.
        """
        if self.coords is None or not self.side_level0_px:
            return None
        return self.coords[self.valid], self.side_level0_px


@dataclass(frozen=True, kw_only=True, eq=False)
class Bag(BagPositions):
    """One slide's features; tiles of our own bags come in row-major grid order.

    Attributes:
        features: one row a tile; zeros where the tile could not be read.
    """

    features: Float[np.ndarray, "tiles dim"]


# Fields that a bag takes over from the tiles' geometry.
_FROM_GEOMETRY = (
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
        valid: whether each tile could be read.
        state: the slide's named state after reading its tiles.
        reason: why the state is not `ok`; else empty.
        encoder: fields of the header about the encoder: `encoder`, `encoder_revision`,
            `weights_sha256`, `transform`, `precision`, and those about stains.
    """
    geometry: dict[str, Any] = {name: getattr(tiles.geometry, name) for name in _FROM_GEOMETRY}
    return Bag(
        **geometry,
        **dict[str, Any](encoder),
        state=state,
        reason=reason,
        tile_digest=tiles.digest,
        features=features,
        coords=tiles.coords.astype(np.int32),
        valid=valid,
    )


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
