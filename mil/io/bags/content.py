"""A bag: features of all tiles of one slide by one encoder, and what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from mil.config import tiling_name
from mil.io.tiles import Tiles

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
