"""Gated scores in Triton.

Forward, no gate is ever in memory; backward, the gates' gradient is, for a chunk of
rows.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.chunks import add_product, chunks, even_rows
from mil.kernels.compile import Variant
from mil.kernels.gated_scores.reference import GateWeights
from mil.kernels.gated_scores.sums import WeightGradients, stacked
from mil.kernels.triton_helpers import full_dot
from mil.kernels.tuning import tuned

# Branches, padded: the narrowest block that the matrix units multiply by.
BLOCK_BRANCHES = 16
# Bytes of the gates' gradient: it stays in the chip's cache until the products that
# follow have read it.
CHUNK_BYTES = 8 << 20
GENERIC = ("tiles", "attention", "branches")  # one compilation for all values


@triton.jit
def _tanh(b_x):
    """``tanh x = 2 sigmoid(2x) - 1``: `tl` has no tanh."""
    return 2 * tl.sigmoid(2 * b_x) - 1


@triton.jit
def _gates(
    hidden, gates, biases, o_n, m_n, o_a, m_a, width, attention,
    GATED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """``v = tanh(V h + b)``, ``u = sigmoid(U h + c)``, [BLOCK_N, BLOCK_A]; `gates` is V above U."""
    b_v = tl.zeros([BLOCK_N, BLOCK_A], tl.float32)
    b_u = tl.zeros([BLOCK_N, BLOCK_A], tl.float32)
    for start in range(0, width, BLOCK_H):
        o_h = start + tl.arange(0, BLOCK_H)
        m_h = o_h < width
        p_h = hidden + o_n[:, None] * width + o_h[None, :]
        b_h = tl.load(p_h, mask=m_n[:, None] & m_h[None, :], other=0.0)
        m_w = m_h[:, None] & m_a[None, :]
        # [BLOCK_H, BLOCK_A]
        p_gates = gates + o_a[None, :] * width + o_h[:, None]
        b_w = tl.load(p_gates, mask=m_w, other=0.0)
        b_v = tl.dot(b_h, b_w, b_v, input_precision="ieee")
        if GATED:
            p_w = gates + (attention + o_a)[None, :] * width + o_h[:, None]
            b_w = tl.load(p_w, mask=m_w, other=0.0)
            b_u = tl.dot(b_h, b_w, b_u, input_precision="ieee")
    b_v = _tanh(b_v + tl.load(biases + o_a, mask=m_a, other=0.0)[None, :])
    if GATED:
        b_u = tl.sigmoid(b_u + tl.load(biases + attention + o_a, mask=m_a, other=0.0)[None, :])
    return b_v, b_u


@triton.jit(do_not_specialize=GENERIC)
def _forward_kernel(
    hidden,
    gates,
    biases,
    score,
    score_bias,
    scores,
    tiles,
    width,
    attention,
    branches,
    GATED: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """``s = w (v ⊙ u) + d`` of BLOCK_N rows, [BLOCK_N, BLOCK_K]."""
    # int64 before any product: tiles * width passes 2**31 at 2 M tiles of 1024; within
    # a block int32 will do.
    first = tl.program_id(0).to(tl.int64) * BLOCK_N
    o_n = tl.arange(0, BLOCK_N)
    m_n = o_n < tiles - first
    hidden += first * width
    scores += first * branches
    o_k = tl.arange(0, BLOCK_K)
    m_k = o_k < branches
    b_s = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
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
        # [BLOCK_A, BLOCK_K]
        p_w = score + o_k[None, :] * attention + o_a[:, None]
        b_w = tl.load(p_w, mask=m_a[:, None] & m_k[None, :], other=0.0)
        b_s = tl.dot(b_v.to(b_w.dtype), b_w, b_s, input_precision="ieee")
    b_s += tl.load(score_bias + o_k, mask=m_k, other=0.0)[None, :]
    m_s = m_n[:, None] & m_k[None, :]
    p_s = scores + o_n[:, None] * branches + o_k[None, :]
    tl.store(p_s, b_s, mask=m_s)


@triton.jit(do_not_specialize=GENERIC)
def _backward_kernel(
    hidden,
    gates,
    biases,
    score,
    d_scores,
    d_gates,
    parts,
    tiles,
    width,
    attention,
    branches,
    GATED: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Gradients of gates before tanh and sigmoid, and of the parameters, of BLOCK_N rows.

    With g = v ⊙ u: ``dg = ds w``, ``dv = dg ⊙ u (1 - v²)``, ``du = dg ⊙ v u (1 - u)``,
    into `d_gates`; and into `parts`, as sums over the rows, ``dw = dsᵀ g``, db, dc and
    dd.
    """
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
    o_k = tl.arange(0, BLOCK_K)
    m_k = o_k < branches
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
    # [BLOCK_N, BLOCK_K]
    p_ds = d_scores + o_n[:, None] * branches + o_k[None, :]
    b_ds = tl.load(p_ds, mask=m_n[:, None] & m_k[None, :], other=0.0)
    # [BLOCK_K, BLOCK_A]
    p_w = score + o_k[:, None] * attention + o_a[None, :]
    b_w = tl.load(p_w, mask=m_k[:, None] & m_a[None, :], other=0.0)
    b_dg = full_dot(b_ds, b_w, tl.zeros([BLOCK_N, BLOCK_A], tl.float32))

    # `parts` of a block of rows: dw [branches, attention], the gates' biases, the
    # scores'.
    m_first = m_k & (tl.program_id(1) == 0)  # one program of a row block suffices
    p_parts = parts + branches * attention + stride + o_k
    tl.store(p_parts, tl.sum(b_ds, 0), mask=m_first)
    b_g = b_v * b_u if GATED else b_v
    b_dw = full_dot(tl.trans(b_ds), b_g.to(b_w.dtype), tl.zeros([BLOCK_K, BLOCK_A], tl.float32))
    m_w = m_k[:, None] & m_a[None, :]
    p_parts = parts + o_k[:, None] * attention + o_a[None, :]
    tl.store(p_parts, b_dw, mask=m_w)
    m_g = m_n[:, None] & m_a[None, :]
    if GATED:
        b_du = b_dg * b_g * (1 - b_u)
        b_dg *= b_u
        p_d_gates = d_gates + o_n[:, None] * stride + (attention + o_a)[None, :]
        tl.store(p_d_gates, b_du, mask=m_g)
        p_parts = parts + (branches + 1) * attention + o_a
        tl.store(p_parts, tl.sum(b_du, 0), mask=m_a)
    b_dv = b_dg * (1 - b_v * b_v)
    p_d_gates = d_gates + o_n[:, None] * stride + o_a[None, :]
    tl.store(p_d_gates, b_dv, mask=m_g)
    p_parts = parts + branches * attention + o_a
    tl.store(p_parts, tl.sum(b_dv, 0), mask=m_a)


