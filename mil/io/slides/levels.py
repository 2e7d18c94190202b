"""Levels of a pyramid: how large, and how much smaller than level 0, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]  # width, height

# A level coarser than wanted by less than this share counts as fine enough: over a tile
# of 224 px the loss is a fifth of a pixel, while reading the next finer level would
# cost four times as much.
FINE_ENOUGH = 1e-3


@dataclass(frozen=True)
class Level:
    """One level of a slide's pyramid; `downsample_x` and `_y` are level-0 pixels per pixel of it, never rounded."""

    width_px: int
    height_px: int
    downsample_x: float
    downsample_y: float

    @property
    def downsample(self) -> float:
        """Mean of both axes."""
        return (self.downsample_x + self.downsample_y) / 2


def make_levels(sizes: Sequence[Size]) -> list[Level]:
    """Levels of a pyramid from the sizes of its pictures, finest first."""
    return [Level(*size, *_factors(sizes[0], size)) for size in sizes]


def _factors(base: Size, size: Size) -> tuple[float, float]:
    """How much smaller a level is, in x and y: the whole factor that explains both sizes, else their ratios.

    Writers halve exactly and then drop or add part of a pixel at the edge: 1501 px
    become 750 or 751. Taking the ratio of sizes for the factor would shift what lies at
    the far edge by a whole pixel of the level. Where no whole factor explains the
    sizes, the picture was fitted to them edge to edge, each axis on its own.
    """
    x = base[0] / size[0]
    y = base[1] / size[1]
    near = round((x + y) / 2)
    off = {
        k: max(abs(base[0] / k - size[0]), abs(base[1] / k - size[1]))
        for k in (near, near - 1, near + 1)
        if k > 0
    }
    whole = min(off, key=lambda k: off[k])
    return (float(whole), float(whole)) if off[whole] < 1 else (x, y)


def nearest_finer(levels: Sequence[Level], downsample: float) -> int:
    """Number of the coarsest level that is not coarser than `downsample`; 0 if there is none."""
    fine = [
        i for i, level in enumerate(levels) if level.downsample <= downsample * (1 + FINE_ENOUGH)
    ]
    return max(fine, key=lambda i: levels[i].downsample, default=0)
