"""Masking some of the highest scores in Triton: ranked in pieces, then in bags, and nobody waits for the device."""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.pieces import cut
from mil.kernels.variants import Variant

# Not tuned on a GPU yet.
ROWS = (
    2048  # of a piece (a power of 2), whose scores a program keeps in registers while it ranks them
)
BLOCK_C = 1024  # candidates of a bag that are looked at at a time
HOW = {"num_warps": 4, "num_stages": 2}


@triton.jit
def _order(b_s, row):
    """A number for each score, in their order; of equal scores the lower row has the larger number."""
    bits = (b_s + 0.0).to(tl.int32, bitcast=True)  # + 0.0: minus zero equals zero
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # of negative floats the order is the other way round
    return (bits.to(tl.int64) << 32) + (0xFFFFFFFF - row)


@triton.jit(do_not_specialize=["bags", "pieces"])  # which differ from step to step
def _pieces_kernel(
    scores, offsets, bag_of, firsts, candidates, bags, branches, pieces, top, BLOCK_N: tl.constexpr
):
    """The highest of each piece, in their order, and no candidate where a piece has no more."""
    none = -0x7FFFFFFFFFFFFFFF
    piece = tl.program_id(0).to(tl.int64)
    branch = tl.program_id(1).to(tl.int64)
    bag = tl.load(bag_of + piece)
    if bag < bags:
        first = tl.load(offsets + bag) + (piece - tl.load(firsts + bag)) * BLOCK_N
        row = first + tl.arange(0, BLOCK_N)
        m_n = row < tl.load(offsets + bag + 1)
        b_s = tl.load(scores + row * branches + branch, mask=m_n, other=0.0).to(tl.float32)
        b_order = tl.where(m_n, _order(b_s, row), none)  # [BLOCK_N]
        for rank in range(top):
            best = tl.max(b_order, 0)
            tl.store(candidates + (branch * pieces + piece) * top + rank, best)
            b_order = tl.where(b_order == best, none, b_order)


@triton.jit(do_not_specialize=["pieces"])
def _bags_kernel(
    candidates, firsts, draws, ranked, masked, hidden, branches, pieces, top,
    BLOCK_C: tl.constexpr, TOP: tl.constexpr,
):  # fmt: skip
    """The rows that are masked of each bag and branch, by rank; -1 for a rank that stays."""
    none = -0x7FFFFFFFFFFFFFFF
    bag = tl.program_id(0).to(tl.int64)
    branch = tl.program_id(1).to(tl.int64)
    place = (bag * branches + branch) * top
    count = tl.load(ranked + bag)
    quota = tl.load(masked + bag)
    o_k = tl.arange(0, TOP)
    b_draws = tl.load(draws + place + o_k, mask=o_k < count, other=float("inf"))  # [TOP]
    first = (branch * pieces + tl.load(firsts + bag)) * top
    last = (branch * pieces + tl.load(firsts + bag + 1)) * top
    before = 0x7FFFFFFFFFFFFFFF
    for rank in range(top):
        best = tl.full([], none, tl.int64)
        if rank < count:
            for start in range(first, last, BLOCK_C):
                o_c = start + tl.arange(0, BLOCK_C)
                b_order = tl.load(candidates + o_c, mask=o_c < last, other=none)  # [BLOCK_C]
                best = tl.maximum(best, tl.max(tl.where(b_order < before, b_order, none), 0))
        before = best
        draw = tl.sum(tl.where(o_k == rank, b_draws, 0.0), 0)
        smaller = (b_draws < draw) | ((b_draws == draw) & (o_k < rank))
        chosen = (rank < count) & (tl.sum(smaller.to(tl.int32), 0) < quota)
        tl.store(hidden + place + rank, tl.where(chosen, 0xFFFFFFFF - (best & 0xFFFFFFFF), -1))


