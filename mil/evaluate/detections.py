"""Candidate detections of lesions from a map of tiles."""

import numpy as np
from jaxtyping import Float, Int

# Radius within which the highest tile suppresses the others: 6 pixels of 128 px at
# 0.243 um in Liu et al. (2017, arXiv:1703.02442), as in most work on CAMELYON16.
RADIUS_UM = 187.0
# Detections of a slide: FROC reads eight per slide, and some slides have more than others.
MOST = 500


def radius_um(side_um: float) -> float:
    """Radius of suppression: at least so that a tile suppresses the eight around it.

    Args:
        side_um: Side of a tile, micrometres.
    """
    return max(RADIUS_UM, 1.001 * 2**0.5 * side_um)


def suppressed_maxima(
    centres: Float[np.ndarray, "tiles 2"],
    values: Float[np.ndarray, " tiles"],
    radius: float,
    *,
    most: int = MOST,
) -> Int[np.ndarray, " detections"]:
    """Tiles that are left after non-maximum suppression, the highest first.

    Again and again, the highest tile is a detection and all tiles within the radius of its
    centre are taken away. Tiles may overlap: only the distance of centres counts. Of tiles
    that tie, the first in the bag is taken.

    Args:
        centres: Centres of the tiles, in the unit of `radius`.
        values: Value of each tile; -inf: never a detection.
        radius: Radius of suppression.
        most: Largest number of detections.
    """
    # Sorted by x, only tiles of one stretch can be near.
    across = np.argsort(centres[:, 0], kind="stable")
    x, y = centres[across].T
    left = np.searchsorted(x, x - radius)
    right = np.searchsorted(x, x + radius, side="right")
    gone = values[across] == -np.inf
    detections: list[int] = []
    # A tile of several that tie comes before those behind it in the bag.
    order = np.lexsort((across, -values[across]))
    for centre in order.tolist():
        if gone[centre]:
            continue
        detections.append(centre)
        if len(detections) == most:
            break
        near = slice(left[centre], right[centre])
        away = (x[near] - x[centre]) ** 2 + (y[near] - y[centre]) ** 2
        gone[near] |= away <= radius**2
    return across[np.array(detections, int)]
