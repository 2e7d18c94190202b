"""The tiles at either end of a map. No torch."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Extremes(NamedTuple):
    """Numbers of a slide's tiles at both ends of a map; no tile is at both."""

    # Largest value first.
    top: Int[np.ndarray, " top"]
    # Smallest value first.
    bottom: Int[np.ndarray, " bottom"]


def top_tiles(
    values: Float[np.ndarray, " tiles"], count: int, *, lowest: bool = False
) -> Int[np.ndarray, " chosen"]:
    """Numbers of the tiles with the largest values, largest first.

    Tiles that tie stand in their order in the bag.

    Args:
        values: Value of each tile.
        count: Number of tiles; a smaller bag gives all of its tiles.
        lowest: Whether the smallest values are wanted, smallest first.
    """
    return np.argsort(values if lowest else -values, kind="stable")[:count]


def extreme_tiles(values: Float[np.ndarray, " tiles"], count: int) -> Extremes:
    """The `count` tiles at either end of a map.

    A bag of fewer than twice as many tiles has fewer at its lower end.
    """
    top = top_tiles(values, count)
    bottom = top_tiles(values, min(count, len(values) - len(top)), lowest=True)
    return Extremes(top, bottom)
