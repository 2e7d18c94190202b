"""Single tiles of a slide, read again as their encoder saw them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from mil.errors import FormatError, UnreadableSlideError
from mil.io.bags import BagPositions
from mil.io.slides import Resample, SlideReader, resample
from mil.io.tiles import TileGeometry, Tiles

# No encoder takes a larger tile; an imported bag may claim any size, pixels.
LARGEST_TILE_PX = 4096


@dataclass(frozen=True, eq=False)
class TileFootprints:
    """Tiles of a slide: where they lie, and the size at which an encoder saw them.

    Attributes:
        slide: Id of the slide.
        corners: Top left corners, level-0 pixels, (x, y).
        side_level0_px: Side of a tile on the slide, level-0 pixels.
        tile_px: Side of a tile as the encoder saw it, pixels.
        mpp: Micrometres per pixel of a tile as the encoder saw it; 0: not known.
        size_px: Width and height of the slide, level-0 pixels; None: not known.
        scene: Image of the file that the tiles are of; see `SlideReader`.
    """

    slide: str
    corners: Int[np.ndarray, "tiles 2"]
    side_level0_px: float
    tile_px: int
    mpp: float
    size_px: tuple[int, int] | None
    scene: str = ""


class TileImage(NamedTuple):
    """A tile as its encoder saw it.

    Attributes:
        number: Its number among the footprints, from 0.
        pixels: RGB; None: they cannot be decoded.
    """

    number: int
    pixels: UInt8[np.ndarray, "height width 3"] | None


def footprints_of_tiles(tiles: Tiles) -> TileFootprints:
    """Footprints of all tiles of a tiles file."""
    geometry = tiles.geometry
    return TileFootprints(
        slide=geometry.slide,
        corners=tiles.coords,
        side_level0_px=geometry.side_level0_px,
        tile_px=geometry.tile_px,
        mpp=_mpp(geometry.side_level0_px, geometry.tile_px, geometry.mpp_level0),
        size_px=(geometry.width_level0_px, geometry.height_level0_px),
        scene=geometry.scene,
    )


def footprints_of_bag(bag: BagPositions, tiles: TileGeometry | None = None) -> TileFootprints:
    """Footprints of the valid tiles of a bag.

    Args:
        bag: Positions of the tiles.
        tiles: Geometry of its tiles file, which alone names the image of a file that
            holds several; None: the bag was imported.

    Raises:
        FormatError: The bag does not say where its tiles are, or at which size its
            encoder saw them.
    """
    positions = bag.positions()
    if positions is None:
        raise FormatError(f"the bag of {bag.slide} does not say where its tiles are, in pixels")
    if not bag.tile_px:
        raise FormatError(f"the bag of {bag.slide} does not say at which size its tiles were seen")
    if bag.tile_px > LARGEST_TILE_PX:
        raise FormatError(f"the bag of {bag.slide} claims tiles of {bag.tile_px} px")
    corners, side = positions
    size = bag.width_level0_px, bag.height_level0_px
    return TileFootprints(
        slide=bag.slide,
        corners=corners,
        side_level0_px=side,
        tile_px=bag.tile_px,
        mpp=_mpp(side, bag.tile_px, bag.mpp_level0) or bag.target_mpp or 0.0,
        size_px=(size[0], size[1]) if size[0] and size[1] else None,
        scene="" if tiles is None else tiles.scene,
    )


def _mpp(side_level0_px: float, tile_px: int, mpp_level0: float | None) -> float:
    return side_level0_px * (mpp_level0 or 0.0) / tile_px


def read_tile_images(
    slide: Path,
    footprints: TileFootprints,
    numbers: Int[np.ndarray, " chosen"],
    *,
    resampler: Resample = resample,
) -> Iterator[TileImage]:
    """Read tiles again: footprint, resampling and size are those of stage `features`.

    Each tile is read once, also one that is named twice. With
    `mil.encoders.resample.fast_resample` the pixels are those that the encoder got;
    Pillow's filter, which needs no torch, is within one grey level of them.

    Args:
        slide: Slide file.
        footprints: Tiles of the slide.
        numbers: Numbers of the tiles to read, from 0.
        resampler: See `SlideReader`.

    Yields:
        The tiles row by row, whatever the order of `numbers`.

    Raises:
        SlideError: The slide does not open.
        FormatError: The slide is of another size than that of the tiles.
    """
    chosen = np.unique(numbers)
    # Row by row: neighbours share compressed blocks.
    corners = footprints.corners[chosen]
    chosen = chosen[np.lexsort((corners[:, 0], corners[:, 1]))]
    side, size_px = footprints.side_level0_px, footprints.tile_px
    with SlideReader(slide, resampler=resampler, scene=footprints.scene) as reader:
        check_size(reader, footprints)
        reader.expect(footprints.corners[chosen], side, size_px)
        for number in chosen.tolist():
            x, y = footprints.corners[number]
            try:
                pixels = reader.read(float(x), float(y), side, size_px)
            except UnreadableSlideError:
                yield TileImage(number, None)
            else:
                yield TileImage(number, pixels)


def check_size(reader: SlideReader, footprints: TileFootprints) -> None:
    """Refuse another slide: any file may lie under a slide's name.

    Raises:
        FormatError: The slide is of another size than that of the tiles.
    """
    size = np.array(reader.size_px)
    corners = footprints.corners
    # Where a bag does not know the size of its slide, its tiles tell the least size.
    inside = bool((corners >= 0).all() and (corners < size).all())
    known = footprints.size_px is None or footprints.size_px == reader.size_px
    if not (inside and known):
        raise FormatError(
            f"{reader.path}: is of another size than the slide of these tiles "
            f"({footprints.slide}); name the file of that slide"
        )
