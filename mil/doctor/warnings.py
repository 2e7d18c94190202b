"""Warnings about slides that open: one function for each, returning sentences."""

from collections.abc import Mapping, Sequence

from mil.doctor.findings import LevelFinding
from mil.io.slides import Level
from mil.io.slides.levels import same_shape
from mil.io.slides.resolution import CHAIN, SQUARE, TOLERANCE

# Pyramids halve or quarter, so that reading up to twice as many pixels a side is usual.
USUAL_REDUCTION = 2.5
# Decoding a level of more pixels than this, to detect tissue, takes many seconds.
LARGE_OVERVIEW_PX = 400e6


def not_square(properties: Mapping[str, str], levels: Sequence[Level]) -> list[str]:
    """Pixels whose sides differ, as stated or by the levels' shapes; at most one warning."""
    texts = []
    for source, find in CHAIN:
        pair = find(properties)
        if pair is not None and abs(pair[0] - pair[1]) > SQUARE * max(pair):
            texts.append(f"its pixels are not square: {pair[0]:g} by {pair[1]:g} µm by {source}")
    for number, level in enumerate(levels):
        if not same_shape(level):
            x = level.downsample_x
            y = level.downsample_y
            texts.append(
                f"level {number} is {x:.4g} times smaller across but {y:.4g} times down; it is not "
                "read"
            )
    # Stated sizes and the shapes of the levels show the same fault.
    return texts[:1]


def truncated(levels: Sequence[LevelFinding]) -> list[str]:
    """Blocks that lie behind the end of the file."""
    return [
        f"blocks of level {number} behind the end of the file: {level.cut_off}; it was "
        "truncated, copy it again"
        for number, level in enumerate(levels)
        if level.cut_off
    ]


def far_from_tiles(mpp: float, target_mpp: float, downsample: float) -> list[str]:
    """Best level that is much finer than the tiles, or coarser.

    Args:
        mpp: Pixel size of level 0, micrometres.
        target_mpp: Resolution of the tiles, micrometres per pixel.
        downsample: Factor by which level 0 is larger than the level that tiles are read
            from.
    """
    level_mpp = mpp * downsample
    reduction = target_mpp / (mpp * downsample)
    if reduction > USUAL_REDUCTION:
        return [
            f"no level near the tiles' {target_mpp:g} µm/px: they are read from {level_mpp:.3g} "
            f"µm/px, {reduction**2:.0f} pixels for each that is used, which is slow"
        ]
    if level_mpp > target_mpp * (1 + TOLERANCE):
        enlarged = f"tiles of {target_mpp:g} µm/px are enlarged {1 / reduction:.2g} times"
        return [f"its finest level has {level_mpp:.3g} µm/px: {enlarged}"]
    return []


def no_overview(level: Level) -> list[str]:
    """Smallest level that is large itself, and slow to detect tissue on."""
    pixels = level.width_px * level.height_px
    if pixels <= LARGE_OVERVIEW_PX:
        return []
    return [f"no small level: {pixels / 1e9:.1f} gigapixels are decoded to detect tissue"]
