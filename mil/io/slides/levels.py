"""Levels of a pyramid: their sizes, and their exact reduction against level 0."""

from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]  # width, height

# A level coarser than asked for by less than this share counts as fine enough: over a
# tile of 224 px the loss is a fifth of a pixel, while reading the next finer level would
# cost four times as much.
FINE_ENOUGH = 1e-3


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


def nearest_finer(levels: Sequence[Level], downsample: float) -> int:
    """Number of the coarsest level that is not coarser than `downsample`; 0 if none is."""
    # Levels need not come in order of size.
    limit = downsample * (1 + FINE_ENOUGH)
    fine = [number for number, level in enumerate(levels) if level.downsample <= limit]
    return max(fine, key=lambda number: levels[number].downsample, default=0)
