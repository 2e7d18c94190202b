"""For what a slide that opens is refused."""

from pathlib import Path

from mil.errors import CorruptRegionsError, MissingResolutionError, NoTissueError
from mil.io.slides import SlideReader
from mil.tile.plan import Drawn

# A slide of which more than this cannot be seen is damaged, whatever its tiles are
# like.
LARGEST_LOSS = 0.01


def check_scale(slide: Path, mpp: float, target_mpp: float, max_upsample: float) -> None:
    """Refuse a slide that is too coarse for the tiles."""
    if mpp > target_mpp * max_upsample:
        raise MissingResolutionError(
            slide,
            f"its finest level has {mpp:g} µm/px, too coarse for tiles of {target_mpp:g} µm/px"
            " (an overview, not a scan?)",
        )


def check_loss(slide: Path, lost: float) -> None:
    """Refuse a slide of which too large a share cannot even be seen."""
    if lost > LARGEST_LOSS:
        raise CorruptRegionsError(
            slide, f"{100 * lost:.1f} % of its area cannot be decoded at any level"
        )


def check_any(
    reader: SlideReader, num_tiles: int, *, side_level0_px: float, tissue_mm2: float, drawn: Drawn
) -> None:
    """Refuse a slide without a tile."""
    if num_tiles:
        return
    width, height = reader.size_px
    if min(width, height) < side_level0_px:
        why = (
            f"the slide ({width} x {height} px) is smaller than one tile ({side_level0_px:.0f} px)"
        )
    else:
        where = f"in mask {drawn.tissue.name}" if drawn.tissue else "found"
        inside = f" inside region {drawn.region.name}" if drawn.region else ""
        why = f"no tile with enough tissue ({tissue_mm2:.3f} mm² of tissue {where}{inside})"
    raise NoTissueError(reader.path, why)
