"""Where on a slide there is tissue, and which tiles lie on it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from mil.config import TileConfig
from mil.config.datasets import GeojsonFrame
from mil.io.regions import read_mask
from mil.io.slides import Picture, SlideReader, as_array
from mil.tile.grid import footprint_px, grid, share_inside
from mil.tile.tissue import Found, find_tissue

# Longer side of the picture that people see, pixels.
OVERVIEW_PX = 2048
# Tissue is looked for at about this scale; on the largest slides coarser: a mask has no
# more pixels than this.
MASK_UM_PER_PX = 8.0
LARGEST_MASK_PX = 16_000_000


class Drawn(NamedTuple):
    """What the user drew on a slide, and what its GeoJSON counts from."""

    tissue: Path | None = None
    region: Path | None = None
    frame: GeojsonFrame = "scanned"


NOTHING_DRAWN = Drawn()


@dataclass(frozen=True, eq=False)
class TilePlan:
    """A slide's tiles and what they were chosen from.

    `coords` are top left corners, level-0 pixels, row by row; `tissue` is the share of
    each tile that is tissue. `mask` (what counts as tissue) and `picture` have the
    scale `mask_scale`, level-0 pixels per pixel.
    """

    coords: Int[np.ndarray, "tiles 2"]
    tissue: Float[np.ndarray, " tiles"]
    side_level0_px: float
    tissue_mm2: float
    mask: Bool[np.ndarray, "height width"]
    found: Found
    picture: UInt8[np.ndarray, "height width 3"]
    mask_scale: float


def look(reader: SlideReader, mpp: float | None) -> Picture:
    """The slide as one picture, fine enough to see and to find tissue on.

    Args:
        reader: the open slide.
        mpp: micrometres per pixel of level 0; None: not known, so that the picture is
            only for people.

    Raises:
        UnreadableSlideError: nothing of it can be decoded.
    """
    width, height = reader.extent_px
    scale = max(width, height) / OVERVIEW_PX
    if mpp is not None:
        finer = min(scale, MASK_UM_PER_PX / mpp)
        scale = max(finer, math.sqrt(width * height / LARGEST_MASK_PX))
    return reader.picture(scale)


def overview(view: Picture) -> Picture:
    """The view, shrunk to `OVERVIEW_PX`."""
    factor = max(view.image.size) / OVERVIEW_PX
    if factor <= 1:
        return view
    size = [max(1, int(side / factor)) for side in view.image.size]
    box = (
        0.0,
        0.0,
        min(size[0] * factor, view.image.width),
        min(size[1] * factor, view.image.height),
    )
    small = view.image.resize(
        (size[0], size[1]), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0
    )
    return Picture(small, view.scale * factor, view.lost)


def plan_tiles(
    reader: SlideReader,
    mpp: float,
    *,
    tile_px: int,
    target_mpp: float,
    config: TileConfig,
    drawn: Drawn = NOTHING_DRAWN,
    view: Picture | None = None,
) -> TilePlan:
    """Find tissue and lay tiles over it.

    Args:
        reader: the open slide.
        mpp: micrometres per pixel of level 0.
        tile_px: side of a tile as the encoder sees it, pixels.
        target_mpp: resolution the encoder sees, micrometres per pixel.
        config: section `tile`.
        drawn: the user's own mask, or regions to stay inside.
        view: the slide's picture, if it is there already.

    Raises:
        FormatError: what the user drew cannot be used.
        UnreadableSlideError: nothing of the slide can be decoded.
    """
    view = view or look(reader, mpp)
    factor = max(1, int(MASK_UM_PER_PX / (mpp * view.scale)))
    # its last row and column may hang over
    picture = as_array(view.image.reduce(factor))
    scale = view.scale * factor
    found = find_tissue(picture, mpp * scale, config.min_area_mm2)
    mask = _mask(reader, found, scale, drawn)
    side = footprint_px(tile_px, target_mpp, mpp)
    corners = grid(reader.extent_px, side, reader.origin_px)
    share = share_inside(mask, (corners - reader.origin_px) / scale, side / scale)
    keep = share >= max(config.min_tissue, 1e-6)
    area = float(mask.sum()) * (mpp * scale / 1000) ** 2
    return TilePlan(corners[keep], share[keep], side, area, mask, found, picture, scale)


def _mask(
    reader: SlideReader, found: Found, scale: float, drawn: Drawn
) -> Bool[np.ndarray, "height width"]:
    """The user's tissue or what was found, cut to the user's region."""

    def read(path: Path) -> Bool[np.ndarray, "height width"]:
        return read_mask(
            path,
            origin_px=reader.origin_px,
            extent_px=reader.extent_px,
            size_px=reader.size_px,
            shape=found.tissue.shape,
            pitch_px=scale,
            geojson_frame=drawn.frame,
        )

    mask = read(drawn.tissue) if drawn.tissue else found.tissue
    return mask & read(drawn.region) if drawn.region else mask
