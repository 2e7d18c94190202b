"""Checks of a slide that opens, each with the named state that it ends in."""

from pathlib import Path

from mil.errors import CorruptRegionsError, MissingResolutionError, NoTissueError
from mil.io.slides import SlideReader
from mil.tile.plan import UserMasks

# A slide of which a larger share cannot be seen is damaged, whatever its tiles are like.
LARGEST_LOSS = 0.01


def check_scale(slide: Path, mpp: float, target_mpp: float, max_upsample: float) -> None:
    """Refuse a slide that is too coarse for the tiles.

    Args:
        slide: the slide's file, for the message.
        mpp: micrometres per pixel of level 0.
        target_mpp: resolution the encoder sees, micrometres per pixel.
        max_upsample: largest factor by which tiles may be enlarged.

    Raises:
        MissingResolutionError: its pixels are larger than the factor allows.
    """
    if mpp > target_mpp * max_upsample:
        raise MissingResolutionError(
            slide,
            f"its finest level has {mpp:g} µm/px, too coarse for tiles of {target_mpp:g} µm/px"
            " (an overview, not a scan?)",
        )


def check_loss(slide: Path, lost: float) -> None:
    """Refuse a slide of which too large a share cannot be decoded at any level.

    Args:
        slide: the slide's file, for the message.
        lost: share of its area that no level gives, 0..1.

    Raises:
        CorruptRegionsError: the share exceeds `LARGEST_LOSS`.
    """
    if lost > LARGEST_LOSS:
        raise CorruptRegionsError(
            slide, f"{100 * lost:.1f} % of its area cannot be decoded at any level"
        )


def check_any_tile(
    reader: SlideReader,
    num_tiles: int,
    *,
    side_level0_px: float,
    tissue_mm2: float,
    user_masks: UserMasks,
) -> None:
    """Refuse a slide without a tile.

    Args:
        reader: the open slide.
        num_tiles: number of tiles on tissue.
        side_level0_px: side of a tile, level-0 pixels.
        tissue_mm2: area of tissue, square millimetres.
        user_masks: the user's masks of the slide, named in the message.

    Raises:
        NoTissueError: there is no tile.
    """
    if num_tiles:
        return
    width, height = reader.size_px
    if min(width, height) < side_level0_px:
        reason = (
            f"the slide ({width} x {height} px) is smaller than one tile ({side_level0_px:.0f} px)"
        )
    else:
        source = f"in mask {user_masks.tissue.name}" if user_masks.tissue else "found"
        inside = f" inside region {user_masks.region.name}" if user_masks.region else ""
        reason = f"no tile with enough tissue ({tissue_mm2:.3f} mm² of tissue {source}{inside})"
    raise NoTissueError(reader.path, reason)
