"""Tiles and stains of the sets of a cohort, drawn so that no two sets share any."""

import numpy as np
from jaxtyping import Bool, Int

from mil.bench.learn_bank import FeatureBank
from mil.demo.composite_plan import Pool
from mil.demo.labelled_tiles import CLASS_NAMES
from mil.errors import DatasetError

# Shares of the tiles of each class up to which they are for training, for validation
# and for the test set; the others are for the second.
TILE_SHARES = (0.45, 0.60, 0.80)
# The same for stains, of which training and validation have the first part.
STAIN_SHARES = (10 / 16, 13 / 16)
FEWEST_STAINS = 4

Rng = np.random.Generator


def disjoint_pools(
    rng: Rng, labels: Int[np.ndarray, " tiles"], usable: Bool[np.ndarray, " tiles"]
) -> list[Pool]:
    """Disjoint pools of the usable tiles: of training, validation, test and second test."""
    by_class = []
    for label, name in enumerate(CLASS_NAMES):
        order = rng.permutation(np.flatnonzero((labels == label) & usable))
        ends = [int(len(order) * share) for share in TILE_SHARES]
        parts = np.split(order, ends)
        if not all(map(len, parts)):
            raise DatasetError(
                f"{len(order)} tiles of the class {name!r} that are not blank are too few for "
                f"{len(parts)} disjoint sets; give more tiles"
            )
        by_class.append(parts)
    return list(zip(*by_class, strict=True))


def shifted_pools(rng: Rng, bank: FeatureBank, trained: int) -> list[Pool]:
    """Pools of which the second test set has all tiles of one stain, the others another's.

    Args:
        rng: random state of the pools.
        bank: bank whose tiles are in groups by their own stain.
        trained: group of the tiles for training, validation and the first test set.
    """
    assert bank.groups is not None, "tiles of the bank are in no groups"
    first, valid, test, rest = disjoint_pools(rng, bank.labels, bank.groups == trained)
    train = (np.concatenate([first[0], rest[0]]), np.concatenate([first[1], rest[1]]))
    others = [
        np.flatnonzero((bank.labels == label) & (bank.groups == 1 - trained))
        for label in range(len(CLASS_NAMES))
    ]
    for tiles, name in zip(others, CLASS_NAMES, strict=True):
        if not len(tiles):
            raise DatasetError(
                f"no tile of the class {name!r} has the other stain: colour tells the classes "
                "apart; leave --stain-shift out"
            )
    return [train, valid, test, (others[0], others[1])]


def draw_stains(rng: Rng, count: int) -> list[Int[np.ndarray, " stains"]]:
    """Stains of training and validation, of the test set, and of the second."""
    if count < FEWEST_STAINS:
        raise DatasetError(
            f"{count} stains are too few for three disjoint sets of slides; set --stains to "
            f"{FEWEST_STAINS} or more"
        )
    return np.split(rng.permutation(count), [int(count * share) for share in STAIN_SHARES])
