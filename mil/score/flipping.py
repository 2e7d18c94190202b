"""Patch flipping: logits of a bag that loses its most, or its least, important tiles.

How fast the prediction falls, or holds, tells how faithful a map of the tiles is. The
curves are drawn in Samek et al. 2017, https://arxiv.org/abs/1509.06321, for pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from mil.heads import Removals
from mil.io.scores import FLIP_SHARES, FLIPPED_KINDS, HeadScores, MapKind, tiles_left
from mil.trained.evidence import RunRemovals
from mil.trained.record import Trained
from mil.trained.tile_maps import tile_map

# Tiles that pass through a head for a kind of map where it has to be run on those that
# are left: of larger bags fewer shares are computed.
RUN_TILES = 100_000


@torch.inference_mode()
def flipped_logits(
    removals: Removals, trained: Trained, scores: HeadScores
) -> Float[np.ndarray, "kinds 2 shares outputs"]:
    """Logits after tiles were removed, ordered by each kind of map.

    Tiles of one value are ordered by their number.

    Args:
        removals: The head's logits of the bag without some tiles.
        trained: Record of the head.
        scores: Scores of the bag by the head, with their evidence.

    Returns:
        NaN where no tile would be left, and for shares that were passed over.
    """
    flipped = [flipped_by(kind, removals, trained, scores) for kind in FLIPPED_KINDS]
    return np.stack([logits for logits in flipped if logits is not None])


@torch.inference_mode()
def flipped_by(
    kind: MapKind, removals: Removals, trained: Trained, scores: HeadScores
) -> Float[np.ndarray, "2 shares outputs"] | None:
    """Logits after tiles were removed, ordered by one kind of map; None: there is no such map.

    See `flipped_logits`.
    """
    of_tiles = tile_map(kind, [trained], [scores])
    if of_tiles is None:
        return None
    return _flipped(removals, scores, np.argsort(-of_tiles.values, kind="stable"))


def _flipped(
    removals: Removals, scores: HeadScores, order: Int[np.ndarray, " tiles"]
) -> Float[np.ndarray, "2 shares outputs"]:
    """Logits without the most important tiles, and without the least important ones."""
    tiles = len(order)
    left = tiles_left(tiles)
    flipped = np.full((2, len(FLIP_SHARES), len(scores.logits)), np.nan)
    flipped[:, left == tiles] = scores.logits
    counts = _counts(left, tiles)
    if isinstance(removals, RunRemovals):
        counts = _affordable(counts)
    if counts:
        ends = removals.kept(torch.from_numpy(order), counts)
        # Without the first tiles of the order the last ones are left.
        for rows, logits in zip(flipped, (ends.last, ends.first), strict=True):
            of_count = dict(zip(counts, logits.float().double().numpy(), strict=True))
            for share, count in enumerate(left.tolist()):
                rows[share] = of_count.get(count, rows[share])
    return flipped


def _counts(left: Int[np.ndarray, " shares"], tiles: int) -> Sequence[int]:
    """Numbers of tiles that are left, each once: shares of a small bag are the same."""
    return sorted({count for count in left.tolist() if 0 < count < tiles})


def _affordable(counts: Sequence[int]) -> Sequence[int]:
    """As many of the numbers as may be run from both ends, evenly spread."""
    share = RUN_TILES / max(2 * sum(counts), 1)
    if share >= 1:
        return counts
    chosen = np.linspace(0, len(counts) - 1, max(2, int(share * len(counts))))
    return [counts[number] for number in np.unique(chosen.round().astype(int))]
