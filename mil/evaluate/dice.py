"""Dice of a map's tiles with the annotated ones, and the threshold for it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mil.evaluate.localise import ANNOTATED, off_border

# Tiles of a slide, on a log axis, whose values are tried as threshold; and thresholds that
# are tried in all.
RANKS = 64
CANDIDATES = 512


class RankedTiles(NamedTuple):
    """Tiles of a slide from the highest down, without those on a border of a region."""

    values: Float[np.ndarray, " tiles"]
    annotated: Bool[np.ndarray, " tiles"]


def ranked_tiles(
    values: Float[np.ndarray, " tiles"], share: Float[np.ndarray, " tiles"]
) -> RankedTiles:
    """Tiles of a slide in the order of its map.

    Args:
        values: Value of each tile, on a scale that all slides share.
        share: Annotated share of each tile, 0..1.
    """
    known = np.flatnonzero(off_border(share))
    order = known[np.argsort(-values[known], kind="stable")]
    # Kept of every annotated slide until the threshold is known.
    return RankedTiles(values[order].astype(np.float32), share[order] >= ANNOTATED)


def dice(
    tiles: RankedTiles, thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, " thresholds"]:
    """Dice of the tiles from each threshold up with the annotated ones; one is annotated."""
    called = np.searchsorted(-tiles.values, -thresholds.astype(np.float32), side="right")
    hits: Int[np.ndarray, " counts"] = np.append(0, tiles.annotated.cumsum())
    return 2 * hits[called] / (called + hits[-1])


def best_threshold(slides: Sequence[RankedTiles]) -> float | None:
    """Threshold with the largest mean Dice; None without slides.

    Args:
        slides: Tiles of validation slides, each with an annotated one.
    """
    if not slides:
        return None
    values = np.unique(np.concatenate([_tried(tiles) for tiles in slides]))
    rows = np.linspace(0, len(values) - 1, min(CANDIDATES, len(values))).round().astype(int)
    candidates = values[rows].astype(float)
    mean = np.mean([dice(tiles, candidates) for tiles in slides], axis=0)
    return float(candidates[np.argmax(mean)])


def _tried(tiles: RankedTiles) -> Float[np.ndarray, " ranks"]:
    ranks = np.geomspace(1, len(tiles.values), RANKS).round().astype(int) - 1
    return tiles.values[np.unique(ranks)]
