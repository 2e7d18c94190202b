"""Masking of the highest scores in Triton, without waiting for the device.

The first launch ranks each segment of a bag, the second merges a bag's segments and
chooses the masked rows, the third writes into those rows.
"""

from collections.abc import Iterator

import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.compile import Variant
from mil.kernels.segments import split_bags

# Not tuned on a GPU yet.
# Rows of a segment (a power of 2): a program keeps their scores in registers while it
# ranks them.
ROWS = 2048
BLOCK_C = 1024  # candidates of a bag per iteration
OPTIONS = {"num_warps": 4, "num_stages": 2}


@triton.jit
def _sort_key(b_s, row):
    """int64 in the order of the scores; of equal scores the lower row has the larger key.

    ``key = bits(s) * 2³² + (2³² - 1 - row)``.
    """
    bits = (b_s + 0.0).to(tl.int32, bitcast=True)  # + 0.0: minus zero equals zero
    # The bits of negative floats are ordered the other way round.
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (bits.to(tl.int64) << 32) + (0xFFFFFFFF - row)


@triton.jit(do_not_specialize=["bags", "segments"])  # they differ from batch to batch
def _segments_kernel(
    scores,
    offsets,
    bag_of,
    firsts,
    candidates,
    bags,
    branches,
    segments,
    top,
    BLOCK_N: tl.constexpr,
):
    """The `top` largest keys of a segment and branch, descending; `empty` where it has fewer."""
    empty = -0x7FFFFFFFFFFFFFFF
    segment = tl.program_id(0).to(tl.int64)
    branch = tl.program_id(1).to(tl.int64)
    bag = tl.load(bag_of + segment)
    if bag < bags:
        first = tl.load(offsets + bag) + (segment - tl.load(firsts + bag)) * BLOCK_N
        row = first + tl.arange(0, BLOCK_N)
        m_n = row < tl.load(offsets + bag + 1)
        p_s = scores + row * branches + branch
        b_s = tl.load(p_s, mask=m_n, other=0.0).to(tl.float32)
        b_key = tl.where(m_n, _sort_key(b_s, row), empty)  # [BLOCK_N]
        for rank in range(top):
            largest = tl.max(b_key, 0)
            p_candidates = candidates + (branch * segments + segment) * top + rank
            tl.store(p_candidates, largest)
            b_key = tl.where(b_key == largest, empty, b_key)


@triton.jit(do_not_specialize=["segments"])
def _bags_kernel(
    candidates, firsts, draws, num_ranked, num_masked, masked_rows, branches, segments, top,
    BLOCK_C: tl.constexpr, TOP: tl.constexpr,
):  # fmt: skip
    """Masked rows of a bag and branch, by rank; -1 for a rank that is not masked.

    Rank r is masked if fewer than `quota` draws come before its own.
    """
    empty = -0x7FFFFFFFFFFFFFFF
    bag = tl.program_id(0).to(tl.int64)
    branch = tl.program_id(1).to(tl.int64)
    position = (bag * branches + branch) * top
    count = tl.load(num_ranked + bag)
    quota = tl.load(num_masked + bag)
    o_k = tl.arange(0, TOP)
    b_draws = tl.load(draws + position + o_k, mask=o_k < count, other=float("inf"))  # [TOP]
    first = (branch * segments + tl.load(firsts + bag)) * top
    last = (branch * segments + tl.load(firsts + bag + 1)) * top
    previous = 0x7FFFFFFFFFFFFFFF
    for rank in range(top):
        largest = tl.full([], empty, tl.int64)
        if rank < count:
            for start in range(first, last, BLOCK_C):
                o_c = start + tl.arange(0, BLOCK_C)
                b_key = tl.load(candidates + o_c, mask=o_c < last, other=empty)  # [BLOCK_C]
                largest = tl.maximum(largest, tl.max(tl.where(b_key < previous, b_key, empty), 0))
        previous = largest
        draw = tl.sum(tl.where(o_k == rank, b_draws, 0.0), 0)
        smaller = (b_draws < draw) | ((b_draws == draw) & (o_k < rank))
        masked = (rank < count) & (tl.sum(smaller.to(tl.int32), 0) < quota)
        row = 0xFFFFFFFF - (largest & 0xFFFFFFFF)  # undoes `_sort_key`
        tl.store(masked_rows + position + rank, tl.where(masked, row, -1))


