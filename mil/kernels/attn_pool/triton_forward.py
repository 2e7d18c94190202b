"""Sums of attention pooling in Triton: two launches.

The first sums each segment of a bag, the second merges a bag's segments in their order.
"""

from collections.abc import Iterator
from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.attn_pool.sums import SoftmaxSums
from mil.kernels.compile import Variant
from mil.kernels.segments import split_bags
from mil.kernels.triton_helpers import full_dot, segment_rows
from mil.kernels.tuning import tuned

FEW_BRANCHES = 16  # of which a block has room in registers for larger ones
MIN_ROWS = 128  # rows of a segment
# Segments of full bags times blocks of columns, unless the columns alone are many.
MAX_PROGRAMS = 1024
MAX_SEGMENTS = 256  # bounds the memory of their sums, whatever the number of tiles


@triton.jit
def _row_max(scores, first, last, branches, BLOCK_K: tl.constexpr, BLOCK_S: tl.constexpr):
    """``m_k = max_n s_nk`` over some rows, [BLOCK_K]."""
    o_k = tl.arange(0, BLOCK_K)
    b_m = tl.full([BLOCK_K, BLOCK_S], float("-inf"), tl.float32)
    for start in range(first, last, BLOCK_S):
        o_n = start + tl.arange(0, BLOCK_S)
        m_s = (o_k < branches)[:, None] & (o_n < last)[None, :]
        p_s = scores + o_n[None, :] * branches + o_k[:, None]
        b_m = tl.maximum(b_m, tl.load(p_s, mask=m_s, other=float("-inf")))
    return tl.max(b_m, 1)


