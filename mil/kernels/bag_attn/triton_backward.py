"""Gradients of attention between segments in Triton, without atomics.

The map is computed again twice: a program for a block of queries sums their gradient, and one
for a block of keys that of keys, values and bias. Both write sums of their own, and where few
programs walk over many rows, these are split into parts, whose sums are added in their order.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.bag_attn.triton_forward import (
    DTYPES,
    of_widths,
    padded,
    part_rows,
    parts_for,
)
from mil.kernels.compile import Variant
from mil.kernels.segments import split_bags
from mil.kernels.triton_helpers import head_rows, segment_rows, store_head_rows
from mil.kernels.tuning import tuned


@triton.jit(do_not_specialize=["segments", "num_queries", "heads", "key_heads", "parts"])
def _queries_grad_kernel(
    queries,
    keys,
    values,
    key_bias,
    query_offsets,
    key_offsets,
    segment_of,
    firsts,
    out,
    lse,
    d_rows,
    d_lse,
    delta,
    d_queries,
    segments,
    num_queries,
    heads,
    key_heads,
    parts,
    width,
    scale,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """``dq = scale sum_j ds_j k_j``, ``ds = p (do·v - delta)``, ``delta = do·o - dlse``.

    Of a block of queries, a head, and a part of the keys of their segment. The
    log-sum-exp depends on the scores by p, so that its gradient counts against delta.
    """
    block = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    part = tl.program_id(2).to(tl.int64)
    segment = tl.load(segment_of + block)
    if segment < segments:
        key_head = head // (heads // key_heads)
        first, last = segment_rows(query_offsets, segment_of, firsts, block, BLOCK_I)
        o_i = first + tl.arange(0, BLOCK_I)
        m_i = o_i < last
        b_q = head_rows(queries, o_i, m_i, heads, head, width, WIDTH)  # [BLOCK_I, WIDTH]
        b_do = head_rows(d_rows, o_i, m_i, heads, head, width, WIDTH)
        b_o = head_rows(out, o_i, m_i, heads, head, width, WIDTH)
        b_delta = tl.sum(b_do.to(tl.float32) * b_o.to(tl.float32), 1)
        b_delta -= tl.load(d_lse + o_i * heads + head, mask=m_i, other=0.0)
        # Every part writes the same.
        tl.store(delta + o_i * heads + head, b_delta, mask=m_i)
        b_lse = tl.load(lse + o_i * heads + head, mask=m_i, other=float("inf"))
        b_dq = tl.zeros([BLOCK_I, WIDTH], tl.float32)
        first_key, last_key = part_rows(key_offsets, segment, part, parts, BLOCK_J)
        for start in range(first_key, last_key, BLOCK_J):
            o_j = start + tl.arange(0, BLOCK_J)
            m_j = o_j < last_key
            b_k = head_rows(keys, o_j, m_j, key_heads, key_head, width, WIDTH)
            b_s = tl.dot(b_q, tl.trans(b_k), input_precision="ieee") * scale
            if key_bias is not None:
                p_bias = key_bias + o_j * key_heads + key_head
                b_s += tl.load(p_bias, mask=m_j, other=0.0)[None, :]
            b_p = tl.where(m_j[None, :], tl.exp(b_s - b_lse[:, None]), 0.0)
            b_v = head_rows(values, o_j, m_j, key_heads, key_head, width, WIDTH)
            b_dp = tl.dot(b_do, tl.trans(b_v), input_precision="ieee")
            b_ds = b_p * (b_dp - b_delta[:, None])
            b_dq = tl.dot(b_ds.to(b_k.dtype), b_k, b_dq, input_precision="ieee")
        o_row = part * num_queries + o_i
        store_head_rows(d_queries, b_dq * scale, o_row, m_i, heads, head, width, WIDTH)


@triton.jit(do_not_specialize=["segments", "num_keys", "heads", "key_heads", "parts"])
def _keys_grad_kernel(
    queries,
    keys,
    values,
    key_bias,
    query_offsets,
    key_offsets,
    segment_of,
    firsts,
    lse,
    d_rows,
    delta,
    d_keys,
    d_values,
    d_bias,
    segments,
    num_keys,
    heads,
    key_heads,
    parts,
    width,
    scale,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """``dk = scale sum_i ds_i q_i``, ``dv = sum_i p_i do_i``, ``db = sum_i ds_i``.

    Of a block of keys, a key head, and a part of the queries of their segment, over the
    heads that share the key head.
    """
    block = tl.program_id(0).to(tl.int64)
    key_head = tl.program_id(1)
    part = tl.program_id(2).to(tl.int64)
    segment = tl.load(segment_of + block)
    if segment < segments:
        first, last = segment_rows(key_offsets, segment_of, firsts, block, BLOCK_J)
        o_j = first + tl.arange(0, BLOCK_J)
        m_j = o_j < last
        b_k = head_rows(keys, o_j, m_j, key_heads, key_head, width, WIDTH)  # [BLOCK_J, WIDTH]
        b_v = head_rows(values, o_j, m_j, key_heads, key_head, width, WIDTH)
        b_bias = tl.zeros([BLOCK_J], tl.float32)
        if key_bias is not None:
            b_bias = tl.load(key_bias + o_j * key_heads + key_head, mask=m_j, other=0.0)
        b_dk = tl.zeros([BLOCK_J, WIDTH], tl.float32)
        b_dv = tl.zeros([BLOCK_J, WIDTH], tl.float32)
        b_db = tl.zeros([BLOCK_J], tl.float32)
        first_query, last_query = part_rows(query_offsets, segment, part, parts, BLOCK_I)
        per_key_head = heads // key_heads
        for head in range(key_head * per_key_head, (key_head + 1) * per_key_head):
            for start in range(first_query, last_query, BLOCK_I):
                o_i = start + tl.arange(0, BLOCK_I)
                m_i = o_i < last_query
                b_q = head_rows(queries, o_i, m_i, heads, head, width, WIDTH)
                b_do = head_rows(d_rows, o_i, m_i, heads, head, width, WIDTH)
                # Beyond the last query p is exp(-inf) = 0.
                b_lse = tl.load(lse + o_i * heads + head, mask=m_i, other=float("inf"))
                b_delta = tl.load(delta + o_i * heads + head, mask=m_i, other=0.0)
                # [BLOCK_J, BLOCK_I]
                b_s = tl.dot(b_k, tl.trans(b_q), input_precision="ieee") * scale
                b_p = tl.exp(b_s + b_bias[:, None] - b_lse[None, :])
                b_dv = tl.dot(b_p.to(b_do.dtype), b_do, b_dv, input_precision="ieee")
                b_dp = tl.dot(b_v, tl.trans(b_do), input_precision="ieee")
                b_ds = b_p * (b_dp - b_delta[None, :])
                b_dk = tl.dot(b_ds.to(b_q.dtype), b_q, b_dk, input_precision="ieee")
                b_db += tl.sum(b_ds, 1)
        o_row = part * num_keys + o_j
        store_head_rows(d_keys, b_dk * scale, o_row, m_j, key_heads, key_head, width, WIDTH)
        store_head_rows(d_values, b_dv, o_row, m_j, key_heads, key_head, width, WIDTH)
        if key_bias is not None:
            tl.store(d_bias + o_row * key_heads + key_head, b_db, mask=m_j)


class Gradients(NamedTuple):
    """Gradients of the inputs, in their types."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    key_bias: Tensor | None


