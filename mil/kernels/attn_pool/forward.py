"""Sums of attention pooling in Triton: long bags are cut into pieces, whose sums are merged in their order."""

from collections.abc import Iterator
from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.attn_pool.sums import Sums
from mil.kernels.common import full_dot, piece_of
from mil.kernels.pieces import cut
from mil.kernels.variants import Variant

LEAST_ROWS = 128  # of a piece
MOST_PROGRAMS = 1024  # pieces of full bags times blocks of columns, or if there are many columns
MOST_PIECES = 256  # pieces: so the memory of their sums does not grow with the tiles


@triton.jit
def _highest(scores, first, last, branches, M: tl.constexpr, BLOCK_S: tl.constexpr):
    """Each branch's highest score in some rows [M]."""
    o_m = tl.arange(0, M)
    b_tops = tl.full([M, BLOCK_S], float("-inf"), tl.float32)
    for start in range(first, last, BLOCK_S):
        o_n = start + tl.arange(0, BLOCK_S)
        m_s = (o_m < branches)[:, None] & (o_n < last)[None, :]
        b_s = tl.load(
            scores + o_n[None, :] * branches + o_m[:, None], mask=m_s, other=float("-inf")
        )
        b_tops = tl.maximum(b_tops, b_s)
    return tl.max(b_tops, 1)


