"""Patch flipping: how a prediction changes as tiles are removed in the order of a map."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class FlipCurves(NamedTuple):
    """Change of the evidence toward a prediction, by the share of tiles removed.

    NaN where no tile would be left.
    """

    most_first: Float[np.ndarray, " shares"]
    least_first: Float[np.ndarray, " shares"]


def flip_area(shares: Float[np.ndarray, " shares"], curves: FlipCurves, tiles: int) -> float | None:
    """Mean distance between the two curves over the logarithm of the share removed.

    A faithful map keeps the prediction while its least important tiles are removed and
    loses it with the most important ones: the area is positive. A map that ranks tiles at
    random has area 0 in expectation, because its order reversed is as likely; no random
    orders need to be drawn. The logarithm weighs each decade of shares alike, since a few
    of some thousand tiles decide; it begins with the first tile. After Samek et al. (2017,
    IEEE TNNLS 28:2660), and for bags Jamshidi Idaji et al. (2026, arXiv:2603.08328).

    Args:
        shares: Shares of the tiles removed, rising, each rounded up to whole tiles: shares
            below one tile are one tile. 0 has no logarithm and is passed over.
        curves: Change of the evidence.
        tiles: Number of tiles of the bag.

    Returns:
        The area divided by the length of the axis, in the unit of the evidence; None for
        fewer than two numbers of tiles, as of a bag of one tile.
    """
    between = curves.least_first - curves.most_first
    known = (shares > 0) & np.isfinite(between)
    # Else the first tile of a small bag would fill the decades in which it is alone.
    axis = np.log10(np.maximum(shares[known], 1 / tiles))
    if len(axis) == 0 or axis[-1] == axis[0]:
        return None
    return float(np.trapezoid(between[known], axis) / (axis[-1] - axis[0]))
