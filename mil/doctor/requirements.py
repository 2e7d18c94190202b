"""Requirements of a run on every slide."""

from dataclasses import dataclass

from mil.config import TileConfig


@dataclass(frozen=True)
class Requirements:
    """Requirements of a run on every slide.

    Attributes:
        tilings: Sides (pixels) and resolutions (µm per pixel) of tiles.
        tile: Section `tile` of the configuration.
        max_corrupt: Largest fraction of tiles that may be unreadable, 0 to 1.
        tissue: Whether tissue is detected; else the whole grid counts.
    """

    tilings: tuple[tuple[int, float], ...]
    tile: TileConfig
    max_corrupt: float
    tissue: bool
