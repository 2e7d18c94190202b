"""Bags cut into pieces of rows, so that one long bag occupies as many programs as many short ones; in Triton."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Int
from torch import Tensor

from mil.kernels.variants import Variant

BLOCKS = {"BLOCK_P": 64, "BLOCK_B": 32}  # pieces, and bags, that a program looks at at a time
HOW = {"num_warps": 1, "num_stages": 2}


class Pieces(NamedTuple):
    """Which rows a program works on: piece p is part of one bag, and a bag's pieces follow one another.

    Piece p of bag b is the `rows` rows from ``offsets[b] + (p - firsts[b]) * rows``,
    the bag's last one fewer.
    """

    bag_of: Int[
        Tensor, " pieces"
    ]  # the number of bags for the pieces that are left over at the end
    firsts: Int[Tensor, " bags_plus_1"]  # first piece of each bag
    rows: int


@triton.jit(do_not_specialize=["bags", "pieces", "rows"])
def _cut_kernel(
    offsets, bag_of, firsts, bags, pieces, rows, BLOCK_P: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """The bags of some pieces; one program also writes the first piece of each bag."""
    block = tl.program_id(0)
    o_p = block * BLOCK_P + tl.arange(0, BLOCK_P)
    b_bag = tl.zeros([BLOCK_P], tl.int64)
    before = tl.full([], 0, tl.int64)  # pieces of the bags that have been looked at
    for start in range(0, bags, BLOCK_B):
        o_b = start + tl.arange(0, BLOCK_B)
        m_b = o_b < bags
        b_size = tl.load(offsets + o_b + 1, mask=m_b, other=0) - tl.load(
            offsets + o_b, mask=m_b, other=0
        )
        b_count = (b_size + rows - 1) // rows
        b_next = before + tl.cumsum(b_count, 0)  # the first piece of the next bag
        before += tl.sum(b_count, 0)
        b_bag += tl.sum(((b_next[None, :] <= o_p[:, None]) & m_b[None, :]).to(tl.int64), 1)
        tl.store(firsts + o_b + 1, b_next, mask=m_b & (block == 0))
    tl.store(bag_of + o_p, b_bag, mask=o_p < pieces)
    tl.store(firsts, tl.full([], 0, tl.int64), mask=block == 0)


def cut(offsets: Int[Tensor, " bags_plus_1"], tiles: int, rows: int) -> Pieces:
    """Cut bags into pieces of at most `rows` rows, without waiting for the device.

    How many pieces there are is known on the device alone; the host reckons with the
    most there can be. One launch: what it is for is often done in the time that a
    handful of operations take to start.

    Args:
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; it may be empty, and then
            has no piece.
        tiles: rows of all bags.
        rows: of a piece.
    """
    bags = len(offsets) - 1
    bag_of = offsets.new_empty(-(-tiles // rows) + bags)
    firsts = torch.empty_like(offsets)
    grid = (max(1, triton.cdiv(len(bag_of), BLOCKS["BLOCK_P"])),)
    _cut_kernel[grid](offsets, bag_of, firsts, bags, len(bag_of), rows, **BLOCKS, **HOW)
    return Pieces(bag_of, firsts, rows)


def variants() -> Iterator[Variant]:
    """What the launcher launches."""
    types = dict.fromkeys(("offsets", "bag_of", "firsts"), "*i64") | dict.fromkeys(
        ("bags", "pieces", "rows"), "i32"
    )
    yield Variant.of("any", _cut_kernel, types, BLOCKS | HOW)
