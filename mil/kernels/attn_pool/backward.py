"""The gradient of attention pooling in Triton: one pass over the features for that of scores and features."""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.attn_pool.sums import Gradients
from mil.kernels.common import halves, piece_of
from mil.kernels.pieces import cut
from mil.kernels.variants import Variant


@triton.jit
def _felt(
    features,
    d_rows,
    o_n,
    m_n,
    row,
    m_m,
    dim,
    M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """What each tile says to the gradient of each pooled row [BLOCK_N, M]."""
    b_felt = tl.zeros([BLOCK_N, M], tl.float32)
    for start in range(0, dim, BLOCK_D):
        o_d = start + tl.arange(0, BLOCK_D)
        m_d = o_d < dim
        b_x = tl.load(
            features + o_n[:, None] * dim + o_d[None, :],
            mask=m_n[:, None] & m_d[None, :],
            other=0.0,
        )
        b_p = tl.load(
            d_rows + row[:, None] * dim + o_d[None, :], mask=m_m[:, None] & m_d[None, :], other=0.0
        )
        if b_x.dtype == tl.float32:
            b_felt = tl.dot(b_x, tl.trans(b_p), b_felt, input_precision="ieee")
        else:
            high, low = halves(b_p, b_x.dtype)
            b_felt = tl.dot(b_x, tl.trans(high), b_felt)
            b_felt = tl.dot(b_x, tl.trans(low), b_felt)
    return b_felt


@triton.jit
def _hand_on(b_w, d_rows, d_features, o_n, m_n, row, m_m, dim, BLOCK_D: tl.constexpr):
    """Write the gradient of the features: that of the pooled rows, weighted by [BLOCK_N, M]."""
    b_peak = tl.maximum(tl.max(b_w, 1), 1e-30)[:, None]  # half precision has few small numbers
    b_w = (b_w / b_peak).to(d_features.dtype.element_ty)  # rounded as what is written
    for start in range(0, dim, BLOCK_D):
        o_d = start + tl.arange(0, BLOCK_D)
        m_d = o_d < dim
        b_p = tl.load(
            d_rows + row[:, None] * dim + o_d[None, :], mask=m_m[:, None] & m_d[None, :], other=0.0
        )
        b_grad = tl.dot(b_w, b_p.to(b_w.dtype), input_precision="ieee") * b_peak
        m_x = m_n[:, None] & m_d[None, :]
        tl.store(
            d_features + o_n[:, None] * dim + o_d[None, :],
            b_grad.to(d_features.dtype.element_ty),
            mask=m_x,
        )


@triton.jit(
    do_not_specialize=["bags"], do_not_specialize_on_alignment=["branches"]
)  # as `variants` has them
def _backward_kernel(
    scores, features, offsets, bag_of, firsts, top, log_total, d_rows, sizes, shift, d_entropy, pull, d_scores,
    d_features, bags, branches, dim,
    M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Some rows of a bag."""
    piece = tl.program_id(0).to(tl.int64)
    bag = tl.load(bag_of + piece)
    if bag < bags:
        first, last = piece_of(offsets, bag_of, firsts, piece, BLOCK_N)
        o_n = first + tl.arange(0, BLOCK_N)
        o_m = tl.arange(0, M)
        m_n = o_n < last
        m_m = o_m < branches
        m_s = m_n[:, None] & m_m[None, :]
        row = bag * branches + o_m
        b_size = tl.load(sizes + row, mask=m_m, other=0.0)[None, :]

        b_felt = _felt(features, d_rows, o_n, m_n, row, m_m, dim, M, BLOCK_N, BLOCK_D) * b_size
        b_felt -= tl.load(shift + row, mask=m_m, other=0.0)[None, :]
        b_s = tl.load(scores + o_n[:, None] * branches + o_m[None, :], mask=m_s, other=0.0)
        b_s = (
            b_s - tl.load(top + row, mask=m_m, other=0.0)[None, :]
        )  # apart from the total: see `Sums`
        b_log = tl.where(m_s, b_s - tl.load(log_total + row, mask=m_m, other=0.0)[None, :], 0.0)
        b_a = tl.where(m_s, tl.exp(b_log), 0.0)  # [BLOCK_N, M]
        b_pull = tl.load(
            pull + row[:, None] * branches + o_m[None, :],
            mask=m_m[:, None] & m_m[None, :],
            other=0.0,
        )
        b_felt = tl.dot(b_a, b_pull, b_felt, input_precision="tf32x3")
        b_felt -= tl.load(d_entropy + row, mask=m_m, other=0.0)[None, :] * b_log
        tl.store(d_scores + o_n[:, None] * branches + o_m[None, :], b_a * b_felt, mask=m_s)
        if d_features is not None:
            _hand_on(b_a * b_size, d_rows, d_features, o_n, m_n, row, m_m, dim, BLOCK_D)


def config(dtype: torch.dtype, branches: int, dim: int) -> dict[str, int]:
    """Branches, padded (M), rows and columns of features at a time, warps and stages; not tuned on a GPU yet.

    Rows that do not begin at multiples of 16 are read number by number: half as many at
    a time, or there are spills.
    """
    few = branches <= 16
    if dtype == torch.float32:
        rows, columns, warps = (64, 32, 4) if few else (32, 32, 8)
    else:
        rows, columns, warps = (128, 64, 8) if few else (32, 64, 8)
    rows = rows // 2 if dim % 16 else rows
    return {
        "M": 16 if few else 64,
        "BLOCK_N": rows,
        "BLOCK_D": columns,
        "num_warps": warps,
        "num_stages": 3,
    }


def attn_pool_backward(
    scores: Tensor, features: Tensor, offsets: Tensor, of: Gradients, d_features: Tensor | None
) -> Tensor:
    """Gradient of the scores, float32; that of the features is written into `d_features`, unless it is None.

    Args:
        scores: [tiles, branches], float32, contiguous; at most 64 branches.
        features: [tiles, dim], contiguous, as `d_features`.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; it may be empty.
        of: the bags.
        d_features: of the features' type.
    """
    (tiles, dim), branches, bags = features.shape, scores.shape[1], len(offsets) - 1
    blocks = config(features.dtype, branches, dim)
    pieces = cut(offsets, tiles, blocks["BLOCK_N"])
    sizes = (
        of.d_pooled.abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny)
    )  # half precision has no tiny numbers
    d_entropy = of.top.new_zeros(bags, branches) if of.d_entropy is None else of.d_entropy
    pull = of.top.new_zeros(bags, branches, branches) if of.pull is None else of.pull
    of_bags = (
        of.top,
        of.log_total,
        of.d_pooled / sizes[..., None],
        sizes,
        of.shift,
        d_entropy,
        pull,
    )
    d_scores = torch.empty_like(scores)
    _backward_kernel[(len(pieces.bag_of),)](
        scores,
        features,
        offsets,
        pieces.bag_of,
        pieces.firsts,
        *(tensor.contiguous() for tensor in of_bags),
        d_scores,
        d_features,
        bags,
        branches,
        dim,
        **blocks,
    )
    return d_scores


def variants() -> Iterator[Variant]:
    """What the launcher launches."""
    of_bags = ("top", "log_total", "d_rows", "sizes", "shift", "d_entropy", "pull")
    types = dict.fromkeys((*of_bags, "scores", "d_scores"), "*fp32")
    types |= dict.fromkeys(("offsets", "bag_of", "firsts"), "*i64")
    types |= {"bags": "i32", "branches": "i32"}
    for branches in (1, 16, 64):
        known = {"branches": 1} if branches == 1 else {}
        for name, dtype in {
            "fp32": torch.float32,
            "bf16": torch.bfloat16,
            "fp16": torch.float16,
        }.items():
            of = types | dict.fromkeys(("features", "d_features"), f"*{name}")
            label = f"{name} branches {branches}"
            whole = known | config(dtype, branches, 16)
            yield Variant.of(label, _backward_kernel, of | {"dim": "i32:16"}, whole)
            yield Variant.of(
                f"{label}, of scores alone",
                _backward_kernel,
                of | {"dim": "i32:16"},
                {"d_features": None} | whole,
            )
            if dtype != torch.float16:  # compiled as bfloat16 is
                given = known | config(dtype, branches, 1)
                yield Variant.of(f"{label}, any dim", _backward_kernel, of | {"dim": "i32"}, given)
