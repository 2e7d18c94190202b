"""Which coarser tile lies around a tile."""

import numpy as np
from jaxtyping import Int

# Corners are whole pixels, so tiles side by side may leave a pixel between them.
ROUNDING_PX = 1.0
# Tiles that may lie around a centre at one distance.
MOST_TIES = 4
# Row where no tile is.
NOWHERE = -1


def tiles_around(
    corners: Int[np.ndarray, "tiles 2"],
    side_px: float,
    coarse_corners: Int[np.ndarray, "coarse 2"],
    coarse_side_px: float,
) -> Int[np.ndarray, " tiles"]:
    """Row of the coarse tile whose footprint holds each tile's centre.

    Of several, that with the nearest centre by the larger of both distances along x and y;
    of equally near ones the first. -1 where there is none.

    Args:
        corners: Top left corners of the tiles, level-0 pixels, (x, y).
        side_px: Side of a tile, level-0 pixels.
        coarse_corners: The same of the coarse tiles.
        coarse_side_px: Side of a coarse tile, level-0 pixels.
    """
    # Here, since it takes a while to load, and most readers of bags join none.
    from scipy.spatial import KDTree

    if not len(corners) or not len(coarse_corners):
        return np.full(len(corners), NOWHERE)
    centres = corners + side_px / 2
    coarse_centres = coarse_corners + coarse_side_px / 2
    neighbours = np.arange(1, min(MOST_TIES, len(coarse_corners)) + 1)
    reach = coarse_side_px / 2 + ROUNDING_PX
    tree = KDTree(coarse_centres)
    # A footprint holds a centre if the larger distance is at most half a side.
    distances, rows = tree.query(centres, k=neighbours, p=np.inf, distance_upper_bound=reach)
    # Rows beyond the last one stand where there is no neighbour.
    nearest = np.where(distances <= distances[:, :1], rows, len(coarse_corners)).min(axis=1)
    return np.where(nearest < len(coarse_corners), nearest, NOWHERE)
