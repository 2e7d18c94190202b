"""Segments of like length laid out in one block, each as long as the longest of them.

A segment at a time, many short ones would cost their calls and not their arithmetic.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import isqrt
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

# Most pairs of rows of all segments that are computed as one, most of them in vain.
FEW_PAIRS = 12_000
# Most pairs of rows of a segment that shares a block with others. Of more the arithmetic takes
# longer than the calls.
SHORT_PAIRS = 96 * 96
# Most pairs and rows of a block of several segments, which then stays in a cache.
BLOCK_PAIRS = 1 << 17
BLOCK_ROWS = 2048
# Segments up to this length share blocks; of longer ones those within a factor of the square
# root of two.
LEAST_LENGTH = 32

Bounds = tuple[int, int]  # first row of a segment, and the row after its last


class Slots(NamedTuple):
    """Slots of a block, some of which hold no row."""

    ended: Bool[Tensor, "segments length"]  # slots after the end of a segment
    filling: Int[Tensor, " slots"]  # row in each slot; after the end the segment's first
    filled: Int[Tensor, " rows"]  # slot of each row


class Padding(NamedTuple):
    """Segments of packed rows as a block [segments, length]."""

    segments: int
    length: int  # of the longest segment
    rows: slice | Int[Tensor, " rows"]  # the segments' rows among all
    slots: Slots | None  # None: segments of one length, in a row

    def fill(self, packed: Shaped[Tensor, "all ..."]) -> Shaped[Tensor, "segments length ..."]:
        """Block of the segments' rows; a shorter one is filled up with its first row."""
        if self.slots is None:
            rows = packed[self.rows]
        else:
            rows = packed.index_select(0, self.slots.filling)
        return rows.view(self.segments, self.length, *packed.shape[1:])

    def take(self, block: Shaped[Tensor, "segments length ..."]) -> Shaped[Tensor, "rows ..."]:
        """Inverse of `fill`: the rows without what filled up the block."""
        rows = block.flatten(0, 1)
        return rows if self.slots is None else rows.index_select(0, self.slots.filled)


class Pair(NamedTuple):
    """Queries and keys of the same segments."""

    queries: Padding
    keys: Padding
    # Keys that a query does not see, in each segment of the paddings: slots after the end of a
    # segment, or those of other segments.
    hidden: Bool[Tensor, "segments #queries keys"] | None


def padded_pairs(
    query_offsets: Int[Tensor, " segments_plus_1"], key_offsets: Int[Tensor, " segments_plus_1"]
) -> Iterator[Pair]:
    """Blocks of all segments that have queries and keys; a long one has a block of its own.

    Args:
        query_offsets: Segment g is rows ``query_offsets[g]:query_offsets[g + 1]``.
        key_offsets: The same of the keys.
    """
    same = query_offsets is key_offsets
    queries = list(pairwise(query_offsets.tolist()))
    keys = queries if same else list(pairwise(key_offsets.tolist()))
    device = query_offsets.device
    for block in _blocks(queries, keys):
        of_queries = _padding([queries[number] for number in block], device)
        of_keys = of_queries
        if not same:
            of_keys = _padding([keys[number] for number in block], device)
        hidden = None if of_keys.slots is None else of_keys.slots.ended[:, None]
        yield Pair(of_queries, of_keys, hidden)


def as_one(
    query_offsets: Int[Tensor, " segments_plus_1"], key_offsets: Int[Tensor, " segments_plus_1"]
) -> Pair | None:
    """All segments as one, in which each sees its own keys alone; None: they have too many pairs.

    Args:
        query_offsets: Segment g is rows ``query_offsets[g]:query_offsets[g + 1]``.
        key_offsets: The same of the keys.
    """
    queries = query_offsets.tolist()
    keys = key_offsets.tolist()
    counts = (queries[-1], keys[-1])
    if len(queries) == 2 or counts[0] * counts[1] > FEW_PAIRS:
        return None
    bounds = zip(pairwise(queries), pairwise(keys), strict=True)
    # A query without any key to see has no softmax.
    if any(key[0] == key[1] and query[0] < query[1] for query, key in bounds):
        return None
    of_queries, of_keys = (Padding(1, count, slice(0, count), None) for count in counts)
    query_segments, key_segments = (
        torch.repeat_interleave(offsets.diff(), output_size=count)
        for offsets, count in zip((query_offsets, key_offsets), counts, strict=True)
    )
    return Pair(of_queries, of_keys, (query_segments[:, None] != key_segments)[None])


def _blocks(queries: Sequence[Bounds], keys: Sequence[Bounds]) -> Iterator[list[int]]:
    """Numbers of the segments of each block."""
    alike: dict[tuple[int, int], list[int]] = {}
    for number, bounds in enumerate(zip(queries, keys, strict=True)):
        of_queries, of_keys = (end - first for first, end in bounds)
        if of_queries * of_keys > SHORT_PAIRS:
            yield [number]
        elif of_queries and of_keys:
            lengths = (_rounded_up(of_queries), _rounded_up(of_keys))
            alike.setdefault(lengths, []).append(number)
    for (of_queries, of_keys), numbers in alike.items():
        in_pairs = BLOCK_PAIRS // (of_queries * of_keys)
        in_rows = BLOCK_ROWS // max(of_queries, of_keys)
        size = max(1, min(in_pairs, in_rows))
        for first in range(0, len(numbers), size):
            yield numbers[first : first + size]


def _rounded_up(length: int) -> int:
    """Largest length of the segments that share a block with one of this length."""
    # Of a power of two the square: half powers too.
    return max(LEAST_LENGTH, isqrt(1 << (length * length - 1).bit_length()))


def _padding(segments: Sequence[Bounds], device: torch.device) -> Padding:
    lengths = [end - first for first, end in segments]
    longest = max(lengths)
    in_a_row = all(one[1] == other[0] for one, other in pairwise(segments))
    every = slice(segments[0][0], segments[-1][1])
    if in_a_row and min(lengths) == longest:
        return Padding(len(segments), longest, every, None)
    sizes = torch.tensor(lengths, device=device)[:, None]
    firsts = torch.tensor([first for first, _ in segments], device=device)[:, None]
    numbers = torch.arange(longest, device=device)
    ended = numbers >= sizes
    filling = (firsts + numbers).where(~ended, firsts).flatten()
    filled = (~ended).flatten().nonzero()[:, 0]
    rows = every if in_a_row else filling[filled]
    return Padding(len(segments), longest, rows, Slots(ended, filling, filled))
