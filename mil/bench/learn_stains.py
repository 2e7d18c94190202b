"""Tiles of two stains, told apart by colour: those of two centres in PatchCamelyon."""

import numpy as np
from jaxtyping import Bool, Float, Int

from mil.demo.labelled_tiles import LabelledTiles, read_tile

# White of 8 bits, and one that keeps the logarithm of black finite.
WHITE = 256
OFFSET = 1


def stain_groups(
    tiles: LabelledTiles, usable: Bool[np.ndarray, " tiles"]
) -> Int[np.ndarray, " tiles"]:
    """Group of each tile by its stain: 0 for the larger of two, 1 for the smaller.

    Two means of the direction of the tile's mean optical density, in which light and dark
    tissue of one stain are alike. Labels are not used.

    Args:
        tiles: Labelled tiles.
        usable: Tiles that are not blank; the others are of the group -1.
    """
    from sklearn.cluster import KMeans

    numbers = np.flatnonzero(usable)
    directions = np.stack([_direction(read_tile(tiles.paths[index])) for index in numbers])
    cluster = KMeans(2, n_init=10, random_state=0).fit_predict(directions)
    is_smaller = cluster == np.bincount(cluster).argmin()
    groups = np.full(len(usable), -1)
    groups[numbers] = is_smaller
    return groups


def _direction(image: np.ndarray) -> Float[np.ndarray, " 3"]:
    """Mean optical density by channel, of length 1."""
    density = -np.log((image.astype(np.float64) + OFFSET) / WHITE)
    mean: np.ndarray = density.reshape(-1, 3).mean(0)
    return mean / np.linalg.norm(mean)
