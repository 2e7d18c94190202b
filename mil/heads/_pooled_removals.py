"""Logits of a bag without some of its tiles for heads that pool, in one pass over them.

A head that pools has, for each branch, the row ``R = sum_n a_n h_n``, where attention a
sums to 1. Without tile n the softmax over the others gives ``(R - a_n h_n) / (1 - a_n)``
exactly. Sums and differences are in float64: of two nearly equal rows float32 would
leave little.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mil.bags import Bags
from mil.heads._pooling import Pooling
from mil.heads._removals import KEPT_BYTES, BothEnds, Removals

if TYPE_CHECKING:
    from mil.heads._stream import PoolsTiles

# Bytes of a chunk's rows in float64.
CHUNK_BYTES = 16 << 20
# Numbers of a chunk's weighted rows up to which they are added at once.
SMALL = 200_000
# Attention left to the others below which they are pooled again: the quotient of two
# differences would lose too many digits.
SMALLEST_REST = 1e-8
# Weight of tiles, beside a largest one of 1, below which they are pooled again.
SMALLEST_WEIGHT = 1e-250


class PooledRemovals(Removals):
    """A head that pools tiles: `mil.heads.PoolsTiles`.

    Args:
        head: Head in evaluation mode, which gives the rows of tiles.
        exact: The same head in float64, which gives their logits.
        bags: One bag.
        room: Bytes of rows that may be kept.
    """

    def __init__(
        self, head: "PoolsTiles", exact: "PoolsTiles", bags: Bags, room: int = KEPT_BYTES
    ) -> None:
        self.head = head
        self.exact = exact
        self.features = bags.features
        self.mixing = head.mixing()
        row = head.each_tile(bags.features[:1])
        branches = row.scores.shape[1]
        width = row.rows.shape[2]
        mixed = branches if self.mixing is None else len(self.mixing)
        # Tiles of a chunk.
        self.chunk = max(1, CHUNK_BYTES // (8 * width * max(mixed, row.rows.shape[1])))
        self.keeps = len(bags.features) * row.rows.nbytes <= room
        self._chunks: list[Pooling] = []
        self.scores = torch.cat([tiles.scores for tiles in self._each()]).double()
        self.rows = self._pooled(torch.ones(len(self.scores), dtype=torch.bool))

    def alone(self) -> Tensor:
        """See `Removals`."""
        return torch.cat([self._alone(tiles.rows.double()) for tiles in self._each()])

    def effect(self) -> Tensor:
        """See `Removals`."""
        if len(self.scores) == 1:
            return torch.zeros_like(self.alone())
        log_attention = self.scores.log_softmax(0)
        attention = log_attention.exp()
        rest = -log_attention.expm1()
        whole = self._logits(self.rows[None])
        effects = []
        for place, tiles in self._each_with_place():
            rows = tiles.rows.double()
            # Rounded to 0 where another is pooled again below.
            without = self._without(rows, attention[place], rest[place].clamp_min(SMALLEST_REST))
            effects.append(whole - self.exact.logits_of(without))
        effect = torch.cat(effects)
        dominant = (rest < SMALLEST_REST).any(1).nonzero()[:, 0]
        for tile in dominant.tolist():
            others = torch.ones(len(self.scores), dtype=torch.bool)
            others[tile] = False
            effect[tile] = (whole - self._logits(self._pooled(others)[None]))[0]
        return effect

    def kept(self, order: Tensor, counts: Sequence[int]) -> BothEnds:
        """See `Removals`."""
        tiles = len(order)
        # Tiles between two numbers of `counts`, from either end, are summed once.
        edges = sorted({*counts, *(tiles - count for count in counts)} - {0, tiles})
        bounds = torch.tensor(edges, dtype=torch.int64)
        bucket = torch.empty(tiles, dtype=torch.int64)
        bucket[order] = torch.bucketize(torch.arange(tiles), bounds, right=True)
        sums, weights = self._sums(bucket, len(edges) + 1)
        starts = [0, *edges]
        ends = [*edges, tiles]
        # Numbers of buckets that hold the first and the last tiles.
        num_first = [ends.index(count) + 1 for count in counts]
        num_last = [len(starts) - starts.index(tiles - count) for count in counts]
        first = self._of_buckets(sums, weights, num_first)
        last = self._of_buckets(sums.flip(0), weights.flip(0), num_last)
        self._pool_again(first, [order[:count] for count in counts])
        self._pool_again(last, [order[tiles - count :] for count in counts])
        return BothEnds(first, last)

    def _pool_again(
        self, logits: Float[Tensor, "counts outputs"], subsets: Sequence[Int[Tensor, " some"]]
    ) -> None:
        """Replace logits that are NaN by those of their tiles, pooled by themselves."""
        for number in logits.isnan().any(1).nonzero()[:, 0].tolist():
            logits[number] = self._of_tiles(subsets[number])

    def _each(self) -> Iterable[Pooling]:
        """Rows and scores of all tiles, chunk by chunk."""
        if self._chunks:
            return self._chunks
        chunks = (self.head.each_tile(part) for part in self.features.split(self.chunk))
        if self.keeps:
            self._chunks = list(chunks)
            return self._chunks
        return chunks

    def _each_with_place(self) -> Iterator[tuple[slice, Pooling]]:
        """Chunks of tiles, each with its place among all tiles."""
        start = 0
        for tiles in self._each():
            place = slice(start, start + len(tiles.scores))
            yield place, tiles
            start = place.stop

    def _of_buckets(self, sums: Tensor, weights: Tensor, numbers: Sequence[int]) -> Tensor:
        """Logits of the tiles in the first buckets, by the number of buckets.

        NaN where attention of those tiles is too small for float64 beside the rest.
        """
        totals = weights.cumsum(0)
        totals = totals.masked_fill(totals < SMALLEST_WEIGHT, torch.nan)
        rows = sums.cumsum(0) / totals[..., None]
        return self._logits(rows[torch.tensor(numbers) - 1])

    def _of_tiles(self, tiles: Int[Tensor, " some"]) -> Tensor:
        mask = torch.zeros(len(self.scores), dtype=torch.bool)
        mask[tiles] = True
        return self._logits(self._pooled(mask)[None])[0]

    def _sums(self, bucket: Int[Tensor, " tiles"], buckets: int) -> tuple[Tensor, Tensor]:
        """Weighted sums of rows [buckets, branches, hidden], and of weights, by bucket."""
        weights = (self.scores - self.scores.amax(0)).exp()
        branches = weights.shape[1]
        sums = torch.zeros(buckets, branches, self.rows.shape[1], dtype=torch.float64)
        for place, tiles in self._each_with_place():
            _add_by_bucket(sums, bucket[place], weights[place], tiles.rows)
        totals = torch.zeros(buckets, branches, dtype=torch.float64)
        return sums, totals.index_add_(0, bucket, weights)

    def _pooled(self, mask: Bool[Tensor, " tiles"]) -> Float[Tensor, "branches hidden"]:
        """Row of each branch from the tiles of a mask."""
        scores = self.scores.masked_fill(~mask[:, None], -torch.inf)
        attention = scores.softmax(0)
        rows = [
            _weighted_sum(attention[place], tiles.rows) for place, tiles in self._each_with_place()
        ]
        return torch.stack(rows).sum(0)

    def _without(
        self,
        rows: Float[Tensor, "some row_branches hidden"],
        attention: Float[Tensor, "some branches"],
        rest: Float[Tensor, "some branches"],
    ) -> Float[Tensor, "some mixed hidden"]:
        """Mixed rows of the bag without each of some tiles."""
        if self.mixing is None or rows.shape[1] > 1:
            each = (self.rows - attention[..., None] * rows) / rest[..., None]
            return self._mixed(each)
        # One row of a tile serves all branches: they are mixed before it is subtracted.
        shares = self.mixing / rest[:, None]  # [some, mixed, branches]
        subtracted = (shares * attention[:, None]).sum(2)  # [some, mixed]
        return shares @ self.rows - subtracted[..., None] * rows

    def _alone(self, rows: Tensor) -> Tensor:
        """Logits of bags of a single tile from rows [tiles, 1 or branches, hidden]."""
        if self.mixing is None or rows.shape[1] > 1:
            return self._logits(rows.expand(-1, self.scores.shape[1], -1))
        return self.exact.logits_of(self.mixing.sum(1)[:, None] * rows)

    def _logits(self, rows: Float[Tensor, "some branches hidden"]) -> Tensor:
        return self.exact.logits_of(self._mixed(rows))

    def _mixed(self, rows: Float[Tensor, "some branches hidden"]) -> Tensor:
        if self.mixing is None:
            return rows
        return torch.einsum("mb,sbh->smh", self.mixing, rows)


def _add_by_bucket(
    sums: Float[Tensor, "buckets branches hidden"],
    bucket: Int[Tensor, " tiles"],
    weights: Float[Tensor, "tiles branches"],
    rows: Float[Tensor, "tiles row_branches hidden"],
) -> None:
    """Add to the sum of each bucket the weighted rows of its tiles."""
    if len(rows) * sums[0].numel() <= SMALL:
        sums.index_add_(0, bucket, weights[..., None] * rows)
        return
    # Matrix products: weighted rows of each branch would be as many as there are branches.
    order = bucket.argsort(stable=True)
    sizes = bucket.bincount(minlength=len(sums)).tolist()
    rows_of = rows[order].split(sizes)
    weights_of = weights[order].split(sizes)
    for number, size in enumerate(sizes):
        if size:
            sums[number] += _weighted_sum(weights_of[number], rows_of[number])


def _weighted_sum(weights: Tensor, rows: Tensor) -> Float[Tensor, "branches hidden"]:
    """Sum over tiles of rows [tiles, 1 or branches, hidden], by weights [tiles, branches]."""
    exact = rows.double()
    if rows.shape[1] == 1:
        return weights.mT @ exact[:, 0]
    return torch.einsum("tb,tbh->bh", weights, exact)
