"""Attention over neighbours in Triton: what an edge holds is gathered anew for the gradient, never written."""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.variants import Variant

BLOCK_NUMBERS = 2048  # of the edges that a program gathers at a time; not tuned on a GPU yet
EDGES = 256  # that a program turns from scores to attention
PARTS = 2048  # programs of a head that add up the gradient of its vector, at most


def config(width: int) -> tuple[dict[str, int], dict[str, int]]:
    """Block sizes, then warps and stages, for heads of that width."""
    padded = max(16, triton.next_power_of_2(width))
    edges = min(64, max(4, BLOCK_NUMBERS // padded))
    warps = (
        2 if padded == 16 else 4 if padded <= 1024 else 8
    )  # of 1024 with more, some registers are spilled
    return {"BLOCK_E": edges, "WIDTH": padded}, {"num_warps": warps, "num_stages": 2}


@triton.jit
def _rows(numbers, at, mask, heads, head, width, WIDTH: tl.constexpr):
    o_w = tl.arange(0, WIDTH)
    both = mask[:, None] & (o_w < width)[None, :]
    return tl.load(
        numbers + (at * heads + head)[:, None] * width + o_w[None, :], mask=both, other=0.0
    ).to(tl.float32)


@triton.jit
def _forward_kernel(
    queries, keys, vector, sources, bounds, messages, scores, tops, totals, heads, width, slope,
    BLOCK_E: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0).to(
        tl.int64
    )  # a tile's heads follow one another: they read the same edges
    head = place % heads
    o_w = tl.arange(0, WIDTH)
    m_w = o_w < width
    b_q = tl.load(queries + place * width + o_w, mask=m_w, other=0.0).to(tl.float32)
    b_v = tl.load(vector + head * width + o_w, mask=m_w, other=0.0).to(tl.float32)
    top = float("-inf")
    total = 0.0
    b_message = tl.zeros([WIDTH], tl.float32)
    last = tl.load(bounds + place // heads + 1)
    for start in range(tl.load(bounds + place // heads), last, BLOCK_E):
        o_e = start + tl.arange(0, BLOCK_E)
        m_e = o_e < last
        source = tl.load(sources + o_e, mask=m_e, other=0)
        b_k = _rows(keys, source, m_e, heads, head, width, WIDTH)  # [BLOCK_E, WIDTH]
        b_sums = b_q[None, :] + b_k
        b_s = tl.sum(tl.where(b_sums > 0, b_sums, slope * b_sums) * b_v[None, :], 1)
        tl.store(scores + o_e * heads + head, b_s, mask=m_e)
        b_s = tl.where(m_e, b_s, float("-inf"))
        new_top = tl.maximum(top, tl.max(b_s, 0))
        fade = tl.exp(top - new_top)
        b_a = tl.exp(b_s - new_top)
        total = total * fade + tl.sum(b_a, 0)
        b_message = b_message * fade + tl.sum(b_a[:, None] * b_k, 0)
        top = new_top
    b_message = b_message / tl.where(total > 0, total, 1.0)  # a tile without edges gets zeros
    tl.store(messages + place * width + o_w, b_message.to(messages.dtype.element_ty), mask=m_w)
    tl.store(tops + place, top)
    tl.store(totals + place, total)


@triton.jit(do_not_specialize=["edges"])
def _attention_kernel(attention, targets, tops, totals, mean, edges, heads, BLOCK_E: tl.constexpr):
    """Scores become attention in place."""
    o_e = tl.program_id(0).to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    m_e = o_e < edges
    place = tl.load(targets + o_e, mask=m_e, other=0) * heads
    b_mean = tl.zeros([BLOCK_E], tl.float32)
    for head in range(heads):
        b_s = tl.load(attention + o_e * heads + head, mask=m_e, other=0.0)
        b_s -= tl.load(tops + place + head, mask=m_e, other=0.0)
        b_a = tl.exp(b_s) / tl.load(totals + place + head, mask=m_e, other=1.0)
        tl.store(attention + o_e * heads + head, b_a, mask=m_e)
        b_mean += b_a
    tl.store(mean + o_e, b_mean / heads, mask=m_e)


@triton.jit(do_not_specialize=["tiles"])
def _queries_grad_kernel(
    queries, keys, vector, sources, bounds, attention, d_messages, d_mean, d_queries, d_attention, deltas, d_vectors,
    tiles, heads, width, slope, BLOCK_E: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    # d_score = a (d_a - delta), delta = sum of a d_a: sums of a d_a and of a are kept
    # apart, so that one pass will do.
    head = (tl.program_id(0) % heads).to(tl.int64)
    part = (tl.program_id(0) // heads).to(tl.int64)
    o_w = tl.arange(0, WIDTH)
    m_w = o_w < width
    b_v = tl.load(vector + head * width + o_w, mask=m_w, other=0.0).to(tl.float32)
    b_d_v = tl.zeros([WIDTH], tl.float32)
    for tile in range(
        part, tiles, tl.num_programs(0) // heads
    ):  # programs side by side gather the same neighbours
        place = tile * heads + head
        b_q = tl.load(queries + place * width + o_w, mask=m_w, other=0.0).to(tl.float32)
        b_g = tl.load(d_messages + place * width + o_w, mask=m_w, other=0.0).to(tl.float32)
        delta = 0.0
        b_slopes = tl.zeros([WIDTH], tl.float32)
        b_slopes_a = tl.zeros([WIDTH], tl.float32)
        b_bent = tl.zeros([WIDTH], tl.float32)
        b_bent_a = tl.zeros([WIDTH], tl.float32)
        last = tl.load(bounds + tile + 1)
        for start in range(tl.load(bounds + tile), last, BLOCK_E):
            o_e = start + tl.arange(0, BLOCK_E)
            m_e = o_e < last
            source = tl.load(sources + o_e, mask=m_e, other=0)
            b_k = _rows(keys, source, m_e, heads, head, width, WIDTH)  # [BLOCK_E, WIDTH]
            b_a = tl.load(attention + o_e * heads + head, mask=m_e, other=0.0)
            b_d_a = (
                tl.sum(b_k * b_g[None, :], 1) + tl.load(d_mean + o_e, mask=m_e, other=0.0) / heads
            )
            tl.store(d_attention + o_e * heads + head, b_d_a, mask=m_e)
            b_sums = b_q[None, :] + b_k
            b_slope = tl.where(b_sums > 0, 1.0, slope)
            b_sums *= b_slope
            b_both = b_a * b_d_a
            delta += tl.sum(b_both, 0)
            b_slopes_a += tl.sum(b_a[:, None] * b_slope, 0)
            b_slopes += tl.sum(b_both[:, None] * b_slope, 0)
            b_bent_a += tl.sum(b_a[:, None] * b_sums, 0)
            b_bent += tl.sum(b_both[:, None] * b_sums, 0)
        b_d_v += b_bent - delta * b_bent_a
        b_d_q = b_v * (b_slopes - delta * b_slopes_a)
        tl.store(d_queries + place * width + o_w, b_d_q.to(d_queries.dtype.element_ty), mask=m_w)
        tl.store(deltas + place, delta)
    tl.store(d_vectors + (part * heads + head) * width + o_w, b_d_v, mask=m_w)


@triton.jit
def _keys_grad_kernel(
    queries, keys, vector, targets, order, bounds, attention, d_attention, deltas, d_messages, d_keys,
    heads, width, slope, BLOCK_E: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0).to(tl.int64)
    head = place % heads
    o_w = tl.arange(0, WIDTH)
    m_w = o_w < width
    b_k = tl.load(keys + place * width + o_w, mask=m_w, other=0.0).to(tl.float32)
    b_v = tl.load(vector + head * width + o_w, mask=m_w, other=0.0).to(tl.float32)
    b_d_k = tl.zeros([WIDTH], tl.float32)
    last = tl.load(bounds + place // heads + 1)
    for start in range(tl.load(bounds + place // heads), last, BLOCK_E):
        o_e = start + tl.arange(0, BLOCK_E)
        m_e = o_e < last
        edge = tl.load(order + o_e, mask=m_e, other=0)
        target = tl.load(targets + edge, mask=m_e, other=0)
        b_a = tl.load(attention + edge * heads + head, mask=m_e, other=0.0)
        b_d_s = tl.load(d_attention + edge * heads + head, mask=m_e, other=0.0)
        b_d_s = b_a * (b_d_s - tl.load(deltas + target * heads + head, mask=m_e, other=0.0))
        b_sums = (
            _rows(queries, target, m_e, heads, head, width, WIDTH) + b_k[None, :]
        )  # [BLOCK_E, WIDTH]
        b_d_k += b_v * tl.sum(b_d_s[:, None] * tl.where(b_sums > 0, 1.0, slope), 0)
        b_d_k += tl.sum(b_a[:, None] * _rows(d_messages, target, m_e, heads, head, width, WIDTH), 0)
    tl.store(d_keys + place * width + o_w, b_d_k.to(d_keys.dtype.element_ty), mask=m_w)


def bounds_of(sorted_rows: Tensor, tiles: int) -> Tensor:
    """Where each tile's edges begin and end [tiles + 1], of edges sorted by tile; found on the device."""
    return torch.searchsorted(sorted_rows, torch.arange(tiles + 1, device=sorted_rows.device))


class NeighbourAttn(torch.autograd.Function):
    """Attention over neighbours with its gradient; see `mil.kernels.neighbour_attn.neighbour_attn`."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        vector: Tensor,
        sources: Tensor,
        targets: Tensor,
        slope: float,
    ) -> tuple[Tensor, Tensor]:
        """Messages and mean attention; keeps one number an edge and head."""
        queries, keys, vector, sources, targets = (
            t.contiguous() for t in (queries, keys, vector, sources, targets)
        )
        (tiles, heads, width), edges = queries.shape, len(sources)
        blocks, how = config(width)
        bounds = bounds_of(targets, tiles)
        messages = torch.empty_like(queries)
        mean = queries.new_empty(edges, dtype=torch.float32)
        attention = mean.new_empty(edges, heads)
        tops, totals = (mean.new_empty(tiles, heads) for _ in range(2))
        _forward_kernel[(tiles * heads,)](
            queries,
            keys,
            vector,
            sources,
            bounds,
            messages,
            attention,
            tops,
            totals,
            heads,
            width,
            slope,
            **blocks,
            **how,
        )
        _attention_kernel[(triton.cdiv(edges, EDGES),)](
            attention,
            targets,
            tops,
            totals,
            mean,
            edges,
            heads,
            BLOCK_E=EDGES,
            num_warps=4,
            num_stages=2,
        )
        ctx.slope = slope
        ctx.save_for_backward(queries, keys, vector, sources, targets, bounds, attention)
        return messages, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and the vector."""
        queries, keys, vector, sources, targets, bounds, attention = ctx.saved_tensors
        d_messages, d_mean = (grad.contiguous() for grad in grads)
        tiles, heads, width = queries.shape
        blocks, how = config(width)
        parts = min(tiles, PARTS)
        d_queries, d_keys, d_attention = (torch.empty_like(t) for t in (queries, keys, attention))
        deltas = attention.new_empty(tiles, heads)
        d_vectors = attention.new_empty(parts, heads, width)
        _queries_grad_kernel[(parts * heads,)](
            queries,
            keys,
            vector,
            sources,
            bounds,
            attention,
            d_messages,
            d_mean,
            d_queries,
            d_attention,
            deltas,
            d_vectors,
            tiles,
            heads,
            width,
            ctx.slope,
            **blocks,
            **how,
        )
        by_source, order = sources.sort(
            stable=True
        )  # a source's edges are added up in the order of their targets
        _keys_grad_kernel[(tiles * heads,)](
            queries,
            keys,
            vector,
            targets,
            order,
            bounds_of(by_source, tiles),
            attention,
            d_attention,
            deltas,
            d_messages,
            d_keys,
            heads,
            width,
            ctx.slope,
            **blocks,
            **how,
        )
        return d_queries, d_keys, d_vectors.sum(0).to(vector.dtype), None, None, None


def variants() -> Iterator[Variant]:
    """What the launchers launch, up to the largest width that anybody has."""
    numbers = dict.fromkeys(
        ("scores", "attention", "tops", "totals", "mean", "d_mean", "deltas"), "*fp32"
    )
    numbers |= dict.fromkeys(("vector", "d_attention", "d_vectors"), "*fp32")
    numbers |= dict.fromkeys(("sources", "targets", "order", "bounds"), "*i64")
    numbers |= {"tiles": "i32", "edges": "i32", "heads": "i32", "slope": "fp32", "width": "i32:16"}

    def variant(
        name: str, kernel: Any, types: dict[str, str], blocks: dict[str, int], how: dict[str, int]
    ) -> Variant:
        return Variant(
            name, kernel, {n: types[n] for n in kernel.arg_names if n not in blocks}, blocks, **how
        )

    yield variant(
        "attention",
        _attention_kernel,
        numbers,
        {"BLOCK_E": EDGES},
        {"num_warps": 4, "num_stages": 2},
    )
    rows = ("queries", "keys", "messages", "d_messages", "d_queries", "d_keys")
    widths = [16 << doubled for doubled in range(8)]
    for type_, own in (("fp32", widths), ("bf16", widths), ("fp16", [128])):
        for width in own:
            for kernel in (_forward_kernel, _queries_grad_kernel, _keys_grad_kernel):
                types = numbers | dict.fromkeys(rows, f"*{type_}")
                yield variant(f"{type_} {width}", kernel, types, *config(width))
