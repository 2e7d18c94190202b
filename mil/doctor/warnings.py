"""What makes one doubt a slide that opens: one function a doubt, each gives the warnings it has."""

from collections.abc import Mapping, Sequence

from mil.doctor.findings import LevelFinding
from mil.io.slides import Level, Resolution
from mil.io.slides.resolution import CHAIN, PLAUSIBLE_MPP, SQUARE

# Two statements of the pixel size that differ by more than this share are not the same
# statement.
AGREE = 0.05
# Objective power is nominal: scanners of 40x have 0.22 to 0.28 µm/px. Only a wrong
# objective differs by more.
AGREE_NOMINAL = 0.30
NOMINAL = "objective power"
# Pyramids halve or quarter, so that up to twice as many pixels a side is usual.
USUAL_REDUCTION = 2.5
# To find tissue, a level with more pixels than this is decoded for many seconds.
LARGE_OVERVIEW_PX = 400e6


def sizes_disagree(used: Resolution, said: Mapping[str, float]) -> list[str]:
    """Pixel sizes that a slide states beside the one that is used, and that differ from it."""
    others: dict[str, list[str]] = {}
    for source, mpp in said.items():
        allowed = AGREE_NOMINAL if NOMINAL in (source, used.source) else AGREE
        if PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1] and abs(mpp / used.mpp - 1) > allowed:
            others.setdefault(f"{mpp:.4g}", []).append(source)
    if not others:
        return []
    texts = ", ".join(f"{mpp} by {' and '.join(sources)}" for mpp, sources in others.items())
    return [
        f"its pixel size is {used.mpp:.4g} µm by {used.source}, but {texts}; give the right one "
        "in the csv's `mpp`"
    ]


def not_square(properties: Mapping[str, str], levels: Sequence[Level]) -> list[str]:
    """Pixels whose sides differ, as stated or by the shapes of the levels."""
    found = []
    for source, find in CHAIN:
        pair = find(properties)
        if pair is not None and abs(pair[0] - pair[1]) > SQUARE * max(pair):
            found.append(f"its pixels are not square: {pair[0]:g} by {pair[1]:g} µm by {source}")
    for number, level in enumerate(levels):
        # A pixel more or less at the edge of a small level is rounding.
        odd = abs(level.downsample_x - level.downsample_y) * min(level.width_px, level.height_px)
        if odd > 2 * level.downsample and abs(level.downsample_x / level.downsample_y - 1) > SQUARE:
            x = level.downsample_x
            y = level.downsample_y
            found.append(f"level {number} is {x:.4g} times smaller across but {y:.4g} times down")
    return found[:1]


def cut_short(levels: Sequence[LevelFinding]) -> list[str]:
    """Blocks that lie behind the end of the file."""
    return [
        f"blocks of level {number} behind the end of the file: {level.cut_off}; it was cut "
        "short, copy it again"
        for number, level in enumerate(levels)
        if level.cut_off
    ]


def far_from_tiles(mpp: float, target_mpp: float, downsample: float) -> list[str]:
    """A level of choice that is much finer than the tiles, or coarser.

    Args:
        mpp: of level 0, µm per pixel.
        target_mpp: of the tiles.
        downsample: of the level that tiles are read from.
    """
    have = mpp * downsample
    reduction = target_mpp / (mpp * downsample)
    if reduction > USUAL_REDUCTION:
        return [
            f"no level near the tiles' {target_mpp:g} µm/px: they are read from {have:.3g} "
            f"µm/px, {reduction**2:.0f} "
            "pixels for each that is used, and slowly so"
        ]
    if have > target_mpp * (1 + AGREE):
        larger = f"tiles of {target_mpp:g} µm/px are enlarged {1 / reduction:.2g} times"
        return [f"its finest level has {have:.3g} µm/px: {larger}"]
    return []


def no_overview(level: Level) -> list[str]:
    """A level to find tissue on that is large itself."""
    pixels = level.width_px * level.height_px
    if pixels <= LARGE_OVERVIEW_PX:
        return []
    return [
        f"no small level: to find tissue, {pixels / 1e9:.1f} thousand million pixels are decoded"
    ]