def config(dtype: torch.dtype, width: int) -> dict[str, int]:
    """Blocks, warps and stages of the queries' gradient; not tuned on a GPU yet."""
    wide = padded(width) > 64
    if dtype == torch.float32:
        return {
            "BLOCK_I": 32,
            "BLOCK_J": 16 if wide else 32,
            "num_warps": 8,
            "num_stages": 2 if wide else 1,
        }
    return {"BLOCK_I": 32, "BLOCK_J": 32 if wide else 64, "num_warps": 8, "num_stages": 2}


def keys_config(dtype: torch.dtype, width: int) -> dict[str, int]:
    """The same of the gradients of keys, values and bias."""
    blocks = config(dtype, width)
    if dtype == torch.float32 and padded(width) > 64:
        blocks |= {"BLOCK_J": 32, "num_stages": 1}
    return blocks


def bag_attn_backward(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    key_bias: Tensor | None,
    out: Tensor,
    lse: Tensor,
    scale: float,
    d_rows: Tensor,
    d_lse: Tensor,
) -> Gradients:
    """Gradients of queries, keys, values and biases.

    Args:
        queries: [queries, heads, width]; see `bag_attn_forward`.
        keys: [keys, key heads, width].
        values: [keys, key heads, width].
        query_offsets: [segments + 1].
        key_offsets: [segments + 1].
        key_bias: [keys, key heads], or None.
        out: [queries, heads, width], rows of the forward pass.
        lse: [queries, heads], from the forward pass.
        scale: Factor of the products.
        d_rows: Gradient of `out`, in the type of the values, contiguous.
        d_lse: Gradient of `lse`, contiguous.
    """
    delta = torch.empty_like(lse)
    given = (queries, keys, values, key_bias, query_offsets, key_offsets)
    d_queries = _queries_grad(given, out, lse, scale, d_rows, d_lse, delta)
    return Gradients(d_queries, *_keys_grad(given, lse, scale, d_rows, delta))