@triton.jit
def _fill_kernel(numbers, hidden, fill, branches, top, TOP: tl.constexpr):
    place = tl.program_id(0).to(tl.int64)  # of a bag and branch
    o_k = tl.arange(0, TOP)
    row = tl.load(hidden + place * top + o_k, mask=o_k < top, other=-1)
    b_fill = tl.full([TOP], 0.0, tl.float32) + fill
    tl.store(
        numbers + row * branches + place % branches,
        b_fill.to(numbers.dtype.element_ty),
        mask=row >= 0,
    )


def counts(offsets: Tensor, top: int, share: float, most: float) -> tuple[Tensor, Tensor]:
    """How many scores of each bag are ranked, and how many of those are masked: in double and cut off, as in Python."""
    ranked = (offsets.diff().double() * most).long().clamp(max=top)
    return ranked, (ranked.double() * share).long()


def topk_mask_forward(
    scores: Tensor, offsets: Tensor, draws: Tensor, share: float, fill: float, most: float
) -> tuple[Tensor, Tensor]:
    """Masked scores; the rows that are masked [bags, branches, top], -1 for a rank that stays."""
    (tiles, branches), (bags, _, top) = scores.shape, draws.shape
    ranked, masked = counts(offsets, top, share, most)
    cuts = cut(offsets, tiles, ROWS)
    pieces = len(cuts.bag_of)
    candidates = offsets.new_empty(branches, pieces, top)
    _pieces_kernel[pieces, branches](
        scores,
        offsets,
        cuts.bag_of,
        cuts.firsts,
        candidates,
        bags,
        branches,
        pieces,
        top,
        BLOCK_N=ROWS,
        **HOW,
    )
    hidden = offsets.new_empty(bags, branches, top)
    _bags_kernel[bags, branches](
        candidates,
        cuts.firsts,
        draws,
        ranked,
        masked,
        hidden,
        branches,
        pieces,
        top,
        BLOCK_C=BLOCK_C,
        TOP=triton.next_power_of_2(top),
        **HOW,
    )
    return fill_rows(scores.clone(), hidden, fill), hidden


def fill_rows(numbers: Tensor, hidden: Tensor, fill: float) -> Tensor:
    """Write `fill` into the numbers [tiles, branches] at those rows [bags, branches, top] of its branches, in place."""
    bags, branches, top = hidden.shape
    _fill_kernel[(bags * branches,)](
        numbers, hidden, fill, branches, top, TOP=triton.next_power_of_2(top), **HOW
    )
    return numbers


class TopkMask(torch.autograd.Function):
    """Masking with its gradient; see `mil.kernels.topk_mask.topk_mask`."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        offsets: Tensor,
        draws: Tensor,
        share: float,
        fill: float,
        most: float,
    ) -> Tensor:
        """Mask, and keep which rows."""
        masked, hidden = topk_mask_forward(
            scores.contiguous(), offsets, draws.contiguous(), share, fill, most
        )
        ctx.save_for_backward(hidden)
        return masked

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient, but 0 for what is masked."""
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        return fill_rows(grad, *ctx.saved_tensors, 0.0), None, None, None, None, None


def variants() -> Iterator[Variant]:
    """What the launchers launch, for few ranks and for many."""
    types = dict.fromkeys(("scores", "draws", "numbers"), "*fp32") | {"fill": "fp32"}
    types |= dict.fromkeys(
        ("offsets", "bag_of", "firsts", "candidates", "ranked", "masked", "hidden"), "*i64"
    )
    types |= dict.fromkeys(("bags", "branches", "pieces", "top"), "i32")
    for top in (16, 64):
        for kernel, blocks in {
            _pieces_kernel: {"BLOCK_N": ROWS},
            _bags_kernel: {"BLOCK_C": BLOCK_C, "TOP": top},
            _fill_kernel: {"TOP": top},
        }.items():
            if top == 16 or "TOP" in blocks:
                signature = {name: types[name] for name in kernel.arg_names if name not in blocks}
                yield Variant(f"top {top}", kernel, signature, blocks, **HOW)
