"""Ragged bags as segments of rows, computed on the device by Triton.

One long bag then occupies as many programs as many short ones.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Int
from torch import Tensor

from mil.kernels.compile import Variant

BLOCKS = {"BLOCK_G": 64, "BLOCK_B": 32}  # segments, and bags, in a program's registers
OPTIONS = {"num_warps": 1, "num_stages": 2}


class Segments(NamedTuple):
    """Rows that each program works on.

    Segment g belongs to one bag b, and is the `rows` rows from
    ``offsets[b] + (g - firsts[b]) * rows``; a bag's last segment may be shorter. The
    segments of a bag are consecutive.
    """

    bag_of: Int[Tensor, " segments"]  # the number of bags for unused segments, at the end
    firsts: Int[Tensor, " bags_plus_1"]  # first segment of each bag
    rows: int


@triton.jit(do_not_specialize=["bags", "segments", "rows"])
def _split_kernel(
    offsets, bag_of, firsts, bags, segments, rows, BLOCK_G: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """``firsts = cumsum(ceil(sizes / rows))``; ``bag_of[g]`` counts the bags that end before g.

    The first program alone writes `firsts`.
    """
    block = tl.program_id(0)
    o_g = block * BLOCK_G + tl.arange(0, BLOCK_G)
    b_bag = tl.zeros([BLOCK_G], tl.int64)
    before = tl.full([], 0, tl.int64)  # segments of the bags of earlier blocks
    for start in range(0, bags, BLOCK_B):
        o_b = start + tl.arange(0, BLOCK_B)
        m_b = o_b < bags
        b_end = tl.load(offsets + o_b + 1, mask=m_b, other=0)
        b_size = b_end - tl.load(offsets + o_b, mask=m_b, other=0)
        b_count = (b_size + rows - 1) // rows
        b_next = before + tl.cumsum(b_count, 0)  # first segment of the next bag
        before += tl.sum(b_count, 0)
        b_ended = (b_next[None, :] <= o_g[:, None]) & m_b[None, :]
        b_bag += tl.sum(b_ended.to(tl.int64), 1)
        tl.store(firsts + o_b + 1, b_next, mask=m_b & (block == 0))
    tl.store(bag_of + o_g, b_bag, mask=o_g < segments)
    tl.store(firsts, tl.full([], 0, tl.int64), mask=block == 0)


def split_bags(offsets: Int[Tensor, " bags_plus_1"], tiles: int, rows: int) -> Segments:
    """Split bags into segments of at most `rows` rows, without waiting for the device.

    The device alone knows how many segments there are; the host allocates for the most
    there can be. It is one launch because the operation that follows often takes no
    longer than a handful of launches.

    Args:
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; an empty bag has no
            segment.
        tiles: number of rows of all bags.
        rows: number of rows of a full segment.
    """
    bags = len(offsets) - 1
    bag_of = offsets.new_empty(-(-tiles // rows) + bags)
    firsts = torch.empty_like(offsets)
    segments = len(bag_of)
    grid = (max(1, triton.cdiv(segments, BLOCKS["BLOCK_G"])),)
    _split_kernel[grid](offsets, bag_of, firsts, bags, segments, rows, **BLOCKS, **OPTIONS)
    return Segments(bag_of, firsts, rows)


def variants() -> Iterator[Variant]:
    """Compilations that the launch can ask for."""
    types = dict.fromkeys(("offsets", "bag_of", "firsts"), "*i64")
    types |= dict.fromkeys(("bags", "segments", "rows"), "i32")
    yield Variant.of("any", _split_kernel, types, BLOCKS | OPTIONS)
