"""Gated scores in Triton: neither gate is ever in memory forward; backward, their gradient is, for a chunk of rows."""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.common import full_dot
from mil.kernels.gated_scores.common import (
    BRANCHES,
    GateSums,
    add_product,
    chunks,
    even_rows,
    joined,
)
from mil.kernels.gated_scores.reference import GateWeights
from mil.kernels.variants import Variant

CHUNK_BYTES = (
    8 << 20
)  # of the gates' gradient: stays in the chip's cache until the products have read it
UNSPECIAL = ("tiles", "attention", "branches")  # one compilation for all values


@triton.jit
def _tanh(b_x):
    return 2 * tl.sigmoid(2 * b_x) - 1


@triton.jit
def _gates(
    hidden, gates, biases, o_n, m_n, o_a, m_a, width, attention,
    GATED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    b_v = tl.zeros([BLOCK_N, BLOCK_A], tl.float32)
    b_u = tl.zeros([BLOCK_N, BLOCK_A], tl.float32)
    for start in range(0, width, BLOCK_H):
        o_h = start + tl.arange(0, BLOCK_H)
        m_h = o_h < width
        b_h = tl.load(
            hidden + o_n[:, None] * width + o_h[None, :],
            mask=m_n[:, None] & m_h[None, :],
            other=0.0,
        )
        m_w = m_h[:, None] & m_a[None, :]
        b_w = tl.load(
            gates + o_a[None, :] * width + o_h[:, None], mask=m_w, other=0.0
        )  # [BLOCK_H, BLOCK_A]
        b_v = tl.dot(b_h, b_w, b_v, input_precision="ieee")
        if GATED:
            b_w = tl.load(
                gates + (attention + o_a)[None, :] * width + o_h[:, None], mask=m_w, other=0.0
            )
            b_u = tl.dot(b_h, b_w, b_u, input_precision="ieee")
    b_v = _tanh(b_v + tl.load(biases + o_a, mask=m_a, other=0.0)[None, :])
    if GATED:
        b_u = tl.sigmoid(b_u + tl.load(biases + attention + o_a, mask=m_a, other=0.0)[None, :])
    return b_v, b_u


@triton.jit(do_not_specialize=UNSPECIAL)
def _forward_kernel(
    hidden, gates, biases, score, score_bias, scores, tiles, width, attention, branches,
    GATED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    # int64 before any product: tiles * width passes 2**31 at 2 M tiles of 1024; within
    # a block int32 will do
    first = tl.program_id(0).to(tl.int64) * BLOCK_N
    o_n = tl.arange(0, BLOCK_N)
    m_n = o_n < tiles - first
    hidden += first * width
    scores += first * branches
    o_m = tl.arange(0, BLOCK_M)
    m_m = o_m < branches
    b_s = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    for start in range(0, attention, BLOCK_A):
        o_a = start + tl.arange(0, BLOCK_A)
        m_a = o_a < attention
        b_v, b_u = _gates(
            hidden,
            gates,
            biases,
            o_n,
            m_n,
            o_a,
            m_a,
            width,
            attention,
            GATED,
            BLOCK_N,
            BLOCK_A,
            BLOCK_H,
        )
        if GATED:
            b_v *= b_u
        b_w = tl.load(  # [BLOCK_A, BLOCK_M]
            score + o_m[None, :] * attention + o_a[:, None],
            mask=m_a[:, None] & m_m[None, :],
            other=0.0,
        )
        b_s = tl.dot(b_v.to(b_w.dtype), b_w, b_s, input_precision="ieee")
    b_s += tl.load(score_bias + o_m, mask=m_m, other=0.0)[None, :]
    tl.store(scores + o_n[:, None] * branches + o_m[None, :], b_s, mask=m_n[:, None] & m_m[None, :])


@triton.jit(do_not_specialize=UNSPECIAL)
def _backward_kernel(
    hidden, gates, biases, score, d_scores, d_gates, parts, tiles, width, attention, branches,
    GATED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    o_n = tl.arange(0, BLOCK_N)
    m_n = o_n < tiles - block * BLOCK_N
    stride = 2 * attention if GATED else attention
    hidden += block * BLOCK_N * width
    d_scores += block * BLOCK_N * branches
    d_gates += block * BLOCK_N * stride
    parts += block * (branches * attention + stride + branches)
    o_a = tl.program_id(1) * BLOCK_A + tl.arange(0, BLOCK_A)
    m_a = o_a < attention
    o_m = tl.arange(0, BLOCK_M)
    m_m = o_m < branches
    b_v, b_u = _gates(
        hidden,
        gates,
        biases,
        o_n,
        m_n,
        o_a,
        m_a,
        width,
        attention,
        GATED,
        BLOCK_N,
        BLOCK_A,
        BLOCK_H,
    )
    b_ds = tl.load(  # [BLOCK_N, BLOCK_M]
        d_scores + o_n[:, None] * branches + o_m[None, :],
        mask=m_n[:, None] & m_m[None, :],
        other=0.0,
    )
    b_w = tl.load(  # [BLOCK_M, BLOCK_A]
        score + o_m[:, None] * attention + o_a[None, :], mask=m_m[:, None] & m_a[None, :], other=0.0
    )
    b_d = full_dot(
        b_ds, b_w, tl.zeros([BLOCK_N, BLOCK_A], tl.float32)
    )  # gradient of what is scored

    # Sums over the rows of the block: gradients of score [branches, attention], of the
    # gates' biases and of its own
    tl.store(
        parts + branches * attention + stride + o_m,
        tl.sum(b_ds, 0),
        mask=m_m & (tl.program_id(1) == 0),
    )
    b_x = b_v * b_u if GATED else b_v
    b_score = full_dot(tl.trans(b_ds), b_x.to(b_w.dtype), tl.zeros([BLOCK_M, BLOCK_A], tl.float32))
    tl.store(
        parts + o_m[:, None] * attention + o_a[None, :], b_score, mask=m_m[:, None] & m_a[None, :]
    )
    if GATED:
        b_du = b_d * b_x * (1 - b_u)
        b_d *= b_u
        m_u = m_n[:, None] & m_a[None, :]
        tl.store(d_gates + o_n[:, None] * stride + (attention + o_a)[None, :], b_du, mask=m_u)
        tl.store(parts + (branches + 1) * attention + o_a, tl.sum(b_du, 0), mask=m_a)
    b_d *= 1 - b_v * b_v
    tl.store(d_gates + o_n[:, None] * stride + o_a[None, :], b_d, mask=m_n[:, None] & m_a[None, :])
    tl.store(parts + branches * attention + o_a, tl.sum(b_d, 0), mask=m_a)


def config(dtype: torch.dtype, width: int, backward: bool) -> dict[str, int]:
    """Rows, columns of gates and of hidden rows, branches of a block; warps and stages. Not tuned on a GPU yet.

    Half precision goes through the matrix units. Float32 does not, and hidden rows that
    do not begin at multiples of 16 are read number by number; both need more registers.
    """
    if dtype == torch.float32:
        blocks = {"BLOCK_N": 32, "BLOCK_A": 32, "BLOCK_H": 16, "num_warps": 4, "num_stages": 2}
    elif width % 16:
        blocks = {"BLOCK_N": 64, "BLOCK_A": 64, "BLOCK_H": 32, "num_warps": 8, "num_stages": 2}
    else:
        blocks = {
            "BLOCK_N": 64 if backward else 128,
            "BLOCK_A": 64,
            "BLOCK_H": 64,
            "num_warps": 8,
            "num_stages": 3,
        }
    return blocks | {"BLOCK_M": BRANCHES}


class Gates(NamedTuple):
    """Weights as the kernels read them: what is multiplied in the hidden rows' type, what is added in float32."""

    weights: Tensor  # [gates, hidden], both gates one below the other
    biases: Tensor  # [gates]
    score: Tensor  # [branches, attention]
    score_bias: Tensor

    @classmethod
    def of(cls, weights: GateWeights, dtype: torch.dtype) -> "Gates":
        """Cast and laid out once for all rows."""
        gates = joined(weights.value, weights.gate)
        biases = joined(weights.value_bias, weights.gate_bias)
        score = weights.score.to(dtype).contiguous()
        return cls(gates.to(dtype).contiguous(), biases.float(), score, weights.score_bias.float())

    @property
    def gated(self) -> bool:
        """Whether there is a second gate."""
        return len(self.weights) > self.score.shape[1]


def gated_scores_forward(hidden: Tensor, gates: Gates, scores: Tensor) -> None:
    """Scores of hidden rows, into `scores` [tiles, branches], float32."""
    (tiles, width), (branches, attention) = hidden.shape, gates.score.shape
    blocks = config(hidden.dtype, width, backward=False)
    _forward_kernel[(triton.cdiv(tiles, blocks["BLOCK_N"]),)](
        hidden,
        gates.weights,
        gates.biases,
        gates.score,
        gates.score_bias,
        scores,
        tiles,
        width,
        attention,
        branches,
        GATED=gates.gated,
        **blocks,
    )


def gated_scores_backward(
    hidden: Tensor,
    gates: Gates,
    d_scores: Tensor,
    d_hidden: Tensor | None,
    sums: GateSums,
    add: bool,
) -> None:
    """Gradients of hidden rows and of the parameters from that of the scores.

    Args:
        hidden: [tiles, hidden].
        gates: that scored them.
        d_scores: [tiles, branches], float32.
        d_hidden: [tiles, hidden], for the hidden rows' if it is wanted.
        sums: to add the parameters' to.
        add: to what `d_hidden` holds, instead of writing over it.
    """
    width, (branches, attention) = hidden.shape[1], gates.score.shape
    blocks = config(hidden.dtype, width, backward=True)
    most = max(blocks["BLOCK_N"], CHUNK_BYTES // (hidden.itemsize * len(gates.weights)))
    rows = even_rows(len(hidden), most)
    d_gates = hidden.new_empty(min(rows, len(hidden)), len(gates.weights))
    parts = hidden.new_empty(
        triton.cdiv(len(d_gates), blocks["BLOCK_N"]), len(sums.rest), dtype=torch.float32
    )
    for part in chunks(len(hidden), rows):
        tiles = part.stop - part.start
        count = triton.cdiv(tiles, blocks["BLOCK_N"])
        of_part = d_gates[:tiles]
        _backward_kernel[count, triton.cdiv(attention, blocks["BLOCK_A"])](
            hidden[part],
            gates.weights,
            gates.biases,
            gates.score,
            d_scores[part],
            of_part,
            parts,
            tiles,
            width,
            attention,
            branches,
            GATED=gates.gated,
            **blocks,
        )
        sums.rest.add_(parts[:count].sum(0))
        add_product(sums.gates, of_part.T, hidden[part])
        if d_hidden is not None:
            d_hidden[part].addmm_(of_part, gates.weights, beta=int(add))


class GatedScores(torch.autograd.Function):
    """Gated scores with their gradient; see `mil.kernels.gated_scores.gated_scores`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *given: Any) -> Tensor:
        """Score, and keep nothing but what was given."""
        weights = GateWeights(*given)
        hidden = hidden.contiguous()
        ctx.save_for_backward(hidden, *weights)
        scores = hidden.new_empty(len(hidden), len(weights.score), dtype=torch.float32)
        gated_scores_forward(hidden, Gates.of(weights, hidden.dtype), scores)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of hidden rows and weights, each of its own type."""
        hidden, *given = ctx.saved_tensors
        gates = Gates.of(GateWeights(*given), hidden.dtype)
        sums = GateSums.zeros(gates.weights, gates.score)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        with torch.autocast(hidden.device.type, enabled=False):
            gated_scores_backward(hidden, gates, grads[0].contiguous(), d_hidden, sums, add=False)
        return d_hidden, *(
            None if d is None else d.to(w.dtype) for d, w in zip(sums.named(), given, strict=True)
        )


def variants() -> Iterator[Variant]:
    """What the launchers launch: hidden rows of a length that is a multiple of 16, and of others."""
    types = dict.fromkeys(("biases", "score_bias", "scores", "d_scores", "parts"), "*fp32")
    types |= dict.fromkeys(("tiles", "attention", "branches"), "i32")
    for name, dtype in {
        "fp32": torch.float32,
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
    }.items():
        types |= dict.fromkeys(("hidden", "gates", "score", "d_gates"), f"*{name}")
        for width, gated in product((16, 1), (True, False)):
            label = f"{name}{' gated' if gated else ''}{'' if width == 16 else ' any width'}"
            known = types | {"width": "i32:16" if width == 16 else "i32"}
            for kernel, backward in ((_forward_kernel, False), (_backward_kernel, True)):
                given = {"GATED": gated} | config(dtype, width, backward)
                yield Variant.of(label, kernel, known, given)