def config(dtype: torch.dtype, width: int, backward: bool) -> dict[str, int]:
    """Block sizes, warps and stages; not tuned on a GPU yet.

    BLOCK_N rows, BLOCK_A columns of the gates, BLOCK_H columns of the hidden rows. Half
    precision goes through the matrix units. Float32 does not, and hidden rows that do
    not begin at multiples of 16 are read number by number; both need more registers.
    """
    if dtype == torch.float32:
        blocks = {"BLOCK_N": 32, "BLOCK_A": 32, "BLOCK_H": 16, "num_warps": 4, "num_stages": 2}
    elif width % 16:
        blocks = {"BLOCK_N": 64, "BLOCK_A": 64, "BLOCK_H": 32, "num_warps": 8, "num_stages": 2}
    else:
        rows = 64 if backward else 128
        blocks = {"BLOCK_N": rows, "BLOCK_A": 64, "BLOCK_H": 64, "num_warps": 8, "num_stages": 3}
    return blocks | {"BLOCK_K": BLOCK_BRANCHES}


class GpuGates(NamedTuple):
    """Weights as the kernels read them.

    Factors of products are in the hidden rows' type, summands in float32.
    """

    weights: Tensor  # [gates, hidden]: rows of V, then rows of U
    biases: Tensor  # [gates]
    score: Tensor  # [branches, attention]
    score_bias: Tensor  # [branches]

    @classmethod
    def of(cls, weights: GateWeights, dtype: torch.dtype) -> "GpuGates":
        """Weights cast and laid out once for all rows, which have type `dtype`."""
        gates = stacked(weights.value, weights.gate)
        biases = stacked(weights.value_bias, weights.gate_bias)
        score = weights.score.to(dtype).contiguous()
        return cls(gates.to(dtype).contiguous(), biases.float(), score, weights.score_bias.float())

    @property
    def gated(self) -> bool:
        """Whether there is a second gate."""
        return len(self.weights) > self.score.shape[1]


