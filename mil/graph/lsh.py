"""Similar tiles by locality-sensitive hashing, in time N log N: single-level, multi-level and multi-view."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mil.bags import Graph
from mil.graph.directions import ROWS, Directions, plain_float32
from mil.graph.edges import NOBODY, from_neighbours
from mil.graph.hashing import by_code, code_lengths, default_bits, hashes

BAND = 32  # rows of a small matrix product, of which a band beside the diagonal is used


def lsh_graph(
    features: Float[Tensor, "tiles dim"],
    neighbours: int = 8,
    centre: Float[Tensor, " dim"] | None = None,
    *,
    tables: int = 4,
    bits: int | None = None,
    levels: int = 1,
    width: int = 8,
    least: float = -1.0,
    seed: int = 0,
) -> Graph:
    """Every tile looks at the most similar of the tiles that fell into a bucket with it.

    A table cuts space by random planes through the centre; the sides a tile is on are
    its code, equal codes a bucket. In a bucket, however large, tiles are in the order
    of one more random projection, and only those `width / 2` places apart or less are
    compared: at most `width * tables` for a tile, of which those of largest cosine are
    kept.

    One table and one level is the single-level hash of GAIS (Rustamov et al. 2025,
    https://arxiv.org/abs/2502.20293), several tables its multi-view, several levels its
    multi-level hash. Levels are beginnings of the code: a tile whose bucket holds fewer
    than `neighbours` others is sought in the bucket of a shorter beginning, which holds
    that bucket.

    Args:
        features: of one bag; in float16 no copy of them is made.
        neighbours: how many a tile looks at besides itself, at most.
        centre: mean of the training tiles, taken off before; None: the bag's own mean.
        tables: independent tables.
        bits: planes a table, of the level in the middle; None: buckets of 16 tiles on
            average.
        levels: lengths of code a table.
        width: tiles that one is compared with, a table, at most.
        least: cosine below which a tile is not looked at.
        seed: of the planes.

    Raises:
        ValueError: width is below 2, or tables or levels below 1.
    """
    if width < 2 or tables < 1 or levels < 1:
        raise ValueError(
            f"width {width} must be at least 2, tables {tables} and levels {levels} at least 1"
        )
    with plain_float32(features.device):
        directions = Directions(features, centre)
        lengths = code_lengths(bits or default_bits(len(directions)), levels)
        found = _Nearest(len(directions), neighbours, features.device)
        generator = torch.Generator().manual_seed(seed)
        for codes, along in zip(*hashes(directions, tables, lengths[-1], generator), strict=True):
            order = by_code(codes, along)
            cosines = _cosines_ahead(directions, order, width // 2)
            cosines.masked_fill_(
                ~_together(codes[order], lengths, neighbours, width // 2), -torch.inf
            )
            found.improve(order, cosines)
        return from_neighbours(found.tiles.masked_fill(~(found.cosines >= least), NOBODY))


class _Nearest:
    """The most similar tiles found so far, of each tile."""

    def __init__(self, tiles: int, most: int, device: torch.device) -> None:
        self.cosines = torch.full((tiles, most), -torch.inf, device=device)
        self.tiles = torch.full((tiles, most), NOBODY, device=device)

    def improve(self, order: Int[Tensor, " tiles"], ahead: Float[Tensor, "tiles half"]) -> None:
        """Take what is better from tiles in an order, given the cosines of each place to those after it."""
        half = ahead.shape[1]
        steps = torch.arange(1, half + 1, device=order.device)
        for places in torch.arange(len(order), device=order.device).split(ROWS):
            before = places[:, None] - steps
            behind = ahead[before.clamp(min=0), steps - 1].masked_fill(before < 0, -torch.inf)
            others = order[
                torch.cat([places[:, None] + steps, before], dim=1).clamp(0, len(order) - 1)
            ]
            self._take(order[places], others, torch.cat([ahead[places], behind], dim=1))

    def _take(self, tiles: Tensor, others: Tensor, cosines: Tensor) -> None:
        known = (others[:, :, None] == self.tiles[tiles][:, None]).any(2)
        cosines = torch.cat([self.cosines[tiles], cosines.masked_fill(known, -torch.inf)], dim=1)
        best = cosines.topk(self.tiles.shape[1])
        named = torch.cat([self.tiles[tiles], others], dim=1).gather(1, best.indices)
        self.cosines[tiles] = best.values
        self.tiles[tiles] = named.masked_fill(best.values == -torch.inf, NOBODY)


def _cosines_ahead(
    directions: Directions, order: Int[Tensor, " tiles"], half: int
) -> Float[Tensor, "tiles half"]:
    """Cosines of each place in an order to the `half` places after it; beyond the last it is any number."""
    found = []
    for first in range(0, len(order), ROWS):
        rows = directions[order[first : first + ROWS + half]]
        count = min(ROWS, len(order) - first)
        blocks = -(-count // BAND)
        rows = functional.pad(rows, (0, 0, 0, blocks * BAND + half - len(rows)))
        products = rows[: blocks * BAND].unflatten(0, (blocks, BAND)) @ rows.unfold(
            0, BAND + half, BAND
        )
        wide = BAND + half
        beside = products.contiguous().as_strided(
            (blocks, BAND, half), (BAND * wide, wide + 1, 1), 1
        )
        found.append(beside.flatten(0, 1)[:count].clamp(-1, 1))
    return torch.cat(found)


def _together(
    codes: Int[Tensor, " tiles"], lengths: Sequence[int], companions: int, half: int
) -> Bool[Tensor, "tiles half"]:
    """Whether each place in the order of codes shares a bucket with the `half` places after it."""
    dropped = _dropped_bits(codes, lengths, companions)
    shared = torch.zeros(len(codes), half, dtype=torch.bool, device=codes.device)
    for step in range(1, min(half, len(codes) - 1) + 1):
        differing = codes[:-step] ^ codes[step:]
        shared[:-step, step - 1] = differing >> torch.maximum(dropped[:-step], dropped[step:]) == 0
    return shared


def _dropped_bits(
    codes: Int[Tensor, " tiles"], lengths: Sequence[int], companions: int
) -> Int[Tensor, " tiles"]:
    """Last bits that a place leaves out: as few as give it so many companions, or all but the coarsest level's."""
    dropped = torch.full_like(codes, lengths[-1] - lengths[0])
    for length in lengths[1:]:
        out = lengths[-1] - length
        sizes = torch.unique_consecutive(codes >> out, return_inverse=True, return_counts=True)
        dropped[sizes[2][sizes[1]] > companions] = out
    return dropped
