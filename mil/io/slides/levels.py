"""Levels of a pyramid: their sizes, and their exact reduction against level 0."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mil.errors import UnreadableSlideError

Size = tuple[int, int]  # width, height

# A level coarser than asked for by less than this share counts as fine enough: over a
# tile of 224 px the loss is a fifth of a pixel, while reading the next finer level would
# cost four times as much.
FINE_ENOUGH = 1e-3
# A level whose reductions in x and y differ by more than this share, and by more than
# rounding at its edge explains, is no smaller version of level 0 but another image.
SAME_SHAPE = 0.01
# Pixels, and pixels along a side, that no slide has: the largest scans have 1e11, and half
# a million.
IMPOSSIBLE_PX = 10**13
IMPOSSIBLE_SIDE_PX = 2_000_000


@dataclass(frozen=True)
class Level:
    """One level of a slide's pyramid.

    `downsample_x` and `downsample_y` are level-0 pixels per pixel of the level, never
    rounded.
    """

    width_px: int
    height_px: int
    downsample_x: float
    downsample_y: float

    @property
    def downsample(self) -> float:
        """Mean of both axes."""
        return (self.downsample_x + self.downsample_y) / 2


def check_sizes(path: Path, sizes: Sequence[Size]) -> None:
    """Refuse levels without a pixel, or of more than any scanner writes.

    Raises:
        UnreadableSlideError: a level is so.
    """
    for width, height in sizes:
        impossible = width * height > IMPOSSIBLE_PX or max(width, height) > IMPOSSIBLE_SIDE_PX
        if min(width, height) < 1 or impossible:
            raise UnreadableSlideError(
                path, f"it claims a level of {width} x {height} px; the file is damaged"
            )


def whole_number(text: str | None, default: int) -> int:
    """A whole number from a slide's properties; `default` where there is none."""
    try:
        return default if text is None else int(text)
    except ValueError:
        return default


def make_levels(sizes: Sequence[Size]) -> list[Level]:
    """Levels of a pyramid from the sizes of its images, finest first."""
    return [Level(*size, *_factors(sizes[0], size)) for size in sizes]


def _factors(base: Size, size: Size) -> tuple[float, float]:
    """Reduction of a level in x and y.

    It is the whole factor that explains both sizes, else their ratios. Writers halve
    exactly and then drop or add part of a pixel at the edge: 1501 px become 750 or 751.
    Taking the ratio of sizes for the factor would shift what lies at the far edge by a
    whole pixel of the level. Where no whole factor explains the sizes, the image was
    fitted to them edge to edge, each axis on its own.
    """
    x = base[0] / size[0]
    y = base[1] / size[1]
    nearest = round((x + y) / 2)
    errors_px = {}
    # The nearest factor comes first, so that it wins where two explain the sizes alike.
    for factor in (nearest, nearest - 1, nearest + 1):
        if factor > 0:
            error_x = abs(base[0] / factor - size[0])
            error_y = abs(base[1] / factor - size[1])
            errors_px[factor] = max(error_x, error_y)
    best = min(errors_px, key=lambda factor: errors_px[factor])
    return (float(best), float(best)) if errors_px[best] < 1 else (x, y)


def same_shape(level: Level) -> bool:
    """Whether a level has the shape of level 0, so that it may be a smaller version of it."""
    x = level.downsample_x
    y = level.downsample_y
    # A pixel more or less at the edge of a small level is rounding.
    excess_px = abs(x - y) * min(level.width_px, level.height_px)
    return excess_px <= 2 * level.downsample or abs(x / y - 1) <= SAME_SHAPE


def nearest_finer(levels: Sequence[Level], downsample: float) -> int:
    """Number of the coarsest level that is not coarser than `downsample`; 0 if none is.

    Labels and overviews that a file counts among its levels are passed over.
    """
    # Levels need not come in order of size.
    limit = downsample * (1 + FINE_ENOUGH)
    fine = [
        number
        for number, level in enumerate(levels)
        if level.downsample <= limit and same_shape(level)
    ]
    return max(fine, key=lambda number: levels[number].downsample, default=0)