@triton.jit
def _weigh(
    scores, tops, totals, spreads, products, piece, first, last, branches,
    M: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Of a piece: the sums that need no features."""
    o_m = tl.arange(0, M)
    m_m = o_m < branches
    b_top = _highest(scores, first, last, branches, M, BLOCK_S)
    b_total = tl.zeros([M, BLOCK_W], tl.float32)
    b_spread = tl.zeros([M, BLOCK_W], tl.float32)
    b_products = tl.zeros([M, M], tl.float32)
    for start in range(first, last, BLOCK_W):
        o_n = start + tl.arange(0, BLOCK_W)
        m_s = m_m[:, None] & (o_n < last)[None, :]
        b_s = tl.load(scores + o_n[None, :] * branches + o_m[:, None], mask=m_s, other=0.0)
        b_gap = tl.where(m_s, b_s - b_top[:, None], 0.0)
        b_w = tl.where(m_s, tl.exp(b_gap), 0.0)  # [M, BLOCK_W]
        b_total += b_w
        b_spread += b_w * b_gap
        b_products = tl.dot(b_w, tl.trans(b_w), b_products, input_precision="tf32x3")
    row = piece * branches + o_m
    tl.store(tops + row, b_top, mask=m_m)
    tl.store(totals + row, tl.sum(b_total, 1), mask=m_m)
    tl.store(spreads + row, tl.sum(b_spread, 1), mask=m_m)
    tl.store(
        products + row[:, None] * branches + o_m[None, :],
        b_products,
        mask=m_m[:, None] & m_m[None, :],
    )


@triton.jit
def _pool(
    scores, features, sums, piece, first, last, block, branches, dim,
    M: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Of a piece and a block of columns: the weighted sum of its features."""
    o_m = tl.arange(0, M)
    o_d = block * BLOCK_D + tl.arange(0, BLOCK_D)
    m_m = o_m < branches
    m_d = o_d < dim
    b_top = tl.where(m_m, _highest(scores, first, last, branches, M, BLOCK_S), 0.0)
    b_sum = tl.zeros([M, BLOCK_D], tl.float32)
    for start in range(first, last, BLOCK_N):
        o_n = start + tl.arange(0, BLOCK_N)
        m_n = o_n < last
        m_x = m_n[:, None] & m_d[None, :]
        m_s = m_m[:, None] & m_n[None, :]
        b_x = tl.load(
            features + o_n[:, None] * dim + o_d[None, :], mask=m_x, other=0.0
        )  # [BLOCK_N, BLOCK_D]
        b_s = tl.load(
            scores + o_n[None, :] * branches + o_m[:, None], mask=m_s, other=float("-inf")
        )
        b_w = tl.exp(b_s - b_top[:, None])  # [M, BLOCK_N]
        b_sum = full_dot(b_w, b_x, b_sum)
    o_row = piece * branches + o_m
    tl.store(sums + o_row[:, None] * dim + o_d[None, :], b_sum, mask=m_m[:, None] & m_d[None, :])


@triton.jit(
    do_not_specialize=["bags", "pieces"], do_not_specialize_on_alignment=["branches"]
)  # as in `variants`
def _pieces_kernel(
    scores, features, offsets, bag_of, firsts, tops, totals, spreads, products, sums, bags, pieces, rows, branches, dim,
    M: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A piece and a block of columns a program; before them, as they mostly wait, one a piece for the other sums."""
    place = tl.program_id(0) - pieces
    blocks = tl.cdiv(dim, BLOCK_D)
    piece = tl.where(place < 0, place + pieces, place // blocks).to(tl.int64)
    if tl.load(bag_of + piece) < bags:
        first, last = piece_of(offsets, bag_of, firsts, piece, rows)
        if place < 0:
            _weigh(
                scores,
                tops,
                totals,
                spreads,
                products,
                piece,
                first,
                last,
                branches,
                M,
                BLOCK_S,
                BLOCK_W,
            )
        else:
            block = place % blocks
            _pool(
                scores,
                features,
                sums,
                piece,
                first,
                last,
                block,
                branches,
                dim,
                M,
                BLOCK_S,
                BLOCK_N,
                BLOCK_D,
            )


@triton.jit
def _merge_weights(
    tops, totals, spreads, products, top, total, spread, product, first, last, row, branches,
    M: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Of a bag and a branch: the sums that need no features, over the bag's pieces."""
    branch = row % branches
    o_m = tl.arange(0, M)
    m_m = o_m < branches
    b_top = _highest(tops, first, last, branches, M, BLOCK_P)
    own = tl.max(tl.where(o_m == branch, b_top, float("-inf")), 0)
    b_total = tl.zeros([BLOCK_P], tl.float32)
    b_spread = tl.zeros([BLOCK_P], tl.float32)
    b_product = tl.zeros([M, BLOCK_P], tl.float32)
    for start in range(first, last, BLOCK_P):
        o_p = start + tl.arange(0, BLOCK_P)
        m_p = o_p < last
        o_row = o_p * branches + branch
        b_gap = tl.where(m_p, tl.load(tops + o_row, mask=m_p, other=0.0) - own, 0.0)  # [BLOCK_P]
        b_fade = tl.exp(b_gap)
        b_faded = b_fade * tl.load(totals + o_row, mask=m_p, other=0.0)
        b_total += b_faded
        b_spread += b_fade * tl.load(spreads + o_row, mask=m_p, other=0.0) + b_faded * b_gap
        m_t = m_m[:, None] & m_p[None, :]
        b_t = tl.load(tops + o_p[None, :] * branches + o_m[:, None], mask=m_t, other=0.0)
        b_fades = b_fade[None, :] * tl.exp(tl.where(m_t, b_t - b_top[:, None], 0.0))
        b_product += b_fades * tl.load(
            products + o_row[None, :] * branches + o_m[:, None], mask=m_t, other=0.0
        )
    tl.store(top + row, own)
    tl.store(total + row, tl.sum(b_total, 0))
    tl.store(spread + row, tl.sum(b_spread, 0))
    tl.store(product + row * branches + o_m, tl.sum(b_product, 1), mask=m_m)


@triton.jit
def _merge_rows(
    tops,
    sums,
    merged,
    first,
    last,
    row,
    block,
    branches,
    dim,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Of a bag, a branch and a block of columns: the weighted sum over the bag's pieces."""
    branch = row % branches
    o_d = block * BLOCK_D + tl.arange(0, BLOCK_D)
    m_d = o_d < dim
    b_tops = tl.full([BLOCK_P], float("-inf"), tl.float32)
    for start in range(first, last, BLOCK_P):
        o_p = start + tl.arange(0, BLOCK_P)
        b_tops = tl.maximum(
            b_tops, tl.load(tops + o_p * branches + branch, mask=o_p < last, other=float("-inf"))
        )
    own = tl.max(b_tops, 0)
    b_sum = tl.zeros([BLOCK_P, BLOCK_D], tl.float32)
    for start in range(first, last, BLOCK_P):
        o_p = start + tl.arange(0, BLOCK_P)
        m_p = o_p < last
        o_row = o_p * branches + branch
        b_fade = tl.exp(tl.load(tops + o_row, mask=m_p, other=float("-inf")) - own)
        mask = m_p[:, None] & m_d[None, :]
        b_sum += b_fade[:, None] * tl.load(
            sums + o_row[:, None] * dim + o_d[None, :], mask=mask, other=0.0
        )
    tl.store(merged + row * dim + o_d, tl.sum(b_sum, 0), mask=m_d)


@triton.jit(do_not_specialize_on_alignment=["branches"])
def _merge_kernel(
    firsts, tops, totals, spreads, products, sums, top, total, spread, product, merged, branches, dim,
    M: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A bag, a branch and a block of columns a program, and one more for the sums that need no features."""
    blocks = tl.cdiv(dim, BLOCK_D)
    row = (tl.program_id(0) // (blocks + 1)).to(tl.int64)
    block = tl.program_id(0) % (blocks + 1)
    first = tl.load(firsts + row // branches)
    last = tl.load(firsts + row // branches + 1)
    if block == blocks:
        _merge_weights(
            tops,
            totals,
            spreads,
            products,
            top,
            total,
            spread,
            product,
            first,
            last,
            row,
            branches,
            M,
            BLOCK_P,
        )
    else:
        _merge_rows(tops, sums, merged, first, last, row, block, branches, dim, BLOCK_P, BLOCK_D)


def config(dtype: torch.dtype, branches: int, dim: int) -> dict[str, dict[str, int]]:
    """Blocks, warps and stages of both kernels; not tuned on a GPU yet.

    M: branches, padded. The first kernel takes BLOCK_S rows of scores for the highest
    and BLOCK_W for their sums, BLOCK_N rows and BLOCK_D columns of features (16 KiB) at
    a time; the second BLOCK_P pieces and BLOCK_D columns. Rows that do not begin at
    multiples of 16 are read number by number: many branches then leave no room for as
    many.
    """
    few = branches <= 16
    rows = (32 if few else 16) if dtype == torch.float32 else 32 if dim % 16 and not few else 64
    pieces = {"M": 16 if few else 64, "BLOCK_S": 128 if few else 64, "BLOCK_W": 32}
    merge = {"M": pieces["M"], "BLOCK_P": 128 if few else 32, "BLOCK_D": 32}
    return {
        "pieces": pieces
        | {"BLOCK_N": rows, "BLOCK_D": 128, "num_warps": 4 if few else 8, "num_stages": 3},
        "merge": merge | {"num_warps": 8, "num_stages": 2},
    }


def piece_rows(tiles: int, columns: int) -> int:
    """Rows of a piece, a power of 2: few enough that all of a GPU has work, and the sums are small beside the tiles.

    Args:
        tiles: of all bags.
        columns: blocks of columns.
    """
    most = max(MOST_PROGRAMS // columns, MOST_PIECES)
    return max(LEAST_ROWS, triton.next_power_of_2(triton.cdiv(tiles, most)))


def attn_pool_forward(scores: Tensor, features: Tensor, offsets: Tensor) -> Sums:
    """Sums over each bag's tiles.

    Args:
        scores: [tiles, branches], float32, contiguous; at most 64 branches.
        features: [tiles, dim], contiguous.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; it may be empty.
    """
    (tiles, dim), branches, bags = features.shape, scores.shape[1], len(offsets) - 1
    blocks = config(features.dtype, branches, dim)
    columns = triton.cdiv(dim, blocks["pieces"]["BLOCK_D"])
    pieces = cut(offsets, tiles, piece_rows(tiles, columns))
    parts, sums = (_unfilled(n, branches, dim, features.device) for n in (len(pieces.bag_of), bags))
    _pieces_kernel[(len(pieces.bag_of) * (columns + 1),)](
        scores,
        features,
        offsets,
        pieces.bag_of,
        pieces.firsts,
        parts.top,
        parts.total,
        parts.spread,
        parts.products,
        parts.rows,
        bags,
        len(pieces.bag_of),
        pieces.rows,
        branches,
        dim,
        **blocks["pieces"],
    )
    _merge_kernel[(bags * branches * (triton.cdiv(dim, blocks["merge"]["BLOCK_D"]) + 1),)](
        pieces.firsts,
        parts.top,
        parts.total,
        parts.spread,
        parts.products,
        parts.rows,
        sums.top,
        sums.total,
        sums.spread,
        sums.products,
        sums.rows,
        branches,
        dim,
        **blocks["merge"],
    )
    return sums


def _unfilled(count: int, branches: int, dim: int, device: torch.device) -> Sums:
    shapes = ((dim,), (), (), (), (branches,))
    return Sums(*(torch.empty(count, branches, *more, device=device) for more in shapes))


def variants() -> Iterator[Variant]:
    """What the launcher launches."""
    sums = (
        "tops",
        "totals",
        "spreads",
        "products",
        "sums",
        "top",
        "total",
        "spread",
        "product",
        "merged",
        "scores",
    )
    types = dict.fromkeys(sums, "*fp32") | dict.fromkeys(("offsets", "bag_of", "firsts"), "*i64")
    types |= {"bags": "i32", "pieces": "i32", "rows": "i32:16", "branches": "i32"}
    for branches, dim in product((1, 16, 64), (16, 1)):
        known = {"branches": 1} if branches == 1 else {}
        label, of = ("", {"dim": "i32:16"}) if dim == 16 else (", any dim", {"dim": "i32"})
        for name, dtype in {
            "fp32": torch.float32,
            "bf16": torch.bfloat16,
            "fp16": torch.float16,
        }.items():
            given, of["features"] = known | config(dtype, branches, dim)["pieces"], f"*{name}"
            if dim == 16 or dtype != torch.float16:  # compiled as bfloat16 is
                yield Variant.of(
                    f"{name} branches {branches}{label}", _pieces_kernel, types | of, given
                )
        given = known | config(torch.float32, branches, dim)["merge"]
        yield Variant.of(f"branches {branches}{label}", _merge_kernel, types | of, given)
