"""The bag file: features of all tiles of one slide by one encoder, in row-major grid order."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mil.config import tiling_name
from mil.errors import FormatError
from mil.io.h5 import reading, writing
from mil.io.tiles import Tiles

FORMAT, VERSION = "mil.bag", 2


@dataclass(frozen=True, eq=False)
class Bag:
    """One slide's features.

    Tiles whose pixels could not be read have `valid` False and a row of zeros; `state` is the slide's named state.
    """

    slide: str
    state: str
    reason: str
    features: Float[np.ndarray, "tiles dim"]
    coords: Int[np.ndarray, "tiles 2"]  # level-0 pixels, top left
    valid: Bool[np.ndarray, " tiles"]
    side_level0_px: float
    mpp_level0: float
    encoder: str
    origin_px: tuple[int, int] = (0, 0)  # where the scanned part of the slide begins, level-0 pixels


def write_bag(
    path: Path,
    tiles: Tiles,
    features: Float[np.ndarray, "tiles dim"],
    valid: Bool[np.ndarray, " tiles"],
    *,
    state: str,
    reason: str,
    encoder: dict[str, Any],
) -> None:
    """Write a bag file whole or not at all: contiguous, uncompressed.

    The attributes on `coords` have TRIDENT's names, so that tools which read TRIDENT's bags open ours.

    Args:
        path: where to.
        tiles: the tiles that were read.
        features: one row a tile, in the tiles' order.
        valid: which tiles could be read.
        state: the slide's named state after reading its tiles.
        reason: why, when the state is not `ok`.
        encoder: `encoder`, `encoder_revision`, `weights_sha256`, `transform`, `precision`.
    """
    geometry = tiles.geometry
    with writing(path, FORMAT, VERSION) as file:
        file["features"], file["valid"] = features, valid
        file["coords"] = tiles.coords.astype(np.int32)
        file["coords"].attrs.update(
            patch_size=geometry.tile_px,
            patch_size_level0=geometry.side_level0_px,
            level0_magnification=_magnification(geometry.mpp_level0),
            target_magnification=_magnification(geometry.target_mpp),
            overlap=0,
            name=geometry.slide,
            savetodir="",
            level0_width=geometry.width_level0_px,
            level0_height=geometry.height_level0_px,
        )
        file.attrs.update(
            slide=geometry.slide,
            state=state,
            reason=reason,
            mpp_level0=geometry.mpp_level0,
            target_mpp=geometry.target_mpp,
            side_level0_px=geometry.side_level0_px,
            origin_x_level0_px=geometry.origin_x_level0_px,
            origin_y_level0_px=geometry.origin_y_level0_px,
            tile_digest=tiles.digest,
            tile_order="row-major",
            invalid_tiles=int((~valid).sum()),
            **encoder,
        )


def read_bag(path: Path) -> Bag:
    """Read a bag file.

    Raises:
        FormatError: it is not one, or was never finished.
    """
    with reading(path, FORMAT, VERSION) as file:
        attrs = file.attrs
        return Bag(
            slide=attrs["slide"],
            state=attrs["state"],
            reason=attrs["reason"],
            features=file["features"][:],
            coords=file["coords"][:],
            valid=file["valid"][:],
            side_level0_px=float(attrs["side_level0_px"]),
            mpp_level0=float(attrs["mpp_level0"]),
            encoder=attrs["encoder"],
            # Bags of before these attributes existed have none.
            origin_px=(int(attrs["origin_x_level0_px"]), int(attrs["origin_y_level0_px"])),
        )


def read_state(path: Path) -> tuple[str, str]:
    """State and reason of a bag file, without its features."""
    with reading(path, FORMAT, VERSION) as file:
        return file.attrs["state"], file.attrs["reason"]


def read_identity(path: Path) -> dict[str, str]:
    """What a head must know of the bags it was trained on: `encoder`, `weights_sha256`, `tiling`."""
    with reading(path, FORMAT, VERSION) as file:
        if "weights_sha256" not in file.attrs:
            raise FormatError(f"{path}: holds no features, its state is {file.attrs['state']}")
        tiling = tiling_name(int(file["coords"].attrs["patch_size"]), float(file.attrs["target_mpp"]))
        return {
            "encoder": file.attrs["encoder"],
            "weights_sha256": file.attrs["weights_sha256"],
            "tiling": tiling,
        }


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
                    f"{path}: {key} is {other[key]}, but {value} in {paths[0].name}; delete the bags of one of them "
                    "and run `features` again"
                )
    return identity


def _magnification(mpp: float) -> float:
    """Nominal magnification, 10 µm/px over the pixel size; what TRIDENT's readers expect to find."""
    return 10 / mpp if mpp > 0 else 0.0
