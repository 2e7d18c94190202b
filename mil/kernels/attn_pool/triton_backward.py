"""Gradient of attention pooling in Triton: ds and dx in one pass over the features."""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.attn_pool.sums import BagGradients
from mil.kernels.attn_pool.triton_forward import FEW_BRANCHES
from mil.kernels.compile import Variant
from mil.kernels.segments import split_bags
from mil.kernels.triton_helpers import segment_rows, split_float32
from mil.kernels.tuning import tuned


@triton.jit
def _dp(
    features, do, o_n, m_n, row, m_k, dim,
    BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """``dp = x doᵀ``, [BLOCK_N, BLOCK_K]."""
    b_dp = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
    for start in range(0, dim, BLOCK_D):
        o_d = start + tl.arange(0, BLOCK_D)
        m_d = o_d < dim
        m_x = m_n[:, None] & m_d[None, :]
        p_x = features + o_n[:, None] * dim + o_d[None, :]
        b_x = tl.load(p_x, mask=m_x, other=0.0)
        m_do = m_k[:, None] & m_d[None, :]
        p_do = do + row[:, None] * dim + o_d[None, :]
        b_do = tl.load(p_do, mask=m_do, other=0.0)
        if b_x.dtype == tl.float32:
            b_dp = tl.dot(b_x, tl.trans(b_do), b_dp, input_precision="ieee")
        else:
            high, low = split_float32(b_do, b_x.dtype)
            b_dp = tl.dot(b_x, tl.trans(high), b_dp)
            b_dp = tl.dot(b_x, tl.trans(low), b_dp)
    return b_dp


@triton.jit
def _store_dx(b_p, do, d_features, o_n, m_n, row, m_k, dim, BLOCK_D: tl.constexpr):
    """``dx = p do``, from p [BLOCK_N, BLOCK_K]."""
    # Half precision has few small numbers: each tile's p is divided by its largest for
    # the product, in the type that is written.
    b_scale = tl.maximum(tl.max(b_p, 1), 1e-30)[:, None]
    b_p = (b_p / b_scale).to(d_features.dtype.element_ty)
    for start in range(0, dim, BLOCK_D):
        o_d = start + tl.arange(0, BLOCK_D)
        m_d = o_d < dim
        m_do = m_k[:, None] & m_d[None, :]
        p_do = do + row[:, None] * dim + o_d[None, :]
        b_do = tl.load(p_do, mask=m_do, other=0.0)
        b_dx = tl.dot(b_p, b_do.to(b_p.dtype), input_precision="ieee") * b_scale
        p_dx = d_features + o_n[:, None] * dim + o_d[None, :]
        m_x = m_n[:, None] & m_d[None, :]
        tl.store(p_dx, b_dx.to(d_features.dtype.element_ty), mask=m_x)


@triton.jit(do_not_specialize=["bags"], do_not_specialize_on_alignment=["branches"])
def _backward_kernel(
    scores,
    features,
    offsets,
    bag_of,
    firsts,
    bag_m,
    log_l,
    do,
    do_scale,
    delta,
    d_entropy,
    d_gram_sym,
    d_scores,
    d_features,
    bags,
    branches,
    dim,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """``ds = p (dp + dS p - dH log p - delta)`` and ``dx = p do`` of some rows of a bag.

    dS is `d_gram_sym`, dH `d_entropy`; see `mil.kernels.attn_pool.sums`. `do` comes
    divided by `do_scale`.
    """
    segment = tl.program_id(0).to(tl.int64)
    bag = tl.load(bag_of + segment)
    if bag < bags:
        first, last = segment_rows(offsets, bag_of, firsts, segment, BLOCK_N)
        o_n = first + tl.arange(0, BLOCK_N)
        o_k = tl.arange(0, BLOCK_K)
        m_n = o_n < last
        m_k = o_k < branches
        m_s = m_n[:, None] & m_k[None, :]
        row = bag * branches + o_k
        b_scale = tl.load(do_scale + row, mask=m_k, other=0.0)[None, :]

        b_dp = _dp(features, do, o_n, m_n, row, m_k, dim, BLOCK_K, BLOCK_N, BLOCK_D) * b_scale
        b_dp -= tl.load(delta + row, mask=m_k, other=0.0)[None, :]
        # m and log l one after the other: their sum has no room for log l (see
        # `SoftmaxSums`).
        p_s = scores + o_n[:, None] * branches + o_k[None, :]
        b_s = tl.load(p_s, mask=m_s, other=0.0)
        b_z = b_s - tl.load(bag_m + row, mask=m_k, other=0.0)[None, :]
        b_log_p = tl.where(m_s, b_z - tl.load(log_l + row, mask=m_k, other=0.0)[None, :], 0.0)
        b_p = tl.where(m_s, tl.exp(b_log_p), 0.0)  # [BLOCK_N, BLOCK_K]
        p_gram = d_gram_sym + row[:, None] * branches + o_k[None, :]
        b_gram = tl.load(p_gram, mask=m_k[:, None] & m_k[None, :], other=0.0)
        b_dp = tl.dot(b_p, b_gram, b_dp, input_precision="tf32x3")
        b_dp -= tl.load(d_entropy + row, mask=m_k, other=0.0)[None, :] * b_log_p
        p_ds = d_scores + o_n[:, None] * branches + o_k[None, :]
        tl.store(p_ds, b_p * b_dp, mask=m_s)
        if d_features is not None:
            _store_dx(b_p * b_scale, do, d_features, o_n, m_n, row, m_k, dim, BLOCK_D)


def config(dtype: torch.dtype, branches: int, dim: int) -> dict[str, int]:
    """Block sizes, warps and stages; BLOCK_K is the branches, padded. Not tuned on a GPU yet."""
    few = branches <= FEW_BRANCHES
    if dtype == torch.float32:
        rows, columns, warps = (64, 32, 4) if few else (32, 32, 8)
    else:
        rows, columns, warps = (128, 64, 8) if few else (32, 64, 8)
    # Rows that do not begin at multiples of 16 are read number by number: half as many
    # at a time, or registers spill.
    rows = rows // 2 if dim % 16 else rows
    return {
        "BLOCK_K": 16 if few else 64,
        "BLOCK_N": rows,
        "BLOCK_D": columns,
        "num_warps": warps,
        "num_stages": 3,
    }


def attn_pool_backward(
    scores: Tensor,
    features: Tensor,
    offsets: Tensor,
    shared: BagGradients,
    d_features: Tensor | None,
) -> Tensor:
    """Gradient of the scores, float32; that of the features is written into `d_features`.

    Args:
        scores: [tiles, branches], float32, contiguous; at most 64 branches.
        features: [tiles, dim], contiguous, as `d_features`.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; it may be empty.
        shared: gradients that a bag's tiles share.
        d_features: memory of the shape and type of the features; None: not needed.
    """
    tiles, dim = features.shape
    branches = scores.shape[1]
    bags = len(offsets) - 1
    blocks = config(features.dtype, branches, dim)
    if branches <= FEW_BRANCHES:
        blocks |= tuned("attn_pool.backward", features.dtype, dim, features.device)
    segments = split_bags(offsets, tiles, blocks["BLOCK_N"])
    # Half precision has no tiny numbers: do is multiplied as numbers of at most 1.
    do_scale = shared.do.abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny)
    d_entropy = shared.d_entropy
    if d_entropy is None:
        d_entropy = shared.m.new_zeros(bags, branches)
    d_gram_sym = shared.d_gram_sym
    if d_gram_sym is None:
        d_gram_sym = shared.m.new_zeros(bags, branches, branches)
    d_scores = torch.empty_like(scores)
    _backward_kernel[(len(segments.bag_of),)](
        scores,
        features,
        offsets,
        segments.bag_of,
        segments.firsts,
        shared.m.contiguous(),
        shared.log_l.contiguous(),
        (shared.do / do_scale[..., None]).contiguous(),
        do_scale.contiguous(),
        shared.delta.contiguous(),
        d_entropy.contiguous(),
        d_gram_sym.contiguous(),
        d_scores,
        d_features,
        bags,
        branches,
        dim,
        **blocks,
    )
    return d_scores


def variants() -> Iterator[Variant]:
    """Compilations that the launch can ask for."""
    of_bags = ("bag_m", "log_l", "do", "do_scale", "delta", "d_entropy", "d_gram_sym")
    types = dict.fromkeys((*of_bags, "scores", "d_scores"), "*fp32")
    types |= dict.fromkeys(("offsets", "bag_of", "firsts"), "*i64")
    types |= {"bags": "i32", "branches": "i32"}
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    for branches in (1, 16, 64):
        # Triton makes an integer argument of 1 a constant.
        known = {"branches": 1} if branches == 1 else {}
        for name, dtype in dtypes.items():
            label = f"{name} branches {branches}"
            types |= dict.fromkeys(("features", "d_features"), f"*{name}")
            divisible = types | {"dim": "i32:16"}
            blocks = known | config(dtype, branches, 16)
            yield Variant.of(label, _backward_kernel, divisible, blocks)
            scores_alone = {"d_features": None} | blocks
            yield Variant.of(f"{label}, of scores alone", _backward_kernel, divisible, scores_alone)
            if dtype != torch.float16:  # compiled as bfloat16 is
                blocks = known | config(dtype, branches, 1)
                any_dim = types | {"dim": "i32"}
                yield Variant.of(f"{label}, any dim", _backward_kernel, any_dim, blocks)