def gated_scores_forward(hidden: Tensor, gates: GpuGates, scores: Tensor) -> None:
    """Scores of hidden rows, written into `scores` [tiles, branches], float32."""
    (tiles, width), (branches, attention) = hidden.shape, gates.score.shape
    blocks = config(hidden.dtype, width, backward=False)
    blocks |= tuned("gated_scores.forward", hidden.dtype, width, hidden.device)
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
    gates: GpuGates,
    d_scores: Tensor,
    d_hidden: Tensor | None,
    sums: WeightGradients,
    add: bool,
) -> None:
    """Gradients of hidden rows and of the parameters, from that of the scores.

    Args:
        hidden: [tiles, hidden].
        gates: weights of the forward pass.
        d_scores: [tiles, branches], float32.
        d_hidden: [tiles, hidden], memory for the hidden rows' gradient; None: not
            needed.
        sums: running sums, to which the parameters' gradients are added.
        add: add to the contents of `d_hidden` instead of overwriting them.
    """
    width, (branches, attention) = hidden.shape[1], gates.score.shape
    blocks = config(hidden.dtype, width, backward=True)
    blocks |= tuned("gated_scores.backward", hidden.dtype, width, hidden.device)
    max_rows = max(blocks["BLOCK_N"], CHUNK_BYTES // (hidden.itemsize * len(gates.weights)))
    rows = even_rows(len(hidden), max_rows)
    chunk_d_gates = hidden.new_empty(min(rows, len(hidden)), len(gates.weights))
    # Each block of rows writes sums of its own, which are added in their order: atomic
    # additions would give other bits each time.
    max_blocks = triton.cdiv(len(chunk_d_gates), blocks["BLOCK_N"])
    parts = hidden.new_empty(max_blocks, len(sums.flat), dtype=torch.float32)
    for part in chunks(len(hidden), rows):
        tiles = part.stop - part.start
        num_blocks = triton.cdiv(tiles, blocks["BLOCK_N"])
        d_gates = chunk_d_gates[:tiles]
        _backward_kernel[num_blocks, triton.cdiv(attention, blocks["BLOCK_A"])](
            hidden[part],
            gates.weights,
            gates.biases,
            gates.score,
            d_scores[part],
            d_gates,
            parts,
            tiles,
            width,
            attention,
            branches,
            GATED=gates.gated,
            **blocks,
        )
        sums.flat.add_(parts[:num_blocks].sum(0))
        add_product(sums.gates, d_gates.T, hidden[part])
        if d_hidden is not None:
            d_hidden[part].addmm_(d_gates, gates.weights, beta=int(add))


def variants() -> Iterator[Variant]:
    """Compilations that the launches can ask for.

    Hidden rows of a length that is a multiple of 16, and of any length.
    """
    types = dict.fromkeys(("biases", "score_bias", "scores", "d_scores", "parts"), "*fp32")
    types |= dict.fromkeys(("tiles", "attention", "branches"), "i32")
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    for name, width, gated in product(dtypes, (16, 1), (True, False)):
        label = name + (" gated" if gated else "") + ("" if width == 16 else " any width")
        types |= dict.fromkeys(("hidden", "gates", "score", "d_gates"), f"*{name}")
        types["width"] = "i32:16" if width == 16 else "i32"
        for kernel, backward in ((_forward_kernel, False), (_backward_kernel, True)):
            keywords = {"GATED": gated} | config(dtypes[name], width, backward)
            yield Variant.of(label, kernel, types, keywords)