Given = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor]


def _queries_grad(
    given: Given,
    out: Tensor,
    lse: Tensor,
    scale: float,
    d_rows: Tensor,
    d_lse: Tensor,
    delta: Tensor,
) -> Tensor:
    """Gradient of the queries; `delta` is written for the other kernel."""
    queries, keys = given[:2]
    count, heads, width = queries.shape
    blocks = config(queries.dtype, width)
    blocks |= tuned("bag_attn.backward", queries.dtype, width, queries.device)
    segments = split_bags(given[4], count, blocks["BLOCK_I"])
    programs = len(segments.bag_of)
    parts = parts_for(programs * heads, len(keys))
    d_queries = _sums(parts, queries)
    if count:
        _queries_grad_kernel[(programs, heads, parts)](
            *given,
            segments.bag_of,
            segments.firsts,
            out,
            lse,
            d_rows,
            d_lse,
            delta,
            d_queries,
            len(given[4]) - 1,
            count,
            heads,
            keys.shape[1],
            parts,
            width,
            scale,
            WIDTH=padded(width),
            **blocks,
        )
    return _added(d_queries, queries.dtype)


def _keys_grad(
    given: Given, lse: Tensor, scale: float, d_rows: Tensor, delta: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of keys, values and bias."""
    queries, keys, values, key_bias = given[:4]
    count, key_heads, width = keys.shape
    blocks = keys_config(queries.dtype, width)
    blocks |= tuned("bag_attn.backward", queries.dtype, width, queries.device)
    segments = split_bags(given[5], count, blocks["BLOCK_J"])
    programs = len(segments.bag_of)
    parts = parts_for(programs * key_heads, len(queries))
    d_keys = _sums(parts, keys)
    d_values = _sums(parts, values)
    d_bias = None if key_bias is None else _sums(parts, key_bias)
    if count:
        _keys_grad_kernel[(programs, key_heads, parts)](
            *given,
            segments.bag_of,
            segments.firsts,
            lse,
            d_rows,
            delta,
            d_keys,
            d_values,
            d_bias,
            len(given[5]) - 1,
            count,
            queries.shape[1],
            key_heads,
            parts,
            width,
            scale,
            WIDTH=padded(width),
            **blocks,
        )
    of_bias = None if d_bias is None else _added(d_bias, torch.float32)
    return _added(d_keys, keys.dtype), _added(d_values, values.dtype), of_bias


def _sums(parts: int, like: Tensor) -> Tensor:
    """Memory for the sums of each part; of one part in the type of the gradient."""
    dtype = like.dtype if parts == 1 else torch.float32
    return torch.empty(parts, *like.shape, dtype=dtype, device=like.device)


def _added(sums: Tensor, dtype: torch.dtype) -> Tensor:
    return sums[0] if len(sums) == 1 else sums.sum(0).to(dtype)


def variants() -> Iterator[Variant]:
    """Compilations that the launches can ask for."""
    gradients = ("d_queries", "d_keys", "d_values")
    for label, types, keywords, name, width in of_widths():
        constants = config(DTYPES[name], width) | keywords
        of_keys = keys_config(DTYPES[name], width) | keywords
        of_keys |= {"d_bias": None} if "key_bias" in keywords else {}
        whole = types | dict.fromkeys(gradients, f"*{name}")
        yield Variant.of(label, _queries_grad_kernel, whole, constants)
        yield Variant.of(label, _keys_grad_kernel, whole, of_keys)
        if name == "bf16":
            # Parts to be added.
            of_parts = types | dict.fromkeys(gradients, "*fp32")
            yield Variant.of(f"{label}, parts", _queries_grad_kernel, of_parts, constants)
            yield Variant.of(f"{label}, parts", _keys_grad_kernel, of_parts, of_keys)
