"""Attention pooling in Triton: one pass over a bag forward, no attention map in memory in either direction."""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.variants import Variant

# A float32 tile of 16 KiB. Not tuned on a GPU yet.
BLOCK_N = 64
BLOCK_D = 64


@triton.jit
def _forward_kernel(
    scores, features, offsets, pooled, tops, log_totals, dim, branches, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):
    # int64 before any product: tiles * dim passes 2**31 at 2 M tiles of 1024
    bag = tl.program_id(0).to(tl.int64)
    branch = tl.program_id(1)
    o_d = tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    m_d = o_d < dim
    first = tl.load(offsets + bag)
    last = tl.load(offsets + bag + 1)

    top = float("-inf")
    total = 0.0
    b_sum = tl.zeros([BLOCK_D], tl.float32)
    for start in range(first, last, BLOCK_N):
        o_n = start + tl.arange(0, BLOCK_N).to(tl.int64)
        m_n = o_n < last
        b_s = tl.load(scores + o_n * branches + branch, mask=m_n, other=float("-inf")).to(tl.float32)  # [BLOCK_N]
        b_x = tl.load(  # [BLOCK_N, BLOCK_D]
            features + o_n[:, None] * dim + o_d[None, :], mask=m_n[:, None] & m_d[None, :], other=0.0
        ).to(tl.float32)
        new_top = tl.maximum(top, tl.max(b_s, 0))
        fade = tl.exp(top - new_top)
        b_w = tl.exp(b_s - new_top)
        total = total * fade + tl.sum(b_w, 0)
        b_sum = b_sum * fade + tl.sum(b_w[:, None] * b_x, 0)
        top = new_top

    row = bag * branches + branch
    tl.store(pooled + row * dim + o_d, (b_sum / total).to(pooled.dtype.element_ty), mask=m_d)
    if tl.program_id(2) == 0:
        # Kept apart: beside a top of -1e9 (a bag whose tiles are all masked) float32 has no room for the logarithm.
        tl.store(tops + row, top)
        tl.store(log_totals + row, tl.log(total))


