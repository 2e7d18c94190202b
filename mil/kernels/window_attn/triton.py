"""Attention within a window in Triton: rows of neighbours are gathered, never written.

Scores are computed again for the gradient, twice: a program for some rows sums the gradient of
their queries, and one for a row that of it as a key and a value, over the rows that attend to it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.compile import Constant, Variant
from mil.kernels.triton_helpers import head_rows, store_head_rows

# Values of the rows that a program gathers per iteration; not tuned on a GPU yet.
BLOCK_VALUES = 2048


def config(width: int) -> dict[str, int]:
    """Block of rows, warps and stages for heads of that width, a multiple of 16."""
    columns = triton.next_power_of_2(width)
    return {
        "BLOCK_I": max(4, min(64, BLOCK_VALUES // columns)),
        "WIDTH": columns,
        "num_warps": 4,
        "num_stages": 2,
    }


@triton.jit
def _scores(
    b_q, keys, bias, b_j, m_j, place, heads, head, key_heads, width, scale, WIDTH: tl.constexpr
):
    """``s = scale q·k + b`` of several rows and one place of their windows, and the keys."""
    key_head = head // (heads // key_heads)
    b_k = head_rows(keys, b_j, m_j, key_heads, key_head, width, WIDTH).to(tl.float32)
    b_s = tl.sum(b_q * b_k, 1) * scale + tl.load(bias + place * heads + head)
    return tl.where(m_j, b_s, float("-inf")), b_k


@triton.jit(do_not_specialize=["count", "window", "heads", "key_heads"])
def _forward_kernel(
    queries, keys, values, neighbours, bias, out, lse, count, window, heads, key_heads, width,
    scale, BLOCK_I: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """``o = sum_n exp(s_n - m) v_n / l``, ``lse = m + log l`` of some rows and a head."""
    head = tl.program_id(1)
    o_i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    m_i = o_i < count
    b_q = head_rows(queries, o_i, m_i, heads, head, width, WIDTH).to(tl.float32)
    b_m = tl.full([BLOCK_I], float("-inf"), tl.float32)
    b_l = tl.zeros([BLOCK_I], tl.float32)
    b_acc = tl.zeros([BLOCK_I, WIDTH], tl.float32)
    for place in range(window):
        b_j = tl.load(neighbours + place * count.to(tl.int64) + o_i, mask=m_i, other=-1)
        m_j = b_j >= 0
        b_s, _ = _scores(
            b_q, keys, bias, b_j, m_j, place, heads, head, key_heads, width, scale, WIDTH
        )
        new_m = tl.maximum(b_m, b_s)
        # Before its first neighbour a row has no maximum.
        shift = tl.where(new_m == float("-inf"), 0.0, new_m)
        b_rescale = tl.exp(b_m - shift)
        b_p = tl.exp(b_s - shift)
        b_l = b_l * b_rescale + b_p
        key_head = head // (heads // key_heads)
        b_v = head_rows(values, b_j, m_j, key_heads, key_head, width, WIDTH).to(tl.float32)
        b_acc = b_acc * b_rescale[:, None] + b_p[:, None] * b_v
        b_m = new_m
    b_l = tl.where(b_l > 0, b_l, 1.0)
    store_head_rows(out, b_acc / b_l[:, None], o_i, m_i, heads, head, width, WIDTH)
    tl.store(lse + o_i * heads + head, b_m + tl.log(b_l), mask=m_i)


@triton.jit(do_not_specialize=["count", "window", "heads", "key_heads"])
def _queries_grad_kernel(
    queries, keys, values, neighbours, bias, out, lse, d_out, d_queries, delta, d_bias_parts,
    count, window, heads, key_heads, width, scale, BLOCK_I: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """``dq = scale sum_n ds_n k_n``, ``ds = p (do·v - delta)``, and a part of ``db = sum ds``.

    Of some rows and a head; ``delta = do·o`` is written for the other kernel.
    """
    block = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    o_i = block * BLOCK_I + tl.arange(0, BLOCK_I)
    m_i = o_i < count
    b_q = head_rows(queries, o_i, m_i, heads, head, width, WIDTH).to(tl.float32)
    b_do = head_rows(d_out, o_i, m_i, heads, head, width, WIDTH).to(tl.float32)
    b_o = head_rows(out, o_i, m_i, heads, head, width, WIDTH).to(tl.float32)
    b_delta = tl.sum(b_do * b_o, 1)
    tl.store(delta + o_i * heads + head, b_delta, mask=m_i)
    b_lse = tl.load(lse + o_i * heads + head, mask=m_i, other=0.0)
    b_dq = tl.zeros([BLOCK_I, WIDTH], tl.float32)
    for place in range(window):
        b_j = tl.load(neighbours + place * count.to(tl.int64) + o_i, mask=m_i, other=-1)
        m_j = b_j >= 0
        b_s, b_k = _scores(
            b_q, keys, bias, b_j, m_j, place, heads, head, key_heads, width, scale, WIDTH
        )
        b_p = tl.exp(b_s - b_lse)
        key_head = head // (heads // key_heads)
        b_v = head_rows(values, b_j, m_j, key_heads, key_head, width, WIDTH).to(tl.float32)
        b_ds = b_p * (tl.sum(b_do * b_v, 1) - b_delta)
        b_dq += b_ds[:, None] * b_k
        tl.store(d_bias_parts + (block * window + place) * heads + head, tl.sum(b_ds, 0))
    store_head_rows(d_queries, b_dq * scale, o_i, m_i, heads, head, width, WIDTH)


@triton.jit(do_not_specialize=["count", "heads", "key_heads"])
def _keys_grad_kernel(
    queries, keys, values, order, bounds, bias, lse, d_out, delta, d_keys, d_values,
    count, heads, key_heads, width, scale, BLOCK_I: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """``dk = scale sum ds q``, ``dv = sum p do`` of a row and a key head.

    Over the rows that attend to it: `order` has the places ``n * count + i`` of all
    windows sorted by neighbour, `bounds` where each neighbour's begin in it.
    """
    row = tl.program_id(0).to(tl.int64)
    key_head = tl.program_id(1)
    o_w = tl.arange(0, WIDTH)
    m_w = o_w < width
    p_row = (row * key_heads + key_head) * width + o_w
    b_k = tl.load(keys + p_row, mask=m_w, other=0.0).to(tl.float32)
    b_v = tl.load(values + p_row, mask=m_w, other=0.0).to(tl.float32)
    b_dk = tl.zeros([WIDTH], tl.float32)
    b_dv = tl.zeros([WIDTH], tl.float32)
    last = tl.load(bounds + row + 1)
    per_key_head = heads // key_heads
    for start in range(tl.load(bounds + row), last, BLOCK_I):
        o_e = start + tl.arange(0, BLOCK_I)
        m_e = o_e < last
        edge = tl.load(order + o_e, mask=m_e, other=0)
        o_i = edge % count
        for head in range(key_head * per_key_head, (key_head + 1) * per_key_head):
            b_q = head_rows(queries, o_i, m_e, heads, head, width, WIDTH).to(tl.float32)
            b_do = head_rows(d_out, o_i, m_e, heads, head, width, WIDTH).to(tl.float32)
            b_s = tl.sum(b_q * b_k[None, :], 1) * scale
            b_s += tl.load(bias + edge // count * heads + head, mask=m_e, other=0.0)
            b_lse = tl.load(lse + o_i * heads + head, mask=m_e, other=float("inf"))
            b_p = tl.exp(b_s - b_lse)
            b_delta = tl.load(delta + o_i * heads + head, mask=m_e, other=0.0)
            b_ds = b_p * (tl.sum(b_do * b_v[None, :], 1) - b_delta)
            b_dk += tl.sum(b_ds[:, None] * b_q, 0)
            b_dv += tl.sum(b_p[:, None] * b_do, 0)
    tl.store(d_keys + p_row, (b_dk * scale).to(d_keys.dtype.element_ty), mask=m_w)
    tl.store(d_values + p_row, b_dv.to(d_values.dtype.element_ty), mask=m_w)


class Given(NamedTuple):
    """Inputs, contiguous and of one type; width is a multiple of 16."""

    queries: Tensor  # [rows, heads, width]
    keys: Tensor  # [rows, key heads, width]
    values: Tensor  # [rows, key heads, width]
    neighbours: Tensor  # [window, rows]
    bias: Tensor  # [window, heads], float32


def window_attn_forward(given: Given, scale: float) -> tuple[Tensor, Tensor]:
    """Rows [rows, heads, width] in the type of the values, and log-sum-exps [rows, heads]."""
    count, heads, width = given.queries.shape
    blocks = config(width)
    out = torch.empty_like(given.queries)
    lse = torch.empty(count, heads, device=out.device)
    if count:
        _forward_kernel[(triton.cdiv(count, blocks["BLOCK_I"]), heads)](
            *given,
            out,
            lse,
            count,
            len(given.neighbours),
            heads,
            given.keys.shape[1],
            width,
            scale,
            **blocks,
        )
    return out, lse


def window_attn_backward(
    given: Given, out: Tensor, lse: Tensor, scale: float, d_out: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values and bias.

    Args:
        given: Inputs.
        out: [rows, heads, width], from the forward pass.
        lse: [rows, heads], from the forward pass.
        scale: Factor of the products.
        d_out: Gradient of `out`, contiguous.
    """
    queries, keys, values, neighbours, bias = given
    count, heads, width = queries.shape
    key_heads = keys.shape[1]
    window = len(neighbours)
    blocks = config(width)
    programs = triton.cdiv(count, blocks["BLOCK_I"])
    d_queries = torch.empty_like(queries)
    delta = torch.empty_like(lse)
    d_bias_parts = torch.empty(programs, window, heads, device=lse.device)
    d_keys = torch.empty_like(keys)
    d_values = torch.empty_like(values)
    if count:
        _queries_grad_kernel[(programs, heads)](
            *given,
            out,
            lse,
            d_out,
            d_queries,
            delta,
            d_bias_parts,
            count,
            window,
            heads,
            key_heads,
            width,
            scale,
            **blocks,
        )
        # Stable: the rows that attend to a row are summed in one order each time.
        by_neighbour, order = neighbours.flatten().sort(stable=True)
        firsts = torch.arange(count + 1, device=order.device)
        _keys_grad_kernel[(count, key_heads)](
            queries,
            keys,
            values,
            order,
            torch.searchsorted(by_neighbour, firsts),
            bias,
            lse,
            d_out,
            delta,
            d_keys,
            d_values,
            count,
            heads,
            key_heads,
            width,
            scale,
            **blocks,
        )
    return d_queries, d_keys, d_values, d_bias_parts.sum(0)


def variants() -> Iterator[Variant]:
    """Compilations that the launches can ask for, up to widths of 128."""
    types = dict.fromkeys(("bias", "lse", "delta", "d_bias_parts"), "*fp32")
    types |= dict.fromkeys(("neighbours", "order", "bounds"), "*i64")
    types |= dict.fromkeys(("count", "window", "heads", "key_heads"), "i32")
    types |= {"width": "i32:16", "scale": "fp32"}
    rows = ("queries", "keys", "values", "out", "d_out", "d_queries", "d_keys", "d_values")
    all_widths = (16, 32, 64, 128)
    # Half precision of either kind compiles alike.
    for name, widths in (("fp32", all_widths), ("bf16", all_widths), ("fp16", (64,))):
        of_type = types | dict.fromkeys(rows, f"*{name}")
        for width in widths:
            constants: dict[str, Constant] = {**config(width)}
            for kernel in (_forward_kernel, _queries_grad_kernel, _keys_grad_kernel):
                yield Variant.of(f"{name} {width}", kernel, of_type, constants)
