"""The plan of a slide: its tissue, and the tiles that lie on it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from mil.config import TileConfig
from mil.config.datasets import GeojsonFrame
from mil.errors import EmptyMaskError
from mil.io.regions import read_mask, why_empty
from mil.io.slides import Overview, SlideReader, as_array, draw_overview
from mil.tile.grid import footprint_px, grid, share_inside
from mil.tile.tissue import TissueMask, find_tissue

# Longer side of the overview that people look at, pixels.
OVERVIEW_PX = 2048
# Tissue is searched at about this scale; on the largest slides at a coarser one, since a
# mask has no more pixels than this.
MASK_UM_PER_PX = 8.0
LARGEST_MASK_PX = 16_000_000
# A tile needs some tissue, even where the configuration asks for none.
LEAST_TISSUE = 1e-6


class UserMasks(NamedTuple):
    """The user's masks of a slide, and what their GeoJSON counts from."""

    tissue: Path | None = None
    region: Path | None = None
    frame: GeojsonFrame = "scanned"


NO_USER_MASKS = UserMasks()


@dataclass(frozen=True, eq=False)
class TilePlan:
    """A slide's tiles and what they were chosen from.

    Attributes:
        coords: top left corners, level-0 pixels, row by row.
        tissue: share of each tile that is tissue, 0..1.
        side_level0_px: side of a tile, level-0 pixels.
        tissue_mm2: area of `mask`, square millimetres.
        mask: pixels that count as tissue, by the user's masks or detected.
        detected: tissue and ink detected on the overview.
        overview: RGB overview that tissue was searched on.
        mask_scale: level-0 pixels per pixel of `mask` and `overview`.
    """

    coords: Int[np.ndarray, "tiles 2"]
    tissue: Float[np.ndarray, " tiles"]
    side_level0_px: float
    tissue_mm2: float
    mask: Bool[np.ndarray, "height width"]
    detected: TissueMask
    overview: UInt8[np.ndarray, "height width 3"]
    mask_scale: float


def read_overview(reader: SlideReader, mpp: float | None) -> Overview:
    """Read an overview of the slide, fine enough for people and to find tissue on.

    Args:
        reader: the open slide.
        mpp: micrometres per pixel of level 0; None: not known, so that the overview is
            only for people.

    Raises:
        UnreadableSlideError: nothing of the slide can be decoded.
    """
    width, height = reader.extent_px
    scale = max(width, height) / OVERVIEW_PX
    if mpp is not None:
        finer = min(scale, MASK_UM_PER_PX / mpp)
        scale = max(finer, math.sqrt(width * height / LARGEST_MASK_PX))
    return draw_overview(reader, scale)


def shrink_for_people(overview: Overview) -> Overview:
    """The overview, its longer side reduced to `OVERVIEW_PX`."""
    image = overview.image
    factor = max(image.size) / OVERVIEW_PX
    if factor <= 1:
        return overview
    width, height = (max(1, int(side / factor)) for side in image.size)
    # The box, not the whole image: its sides are no whole multiples of the factor.
    right = min(width * factor, image.width)
    bottom = min(height * factor, image.height)
    small = image.resize(
        (width, height),
        Image.Resampling.BICUBIC,
        box=(0.0, 0.0, right, bottom),
        reducing_gap=3.0,
    )
    return Overview(small, overview.scale * factor, overview.lost)


def plan_tiles(
    reader: SlideReader,
    mpp: float,
    *,
    tile_px: int,
    target_mpp: float,
    config: TileConfig,
    user_masks: UserMasks = NO_USER_MASKS,
    overview: Overview | None = None,
) -> TilePlan:
    """Find tissue and lay tiles over it.

    Args:
        reader: the open slide.
        mpp: micrometres per pixel of level 0.
        tile_px: side of a tile as the encoder sees it, pixels.
        target_mpp: resolution the encoder sees, micrometres per pixel.
        config: section `tile`.
        user_masks: the user's own tissue mask, and regions to stay inside.
        overview: overview by `read_overview`; None: it is read here.

    Raises:
        FormatError: the user's masks cannot be used.
        EmptyMaskError: the user's masks leave nothing of the slide.
        UnreadableSlideError: nothing of the slide can be decoded.
    """
    overview = overview or read_overview(reader, mpp)
    factor = max(1, int(MASK_UM_PER_PX / (mpp * overview.scale)))
    # The last row and column of the reduced image may hang over.
    image = as_array(overview.image.reduce(factor))
    scale = overview.scale * factor
    detected = find_tissue(image, mpp * scale, config.min_area_mm2)
    mask = _mask(reader, detected, scale, user_masks)
    side = footprint_px(tile_px, target_mpp, mpp)
    corners = grid(reader.extent_px, side, reader.origin_px)
    share = share_inside(mask, (corners - reader.origin_px) / scale, side / scale)
    on_tissue = share >= max(config.min_tissue, LEAST_TISSUE)
    return TilePlan(
        coords=corners[on_tissue],
        tissue=share[on_tissue],
        side_level0_px=side,
        tissue_mm2=float(mask.sum()) * (mpp * scale / 1000) ** 2,
        mask=mask,
        detected=detected,
        overview=image,
        mask_scale=scale,
    )


def _mask(
    reader: SlideReader, detected: TissueMask, scale: float, user_masks: UserMasks
) -> Bool[np.ndarray, "height width"]:
    """The user's tissue, or the detected one, cut to the user's region."""

    def read(path: Path) -> Bool[np.ndarray, "height width"]:
        return read_mask(
            path,
            origin_px=reader.origin_px,
            extent_px=reader.extent_px,
            size_px=reader.size_px,
            shape=detected.tissue.shape,
            pitch_px=scale,
            geojson_frame=user_masks.frame,
        )

    def check_any(mask: Bool[np.ndarray, "height width"], path: Path, kind: str) -> None:
        if not mask.any():
            reason = why_empty(
                path,
                origin_px=reader.origin_px,
                extent_px=reader.extent_px,
                geojson_frame=user_masks.frame,
            )
            raise EmptyMaskError(reader.path, f"{kind} {path.name} leaves nothing: {reason}")

    mask = detected.tissue
    if user_masks.tissue:
        mask = read(user_masks.tissue)
        check_any(mask, user_masks.tissue, "the mask of the tissue")
    if not user_masks.region:
        return mask
    region = read(user_masks.region)
    check_any(region, user_masks.region, "the region")
    if mask.any() and not (mask & region).any():
        raise EmptyMaskError(
            reader.path, f"the region {user_masks.region.name} leaves nothing: no tissue is in it"
        )
    return mask & region