@triton.jit
def _scores_grad_kernel(
    scores, features, bag_of, tops, log_totals, d_pooled, delta, d_scores, tiles, dim, branches,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    o_n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    m_n = o_n < tiles
    branch = tl.program_id(1)
    row = tl.load(bag_of + o_n, mask=m_n, other=0) * branches + branch  # [BLOCK_N]
    b_dot = tl.zeros([BLOCK_N], tl.float32)
    for start in range(0, dim, BLOCK_D):
        o_d = start + tl.arange(0, BLOCK_D)
        both = m_n[:, None] & (o_d < dim)[None, :]
        b_x = tl.load(features + o_n[:, None] * dim + o_d[None, :], mask=both, other=0.0).to(tl.float32)
        b_g = tl.load(d_pooled + row[:, None] * dim + o_d[None, :], mask=both, other=0.0).to(tl.float32)
        b_dot += tl.sum(b_x * b_g, 1)
    b_s = tl.load(scores + o_n * branches + branch, mask=m_n, other=float("-inf")).to(tl.float32)
    b_s -= tl.load(tops + row, mask=m_n, other=0.0)
    b_a = tl.exp(b_s - tl.load(log_totals + row, mask=m_n, other=0.0))
    b_grad = b_a * (b_dot - tl.load(delta + row, mask=m_n, other=0.0))
    tl.store(d_scores + o_n * branches + branch, b_grad.to(d_scores.dtype.element_ty), mask=m_n)


@triton.jit
def _features_grad_kernel(
    scores,
    bag_of,
    tops,
    log_totals,
    d_pooled,
    d_features,
    tiles,
    dim,
    branches,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    o_n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    o_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    m_n = o_n < tiles
    both = m_n[:, None] & (o_d < dim)[None, :]
    bag = tl.load(bag_of + o_n, mask=m_n, other=0)
    b_grad = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for branch in range(branches):
        row = bag * branches + branch
        b_s = tl.load(scores + o_n * branches + branch, mask=m_n, other=float("-inf")).to(tl.float32)
        b_s -= tl.load(tops + row, mask=m_n, other=0.0)
        b_a = tl.exp(b_s - tl.load(log_totals + row, mask=m_n, other=0.0))
        b_g = tl.load(d_pooled + row[:, None] * dim + o_d[None, :], mask=both, other=0.0).to(tl.float32)
        b_grad += b_a[:, None] * b_g
    tl.store(d_features + o_n[:, None] * dim + o_d[None, :], b_grad.to(d_features.dtype.element_ty), mask=both)


def attn_pool_forward(scores: Tensor, features: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled rows [bags, branches, dim]; the log-sum-exp of the scores as largest score and the rest, float32."""
    bags, branches, dim = len(offsets) - 1, scores.shape[1], features.shape[1]
    pooled = torch.empty(bags, branches, dim, dtype=features.dtype, device=features.device)
    tops, log_totals = (torch.empty(bags, branches, dtype=torch.float32, device=features.device) for _ in range(2))
    _forward_kernel[bags, branches, triton.cdiv(dim, BLOCK_D)](
        scores, features, offsets, pooled, tops, log_totals, dim, branches, BLOCK_N=BLOCK_N, BLOCK_D=BLOCK_D
    )
    return pooled, tops, log_totals


def attn_pool_backward(
    scores: Tensor,
    features: Tensor,
    offsets: Tensor,
    pooled: Tensor,
    tops: Tensor,
    log_totals: Tensor,
    d_pooled: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of the scores and of the features; the attention is computed again from the log-sum-exp."""
    tiles, dim = features.shape
    branches = scores.shape[1]
    bag_of = torch.repeat_interleave(
        torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff(), output_size=tiles
    )
    delta = (d_pooled.float() * pooled.float()).sum(-1)
    d_scores, d_features = torch.empty_like(scores), torch.empty_like(features)
    rows = triton.cdiv(tiles, BLOCK_N)
    _scores_grad_kernel[rows, branches](
        scores,
        features,
        bag_of,
        tops,
        log_totals,
        d_pooled,
        delta,
        d_scores,
        tiles,
        dim,
        branches,
        BLOCK_N=BLOCK_N,
        BLOCK_D=BLOCK_D,
    )
    _features_grad_kernel[rows, triton.cdiv(dim, BLOCK_D)](
        scores, bag_of, tops, log_totals, d_pooled, d_features, tiles, dim, branches, BLOCK_N=BLOCK_N, BLOCK_D=BLOCK_D
    )
    return d_scores, d_features


class AttnPool(torch.autograd.Function):
    """Attention pooling with its gradient; see `mil.kernels.attn_pool.attn_pool`."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, features: Tensor, offsets: Tensor) -> Tensor:
        """Pool, and keep what the gradient needs."""
        scores, features = scores.contiguous(), features.contiguous()
        saved = attn_pool_forward(scores, features, offsets)
        ctx.save_for_backward(scores, features, offsets, *saved)
        return saved[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of scores and features."""
        return *attn_pool_backward(*ctx.saved_tensors, grads[0].contiguous()), None


def variants() -> Iterator[Variant]:
    """What the launchers launch."""
    numbers = dict.fromkeys(("tops", "log_totals", "delta"), "*fp32") | dict.fromkeys(("offsets", "bag_of"), "*i64")
    whole = {"tiles": "i32", "dim": "i32:16", "branches": "i32"}
    blocks = {"BLOCK_N": BLOCK_N, "BLOCK_D": BLOCK_D}
    for type_ in ("fp32", "bf16", "fp16"):
        of_type = dict.fromkeys(("features", "pooled", "d_pooled", "d_features", "scores", "d_scores"), f"*{type_}")
        for kernel in (_forward_kernel, _scores_grad_kernel, _features_grad_kernel):
            known = numbers | whole | of_type
            signature = {name: known[name] for name in kernel.arg_names if name not in blocks}
            yield Variant(type_, kernel, signature, blocks, 4, 3)