@triton.jit
def _fill_kernel(values, masked_rows, fill, branches, top, TOP: tl.constexpr):
    """``values[row, branch] = fill`` for the masked rows of a bag and branch."""
    position = tl.program_id(0).to(tl.int64)  # bag * branches + branch
    o_k = tl.arange(0, TOP)
    p_masked_rows = masked_rows + position * top + o_k
    row = tl.load(p_masked_rows, mask=o_k < top, other=-1)
    b_fill = tl.full([TOP], 0.0, tl.float32) + fill
    p_values = values + row * branches + position % branches
    tl.store(p_values, b_fill.to(values.dtype.element_ty), mask=row >= 0)


def counts(offsets: Tensor, top: int, share: float, max_share: float) -> tuple[Tensor, Tensor]:
    """Numbers of ranked and of masked scores of each bag, [bags] each.

    Computed in float64 and truncated, as the reference does in Python.
    """
    num_ranked = (offsets.diff().double() * max_share).long().clamp(max=top)
    return num_ranked, (num_ranked.double() * share).long()


def topk_mask_forward(
    scores: Tensor, offsets: Tensor, draws: Tensor, share: float, fill: float, max_share: float
) -> tuple[Tensor, Tensor]:
    """Masked scores, and masked rows [bags, branches, top]; -1 for a rank that is not masked."""
    tiles, branches = scores.shape
    bags, _, top = draws.shape
    num_ranked, num_masked = counts(offsets, top, share, max_share)
    segments = split_bags(offsets, tiles, ROWS)
    num_segments = len(segments.bag_of)
    candidates = offsets.new_empty(branches, num_segments, top)
    _segments_kernel[num_segments, branches](
        scores,
        offsets,
        segments.bag_of,
        segments.firsts,
        candidates,
        bags,
        branches,
        num_segments,
        top,
        BLOCK_N=ROWS,
        **OPTIONS,
    )
    masked_rows = offsets.new_empty(bags, branches, top)
    _bags_kernel[bags, branches](
        candidates,
        segments.firsts,
        draws,
        num_ranked,
        num_masked,
        masked_rows,
        branches,
        num_segments,
        top,
        BLOCK_C=BLOCK_C,
        TOP=triton.next_power_of_2(top),
        **OPTIONS,
    )
    return fill_rows(scores.clone(), masked_rows, fill), masked_rows


def fill_rows(values: Tensor, masked_rows: Tensor, fill: float) -> Tensor:
    """Write `fill` into masked rows, in place.

    Args:
        values: [tiles, branches].
        masked_rows: [bags, branches, top], rows of each branch; -1 for none.
        fill: value to write.
    """
    bags, branches, top = masked_rows.shape
    padded = triton.next_power_of_2(top)
    grid = (bags * branches,)
    _fill_kernel[grid](values, masked_rows, fill, branches, top, TOP=padded, **OPTIONS)
    return values


def variants() -> Iterator[Variant]:
    """Compilations that the launches can ask for, with few ranks and with many."""
    types = dict.fromkeys(("scores", "draws", "values"), "*fp32") | {"fill": "fp32"}
    rows = ("offsets", "bag_of", "firsts", "candidates", "num_ranked", "num_masked", "masked_rows")
    types |= dict.fromkeys(rows, "*i64")
    types |= dict.fromkeys(("bags", "branches", "segments", "top"), "i32")
    yield Variant.of("top 16", _segments_kernel, types, {"BLOCK_N": ROWS} | OPTIONS)
    for top in (16, 64):
        blocks = {"BLOCK_C": BLOCK_C, "TOP": top}
        yield Variant.of(f"top {top}", _bags_kernel, types, blocks | OPTIONS)
        yield Variant.of(f"top {top}", _fill_kernel, types, {"TOP": top} | OPTIONS)
