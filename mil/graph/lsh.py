"""Similar tiles by locality-sensitive hashing, in time N log N.

Single-level, multi-level and multi-view.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mil.bags import Graph
from mil.graph.directions import ROWS, Directions, plain_float32
from mil.graph.edges import NO_TILE, from_neighbours
from mil.graph.hashing import by_code, code_lengths, default_bits, hashes

# Rows of a small matrix product, of which only a band beside the diagonal is used.
BAND = 32


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
    """Graph in which every tile attends to the most similar tiles of its hash buckets.

    A table cuts space by random planes through the centre; the sides that a tile is on
    are its code, equal codes a bucket. In a bucket, however large, tiles are ordered by
    one more random projection, and only those `width / 2` positions apart or less are
    compared: at most `width * tables` for a tile, of which those of largest cosine are
    kept.

    One table and one level is the single-level hash of GAIS (Rustamov et al. 2025,
    https://arxiv.org/abs/2502.20293), several tables its multi-view, several levels its
    multi-level hash. Levels are prefixes of the code: a tile whose bucket holds fewer
    than `neighbours` others uses the bucket of a shorter prefix, which contains it.

    Args:
        features: features of one bag; in float16 no copy of them is made.
        neighbours: most neighbours of a tile, besides itself.
        centre: mean of the training tiles, subtracted first; None: the bag's own mean.
        tables: number of independent hash tables.
        bits: number of planes of a table at its middle level; None: buckets of 16 tiles
            on average.
        levels: number of code lengths of a table.
        width: most tiles of a table that a tile is compared with.
        least: smallest cosine of a neighbour, -1 to 1.
        seed: random seed of the planes.

    Raises:
        ValueError: width is below 2, or tables or levels below 1.
    """
    if width < 2 or tables < 1 or levels < 1:
        raise ValueError(
            f"width {width} must be at least 2, tables {tables} and levels {levels} at least 1"
        )
    half = width // 2
    with plain_float32(features.device):
        directions = Directions(features, centre)
        tiles = len(directions)
        middle = bits or default_bits(tiles)
        lengths = code_lengths(middle, levels)
        nearest = _Nearest(tiles, neighbours, features.device)
        generator = torch.Generator().manual_seed(seed)
        hashed = hashes(directions, tables, lengths[-1], generator)
        for codes, projections in zip(*hashed, strict=True):
            order = by_code(codes, projections)
            cosines = _cosines_ahead(directions, order, half)
            same_bucket = _same_bucket(codes[order], lengths, neighbours, half)
            cosines.masked_fill_(~same_bucket, -torch.inf)
            nearest.update(order, cosines)
        # Not `<`: a cosine that is not a number is no neighbour either.
        too_far = ~(nearest.cosines >= least)
        return from_neighbours(nearest.tiles.masked_fill(too_far, NO_TILE))


class _Nearest:
    """The most similar tiles so far, for each tile."""

    def __init__(self, tiles: int, neighbours: int, device: torch.device) -> None:
        shape = (tiles, neighbours)
        self.cosines = torch.full(shape, -torch.inf, device=device)
        self.tiles = torch.full(shape, NO_TILE, device=device)

    def update(self, order: Int[Tensor, " tiles"], ahead: Float[Tensor, "tiles half"]) -> None:
        """Merge candidates that are close in an order of the tiles.

        Args:
            order: the tiles, ordered.
            ahead: cosine of the tile at each position to those at the `half` positions
                after it.
        """
        tiles = len(order)
        half = ahead.shape[1]
        steps = torch.arange(1, half + 1, device=order.device)
        all_positions = torch.arange(tiles, device=order.device)
        for positions in all_positions.split(ROWS):
            after = positions[:, None] + steps
            before = positions[:, None] - steps
            # The cosine to an earlier tile is stored there, as that tile's to this one.
            behind = ahead[before.clamp(min=0), steps - 1]
            behind = behind.masked_fill(before < 0, -torch.inf)
            neighbours = torch.cat([after, before], dim=1)
            neighbours = neighbours.clamp(0, tiles - 1)
            cosines = torch.cat([ahead[positions], behind], dim=1)
            self._merge(order[positions], order[neighbours], cosines)

    def _merge(self, tiles: Tensor, candidates: Tensor, cosines: Tensor) -> None:
        """Keep the best of the current neighbours of `tiles` and new candidates."""
        current = self.tiles[tiles]
        # A candidate that is a neighbour already must not count twice.
        same = candidates[:, :, None] == current[:, None]
        cosines = cosines.masked_fill(same.any(2), -torch.inf)
        current_cosines = self.cosines[tiles]
        all_cosines = torch.cat([current_cosines, cosines], dim=1)
        all_tiles = torch.cat([current, candidates], dim=1)
        width = self.tiles.shape[1]
        best = all_cosines.topk(width)
        chosen = all_tiles.gather(1, best.indices)
        missing = best.values == -torch.inf
        self.cosines[tiles] = best.values
        self.tiles[tiles] = chosen.masked_fill(missing, NO_TILE)


def _cosines_ahead(
    directions: Directions,
    order: Int[Tensor, " tiles"],
    half: int,
) -> Float[Tensor, "tiles half"]:
    """Cosine of the tile at each position of an order to those `half` positions after it.

    Beyond the last position it is any number.
    """
    chunks = []
    wide = BAND + half
    for first in range(0, len(order), ROWS):
        last = first + ROWS + half
        rows = directions[order[first:last]]
        count = min(ROWS, len(order) - first)
        bands = -(-count // BAND)
        banded = bands * BAND
        padding = banded + half - len(rows)
        rows = functional.pad(rows, (0, 0, 0, padding))
        left = rows[:banded].unflatten(0, (bands, BAND))
        right = rows.unfold(0, wide, BAND)
        products = (left @ right).contiguous()
        # Row i of a band holds its cosines to the rows i + 1 to i + half: with a stride
        # of one more than the width, each row begins one column later.
        strides = (BAND * wide, wide + 1, 1)
        diagonals = products.as_strided((bands, BAND, half), strides, 1)
        cosines = diagonals.flatten(0, 1)[:count]
        chunks.append(cosines.clamp(-1, 1))
    return torch.cat(chunks)


def _same_bucket(
    codes: Int[Tensor, " tiles"],
    lengths: Sequence[int],
    companions: int,
    half: int,
) -> Bool[Tensor, "tiles half"]:
    """Whether tiles share a bucket with those at the `half` positions after them.

    Args:
        codes: codes in ascending order.
        lengths: number of bits of each level, ascending.
        companions: number of other tiles that a bucket is to hold.
        half: number of positions to compare.
    """
    dropped = _dropped_bits(codes, lengths, companions)
    tiles = len(codes)
    shared = torch.zeros(tiles, half, dtype=torch.bool, device=codes.device)
    for step in range(1, min(half, tiles - 1) + 1):
        earlier = codes[:-step]
        later = codes[step:]
        differing = earlier ^ later
        # The larger bucket of the two decides.
        earlier_dropped = dropped[:-step]
        later_dropped = dropped[step:]
        ignored = torch.maximum(earlier_dropped, later_dropped)
        equal = differing >> ignored == 0
        shared[:-step, step - 1] = equal
    return shared


def _dropped_bits(
    codes: Int[Tensor, " tiles"],
    lengths: Sequence[int],
    companions: int,
) -> Int[Tensor, " tiles"]:
    """Number of last bits to ignore at each position.

    As few as give a bucket `companions` other tiles, or all but the coarsest level's.
    """
    longest = lengths[-1]
    dropped = torch.full_like(codes, longest - lengths[0])
    for length in lengths[1:]:
        ignored = longest - length
        _, bucket, sizes = torch.unique_consecutive(
            codes >> ignored, return_inverse=True, return_counts=True
        )
        large_enough = sizes[bucket] > companions
        dropped[large_enough] = ignored
    return dropped
