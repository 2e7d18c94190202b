"""Checks of a slide that opens, each with the named state that it ends in."""

from pathlib import Path

import numpy as np

from mil.errors import CoarseSlideError, CorruptRegionsError, NoTissueError, SmallSlideError
from mil.io.slides import Overview, Resolution, SlideReader
from mil.io.slides.resolution import GIVEN, TABLE, sizes_disagree, stated_sizes
from mil.tile.plan import UserMasks

# A slide of which a larger share cannot be seen is damaged, whatever its tiles are like.
LARGEST_LOSS = 0.01
# The longest glass slides, for whole sections of a brain, are 150 mm.
LARGEST_GLASS_MM = 200.0
# A scan is longer than this; cores and regions cut from one may be shorter.
SMALL_MM = 2.0
# Factor by which a file's own pixel size must exceed the user's to contradict it.
CONTRADICTION = 4.0
# Largest difference between the channels of a grey pixel, grey levels.
LARGEST_CHROMA = 2
# Glass is brighter, grey levels.
DARKEST_GLASS = 200


def check_scale(
    reader: SlideReader, resolution: Resolution, target_mpp: float, max_upsample: float
) -> None:
    """Refuse a slide that is too coarse for the tiles.

    Args:
        reader: the open slide.
        resolution: micrometres per pixel of level 0, and their source.
        target_mpp: resolution the encoder sees, micrometres per pixel.
        max_upsample: largest factor by which tiles may be enlarged.

    Raises:
        CoarseSlideError: its pixels are larger than the factor allows, or a pixel size
            that the user gives hides that they are.
    """
    coarsest = target_mpp * max_upsample
    mpp, source = resolution
    if source == TABLE:
        _check_user_mpp(reader, mpp, coarsest)
    if mpp > coarsest:
        raise CoarseSlideError(
            reader.path,
            f"its finest level has {mpp:g} µm/px by {source}, too coarse for tiles of "
            f"{target_mpp:g} µm/px: an overview, or a scan at low power",
        )


def _check_user_mpp(reader: SlideReader, mpp: float, coarsest: float) -> None:
    """Refuse a pixel size from the user that the number of pixels shows to be wrong."""
    if _longest_mm(reader, mpp) > LARGEST_GLASS_MM:
        raise CoarseSlideError(
            reader.path,
            f"at {mpp:g} µm/px by {GIVEN} it would be {_size_mm(reader, mpp)}, larger than any "
            "slide",
        )
    for source, stated in stated_sizes(reader.properties).items():
        contradicts = stated > max(coarsest, CONTRADICTION * mpp)
        # Whole dots per inch are often the default of an image editor.
        default = abs(stated - 25400 / (100 * round(254 / stated))) < 1e-3 * stated
        if contradicts and not default and _longest_mm(reader, stated) < LARGEST_GLASS_MM:
            raise CoarseSlideError(
                reader.path,
                f"its pixels are {mpp:g} µm by {GIVEN}, but {stated:.4g} µm by {source}, which "
                f"makes it {_size_mm(reader, stated)}: an overview or a thumbnail, not the scan",
            )


def remarks_of(reader: SlideReader, resolution: Resolution) -> list[str]:
    """Sentences about an open slide that its user must know of."""
    remarks = [*reader.remarks, *sizes_disagree(resolution, stated_sizes(reader.properties))]
    mpp, source = resolution
    if source == TABLE and _longest_mm(reader, mpp) < SMALL_MM:
        remarks.append(
            f"at {mpp:g} µm/px by {GIVEN} the whole slide is {_size_mm(reader, mpp)}; is it an "
            "overview, whose pixels are far larger?"
        )
    return remarks


def _longest_mm(reader: SlideReader, mpp: float) -> float:
    return max(reader.size_px) * mpp / 1000


def _size_mm(reader: SlideReader, mpp: float) -> str:
    width, height = (side * mpp / 1000 for side in reader.size_px)
    return f"{width:.2g} x {height:.2g} mm"


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
    overview: Overview | None = None,
) -> None:
    """Refuse a slide without a tile.

    Args:
        reader: the open slide.
        num_tiles: number of tiles on tissue.
        side_level0_px: side of a tile, level-0 pixels.
        tissue_mm2: area of tissue, square millimetres.
        user_masks: the user's masks of the slide, named in the message.
        overview: the image that tissue was sought in, if there is one.

    Raises:
        NoTissueError: there is no tile.
        SmallSlideError: the slide is smaller than one.
    """
    if num_tiles:
        return
    width, height = reader.size_px
    if min(width, height) < side_level0_px:
        raise SmallSlideError(
            reader.path,
            f"the slide ({width} x {height} px) is smaller than one tile ({side_level0_px:.0f} px)",
        )
    source = f"in mask {user_masks.tissue.name}" if user_masks.tissue else "found"
    inside = f" inside region {user_masks.region.name}" if user_masks.region else ""
    reason = f"no tile with enough tissue ({tissue_mm2:.3f} mm² of tissue {source}{inside})"
    if overview is not None and not user_masks.tissue and _is_grey(overview):
        reason += "; its pixels are grey, and tissue is told from glass by its colour"
    raise NoTissueError(reader.path, reason)


def _is_grey(overview: Overview) -> bool:
    """Whether an image has no colour, and more in it than empty glass."""
    channels = np.asarray(overview.image)
    chroma = int(np.ptp(channels, axis=-1).max())
    return chroma <= LARGEST_CHROMA and int(channels.min()) < DARKEST_GLASS
