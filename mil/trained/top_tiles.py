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


def ranked_tiles(values: Float[np.ndarray, " tiles"]) -> Int[np.ndarray, " tiles"]:
    """Numbers of the tiles from the largest value to the smallest.

    Tiles that tie stand in their order in the bag.
    """
    return np.argsort(-values, kind="stable")


def extreme_tiles(
    values: Float[np.ndarray, " tiles"], num_top: int, num_bottom: int | None = None
) -> Extremes:
    """The tiles at either end of a map.

    A bag of fewer tiles has fewer at its lower end, then at its upper one.

    Args:
        values: Value of each tile.
        num_top: Number of tiles with the largest values.
        num_bottom: Number of tiles with the smallest values; None: `num_top`.
    """
    ranked = ranked_tiles(values)
    top = ranked[:num_top]
    wanted = num_top if num_bottom is None else num_bottom
    return Extremes(top, ranked[::-1][: min(wanted, len(ranked) - len(top))])
