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
    across = np.argsort(centres[:, 0], kind="stable")
    x = centres[across, 0]
    gone = values == -np.inf
    detections: list[int] = []
    for tile in np.argsort(-values, kind="stable"):
        if gone[tile]:
            continue
        detections.append(int(tile))
        if len(detections) == most:
            break
        # Only tiles of the same strip can be near.
        left = np.searchsorted(x, centres[tile, 0] - radius)
        right = np.searchsorted(x, centres[tile, 0] + radius, side="right")
        strip = across[left:right]
        near = ((centres[strip] - centres[tile]) ** 2).sum(1) <= radius**2
        gone[strip[near]] = True
    return np.array(detections, int)