@triton.jit
def _segment_weights(
    scores, seg_m, seg_l, seg_pz, seg_pp, segment, first, last, branches,
    BLOCK_K: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """``m``, ``l = sum p``, ``pz = sum p z`` and ``pp = p pᵀ`` of a segment: no features needed."""
    o_k = tl.arange(0, BLOCK_K)
    m_k = o_k < branches
    b_m = _row_max(scores, first, last, branches, BLOCK_K, BLOCK_S)
    b_l = tl.zeros([BLOCK_K, BLOCK_W], tl.float32)
    b_pz = tl.zeros([BLOCK_K, BLOCK_W], tl.float32)
    b_pp = tl.zeros([BLOCK_K, BLOCK_K], tl.float32)
    for start in range(first, last, BLOCK_W):
        o_n = start + tl.arange(0, BLOCK_W)
        m_s = m_k[:, None] & (o_n < last)[None, :]
        p_s = scores + o_n[None, :] * branches + o_k[:, None]
        b_s = tl.load(p_s, mask=m_s, other=0.0)
        b_z = tl.where(m_s, b_s - b_m[:, None], 0.0)
        b_p = tl.where(m_s, tl.exp(b_z), 0.0)  # [BLOCK_K, BLOCK_W]
        b_l += b_p
        b_pz += b_p * b_z
        b_pp = tl.dot(b_p, tl.trans(b_p), b_pp, input_precision="tf32x3")
    row = segment * branches + o_k
    tl.store(seg_m + row, b_m, mask=m_k)
    tl.store(seg_l + row, tl.sum(b_l, 1), mask=m_k)
    tl.store(seg_pz + row, tl.sum(b_pz, 1), mask=m_k)
    m_pp = m_k[:, None] & m_k[None, :]
    p_pp = seg_pp + row[:, None] * branches + o_k[None, :]
    tl.store(p_pp, b_pp, mask=m_pp)


@triton.jit
def _segment_acc(
    scores, features, seg_acc, segment, first, last, block, branches, dim,
    BLOCK_K: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """``acc = p x`` of a segment and a block of columns."""
    o_k = tl.arange(0, BLOCK_K)
    o_d = block * BLOCK_D + tl.arange(0, BLOCK_D)
    m_k = o_k < branches
    m_d = o_d < dim
    # Branches that are padding have m = -inf: as 0 their p is exp(-inf - 0) = 0, not
    # NaN.
    b_m = tl.where(m_k, _row_max(scores, first, last, branches, BLOCK_K, BLOCK_S), 0.0)
    b_acc = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    for start in range(first, last, BLOCK_N):
        o_n = start + tl.arange(0, BLOCK_N)
        m_n = o_n < last
        m_x = m_n[:, None] & m_d[None, :]
        m_s = m_k[:, None] & m_n[None, :]
        # [BLOCK_N, BLOCK_D]
        p_x = features + o_n[:, None] * dim + o_d[None, :]
        b_x = tl.load(p_x, mask=m_x, other=0.0)
        p_s = scores + o_n[None, :] * branches + o_k[:, None]
        b_s = tl.load(p_s, mask=m_s, other=float("-inf"))
        b_p = tl.exp(b_s - b_m[:, None])  # [BLOCK_K, BLOCK_N]
        b_acc = full_dot(b_p, b_x, b_acc)
    o_row = segment * branches + o_k
    m_acc = m_k[:, None] & m_d[None, :]
    p_acc = seg_acc + o_row[:, None] * dim + o_d[None, :]
    tl.store(p_acc, b_acc, mask=m_acc)


# Bags and segments differ from batch to batch: no compilation for each divisibility,
# nor for that of the branches; `variants` lists the same.
@triton.jit(do_not_specialize=["bags", "segments"], do_not_specialize_on_alignment=["branches"])
def _segments_kernel(
    scores,
    features,
    offsets,
    bag_of,
    firsts,
    seg_m,
    seg_l,
    seg_pz,
    seg_pp,
    seg_acc,
    bags,
    segments,
    rows,
    branches,
    dim,
    BLOCK_K: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """``m, l, pz, pp, acc`` of each segment.

    One program for a segment and a block of columns. The programs for the sums without
    features, one for a segment, come first: they mostly wait for memory.
    """
    position = tl.program_id(0) - segments
    blocks = tl.cdiv(dim, BLOCK_D)
    segment = tl.where(position < 0, position + segments, position // blocks).to(tl.int64)
    if tl.load(bag_of + segment) < bags:
        first, last = segment_rows(offsets, bag_of, firsts, segment, rows)
        if position < 0:
            _segment_weights(
                scores,
                seg_m,
                seg_l,
                seg_pz,
                seg_pp,
                segment,
                first,
                last,
                branches,
                BLOCK_K,
                BLOCK_S,
                BLOCK_W,
            )
        else:
            block = position % blocks
            _segment_acc(
                scores,
                features,
                seg_acc,
                segment,
                first,
                last,
                block,
                branches,
                dim,
                BLOCK_K,
                BLOCK_S,
                BLOCK_N,
                BLOCK_D,
            )


@triton.jit
def _merge_weights(
    seg_m, seg_l, seg_pz, seg_pp, bag_m, bag_l, bag_pz, bag_pp, first, last, row, branches,
    BLOCK_K: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: skip
    """``m, l, pz`` and a row of ``pp`` of a bag and branch, over the bag's segments g.

    With r_g = exp(m_g - m): ``l = sum r_g l_g``, ``pz = sum r_g (pz_g + l_g (m_g -
    m))``.
    """
    branch = row % branches
    o_k = tl.arange(0, BLOCK_K)
    m_k = o_k < branches
    b_m = _row_max(seg_m, first, last, branches, BLOCK_K, BLOCK_G)
    m = tl.max(tl.where(o_k == branch, b_m, float("-inf")), 0)  # of this branch
    b_l = tl.zeros([BLOCK_G], tl.float32)
    b_pz = tl.zeros([BLOCK_G], tl.float32)
    b_pp = tl.zeros([BLOCK_K, BLOCK_G], tl.float32)
    for start in range(first, last, BLOCK_G):
        o_g = start + tl.arange(0, BLOCK_G)
        m_g = o_g < last
        o_row = o_g * branches + branch
        b_shift = tl.where(m_g, tl.load(seg_m + o_row, mask=m_g, other=0.0) - m, 0.0)  # [BLOCK_G]
        b_rescale = tl.exp(b_shift)
        b_l_g = b_rescale * tl.load(seg_l + o_row, mask=m_g, other=0.0)
        b_l += b_l_g
        b_pz += b_rescale * tl.load(seg_pz + o_row, mask=m_g, other=0.0) + b_l_g * b_shift
        m_kg = m_k[:, None] & m_g[None, :]
        p_m = seg_m + o_g[None, :] * branches + o_k[:, None]
        b_m_g = tl.load(p_m, mask=m_kg, other=0.0)
        b_rescales = b_rescale[None, :] * tl.exp(tl.where(m_kg, b_m_g - b_m[:, None], 0.0))
        p_pp = seg_pp + o_row[None, :] * branches + o_k[:, None]
        b_pp += b_rescales * tl.load(p_pp, mask=m_kg, other=0.0)
    tl.store(bag_m + row, m)
    tl.store(bag_l + row, tl.sum(b_l, 0))
    tl.store(bag_pz + row, tl.sum(b_pz, 0))
    p_pp = bag_pp + row * branches + o_k
    tl.store(p_pp, tl.sum(b_pp, 1), mask=m_k)


@triton.jit
def _merge_acc(
    seg_m, seg_acc, bag_acc, first, last, row, block, branches, dim,
    BLOCK_G: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """``acc = sum_g exp(m_g - m) acc_g`` of a bag, a branch and a block of columns."""
    branch = row % branches
    o_d = block * BLOCK_D + tl.arange(0, BLOCK_D)
    m_d = o_d < dim
    b_m = tl.full([BLOCK_G], float("-inf"), tl.float32)
    for start in range(first, last, BLOCK_G):
        o_g = start + tl.arange(0, BLOCK_G)
        p_m = seg_m + o_g * branches + branch
        b_m = tl.maximum(b_m, tl.load(p_m, mask=o_g < last, other=float("-inf")))
    m = tl.max(b_m, 0)
    b_acc = tl.zeros([BLOCK_G, BLOCK_D], tl.float32)
    for start in range(first, last, BLOCK_G):
        o_g = start + tl.arange(0, BLOCK_G)
        m_g = o_g < last
        o_row = o_g * branches + branch
        b_rescale = tl.exp(tl.load(seg_m + o_row, mask=m_g, other=float("-inf")) - m)
        m_acc = m_g[:, None] & m_d[None, :]
        p_acc = seg_acc + o_row[:, None] * dim + o_d[None, :]
        b_acc += b_rescale[:, None] * tl.load(p_acc, mask=m_acc, other=0.0)
    p_acc = bag_acc + row * dim + o_d
    tl.store(p_acc, tl.sum(b_acc, 0), mask=m_d)


@triton.jit(do_not_specialize_on_alignment=["branches"])
def _merge_kernel(
    firsts,
    seg_m,
    seg_l,
    seg_pz,
    seg_pp,
    seg_acc,
    bag_m,
    bag_l,
    bag_pz,
    bag_pp,
    bag_acc,
    branches,
    dim,
    BLOCK_K: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """``m, l, pz, pp, acc`` of each bag, from those of its segments.

    One program for a bag, a branch and a block of columns, and one more for the sums
    without features.
    """
    blocks = tl.cdiv(dim, BLOCK_D)
    row = (tl.program_id(0) // (blocks + 1)).to(tl.int64)
    block = tl.program_id(0) % (blocks + 1)
    first = tl.load(firsts + row // branches)
    last = tl.load(firsts + row // branches + 1)
    if block == blocks:
        _merge_weights(
            seg_m,
            seg_l,
            seg_pz,
            seg_pp,
            bag_m,
            bag_l,
            bag_pz,
            bag_pp,
            first,
            last,
            row,
            branches,
            BLOCK_K,
            BLOCK_G,
        )
    else:
        _merge_acc(
            seg_m, seg_acc, bag_acc, first, last, row, block, branches, dim, BLOCK_G, BLOCK_D
        )


def config(dtype: torch.dtype, branches: int, dim: int) -> dict[str, dict[str, int]]:
    """Blocks, warps and stages of both kernels; not tuned on a GPU yet.

    BLOCK_K is the number of branches, padded. Per iteration the first kernel takes
    BLOCK_S rows of scores for the maximum, BLOCK_W for the sums, and BLOCK_N rows times
    BLOCK_D columns of features (16 KiB); the second BLOCK_G segments times BLOCK_D
    columns.
    """
    few = branches <= FEW_BRANCHES
    # Rows that do not begin at multiples of 16 are read number by number: many branches
    # then leave registers for half as many rows.
    rows = 32 if dim % 16 and not few else 64
    if dtype == torch.float32:
        rows = 32 if few else 16
    segments = {
        "BLOCK_K": 16 if few else 64,
        "BLOCK_S": 128 if few else 64,
        "BLOCK_W": 32,
        "BLOCK_N": rows,
        "BLOCK_D": 128,
        "num_warps": 4 if few else 8,
        "num_stages": 3,
    }
    merge = {
        "BLOCK_K": 16 if few else 64,
        "BLOCK_G": 128 if few else 32,
        "BLOCK_D": 32,
        "num_warps": 8,
        "num_stages": 2,
    }
    return {"segments": segments, "merge": merge}


def rows_per_segment(tiles: int, columns: int) -> int:
    """Rows of a segment, a power of 2.

    Few enough that a whole GPU has work, many enough that the segments' sums are small
    beside the tiles.

    Args:
        tiles: number of tiles of all bags.
        columns: number of blocks of columns.
    """
    max_segments = max(MAX_PROGRAMS // columns, MAX_SEGMENTS)
    return max(MIN_ROWS, triton.next_power_of_2(triton.cdiv(tiles, max_segments)))


def attn_pool_forward(scores: Tensor, features: Tensor, offsets: Tensor) -> SoftmaxSums:
    """Sums over each bag's tiles.

    Args:
        scores: [tiles, branches], float32, contiguous; at most 64 branches.
        features: [tiles, dim], contiguous.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; it may be empty.
    """
    tiles, dim = features.shape
    branches = scores.shape[1]
    bags = len(offsets) - 1
    blocks = config(features.dtype, branches, dim)
    if branches <= FEW_BRANCHES:
        blocks["segments"] |= tuned("attn_pool.forward", features.dtype, dim, features.device)
    columns = triton.cdiv(dim, blocks["segments"]["BLOCK_D"])
    segments = split_bags(offsets, tiles, rows_per_segment(tiles, columns))
    num_segments = len(segments.bag_of)
    of_segments = _unfilled(num_segments, branches, dim, features.device)
    of_bags = _unfilled(bags, branches, dim, features.device)
    _segments_kernel[(num_segments * (columns + 1),)](
        scores,
        features,
        offsets,
        segments.bag_of,
        segments.firsts,
        *_in_kernel_order(of_segments),
        bags,
        num_segments,
        segments.rows,
        branches,
        dim,
        **blocks["segments"],
    )
    columns = triton.cdiv(dim, blocks["merge"]["BLOCK_D"])
    _merge_kernel[(bags * branches * (columns + 1),)](
        segments.firsts,
        *_in_kernel_order(of_segments),
        *_in_kernel_order(of_bags),
        branches,
        dim,
        **blocks["merge"],
    )
    return of_bags


def _unfilled(count: int, branches: int, dim: int, device: torch.device) -> SoftmaxSums:
    def empty(*shape: int) -> Tensor:
        return torch.empty(count, branches, *shape, device=device)

    return SoftmaxSums(acc=empty(dim), m=empty(), l=empty(), pz=empty(), pp=empty(branches))


def _in_kernel_order(sums: SoftmaxSums) -> tuple[Tensor, ...]:
    return sums.m, sums.l, sums.pz, sums.pp, sums.acc


def variants() -> Iterator[Variant]:
    """Compilations that the launches can ask for."""
    sums = [f"{of}_{name}" for of in ("seg", "bag") for name in SoftmaxSums._fields]
    types = dict.fromkeys((*sums, "scores"), "*fp32")
    types |= dict.fromkeys(("offsets", "bag_of", "firsts"), "*i64")
    types |= {"bags": "i32", "segments": "i32", "rows": "i32:16", "branches": "i32"}
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    for branches, dim in product((1, 16, 64), (16, 1)):
        # Triton makes an integer argument of 1 a constant.
        known = {"branches": 1} if branches == 1 else {}
        label = f"branches {branches}" + ("" if dim == 16 else ", any dim")
        types["dim"] = "i32:16" if dim == 16 else "i32"
        for name, dtype in dtypes.items():
            if dim != 16 and dtype == torch.float16:
                continue  # compiled as bfloat16 is
            keywords = known | config(dtype, branches, dim)["segments"]
            features = {"features": f"*{name}"}
            yield Variant.of(f"{name} {label}", _segments_kernel, types | features, keywords)
        keywords = known | config(torch.float32, branches, dim)["merge"]
        yield Variant.of(label, _merge_kernel, types, keywords)
