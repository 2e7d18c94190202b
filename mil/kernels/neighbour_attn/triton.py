"""Attention over neighbours in Triton.

What an edge holds is gathered again for the gradient, never written.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.compile import Variant

# Values of the edges that a program gathers per iteration; not tuned on a GPU yet.
BLOCK_VALUES = 2048
BLOCK_EDGES = 256  # edges that a program turns from scores to attention
MAX_PARTS = 2048  # most programs of a head that sum the gradient of its vector
OPTIONS = {"num_warps": 4, "num_stages": 2}  # of the attention kernel


def config(width: int) -> dict[str, int]:
    """Block sizes, warps and stages for heads of that width."""
    padded = max(16, triton.next_power_of_2(width))
    edges = min(64, max(4, BLOCK_VALUES // padded))
    # At a width of 1024, more warps spill registers.
    warps = 4 if padded <= 1024 else 8
    if padded == 16:
        warps = 2
    return {"BLOCK_E": edges, "WIDTH": padded, "num_warps": warps, "num_stages": 2}


@triton.jit
def _rows(values, tile, mask, heads, head, width, WIDTH: tl.constexpr):
    """``values[tile, head]`` of several tiles, float32, [BLOCK_E, WIDTH]."""
    o_w = tl.arange(0, WIDTH)
    m_row = mask[:, None] & (o_w < width)[None, :]
    p_row = values + (tile * heads + head)[:, None] * width + o_w[None, :]
    return tl.load(p_row, mask=m_row, other=0.0).to(tl.float32)


@triton.jit
def _forward_kernel(
    queries, keys, vector, sources, bounds, messages, scores, tile_m, tile_l, heads, width, slope,
    BLOCK_E: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """``s_j = w · LeakyReLU(q + k_j)``, ``o = sum_j exp(s_j - m) k_j / l`` of a tile and head.

    Online softmax over blocks of edges: m is the running maximum, l the normaliser.
    """
    # A tile's heads follow one another: they read the same edges.
    position = tl.program_id(0).to(tl.int64)
    head = position % heads
    o_w = tl.arange(0, WIDTH)
    m_w = o_w < width
    p_q = queries + position * width + o_w
    b_q = tl.load(p_q, mask=m_w, other=0.0).to(tl.float32)
    p_w = vector + head * width + o_w
    b_w = tl.load(p_w, mask=m_w, other=0.0).to(tl.float32)
    m = float("-inf")
    l = 0.0  # noqa: E741
    b_acc = tl.zeros([WIDTH], tl.float32)
    last = tl.load(bounds + position // heads + 1)
    for start in range(tl.load(bounds + position // heads), last, BLOCK_E):
        o_e = start + tl.arange(0, BLOCK_E)
        m_e = o_e < last
        source = tl.load(sources + o_e, mask=m_e, other=0)
        b_k = _rows(keys, source, m_e, heads, head, width, WIDTH)  # [BLOCK_E, WIDTH]
        b_sum = b_q[None, :] + b_k
        b_s = tl.sum(tl.where(b_sum > 0, b_sum, slope * b_sum) * b_w[None, :], 1)
        tl.store(scores + o_e * heads + head, b_s, mask=m_e)
        b_s = tl.where(m_e, b_s, float("-inf"))
        new_m = tl.maximum(m, tl.max(b_s, 0))
        rescale = tl.exp(m - new_m)
        b_p = tl.exp(b_s - new_m)
        l = l * rescale + tl.sum(b_p, 0)  # noqa: E741
        b_acc = b_acc * rescale + tl.sum(b_p[:, None] * b_k, 0)
        m = new_m
    b_o = b_acc / tl.where(l > 0, l, 1.0)  # a tile without edges gets zeros
    p_o = messages + position * width + o_w
    tl.store(p_o, b_o.to(messages.dtype.element_ty), mask=m_w)
    tl.store(tile_m + position, m)
    tl.store(tile_l + position, l)


@triton.jit(do_not_specialize=["edges"])
def _attention_kernel(
    attention, targets, tile_m, tile_l, mean, edges, heads, BLOCK_E: tl.constexpr
):
    """``p = exp(s - m) / l`` of each edge and head, in place of s, and its mean over heads."""
    o_e = tl.program_id(0).to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    m_e = o_e < edges
    position = tl.load(targets + o_e, mask=m_e, other=0) * heads
    b_mean = tl.zeros([BLOCK_E], tl.float32)
    for head in range(heads):
        b_s = tl.load(attention + o_e * heads + head, mask=m_e, other=0.0)
        b_s -= tl.load(tile_m + position + head, mask=m_e, other=0.0)
        b_p = tl.exp(b_s) / tl.load(tile_l + position + head, mask=m_e, other=1.0)
        tl.store(attention + o_e * heads + head, b_p, mask=m_e)
        b_mean += b_p
    tl.store(mean + o_e, b_mean / heads, mask=m_e)


@triton.jit(do_not_specialize=["tiles"])
def _queries_grad_kernel(
    queries,
    keys,
    vector,
    sources,
    bounds,
    attention,
    d_messages,
    d_mean,
    d_queries,
    dp,
    deltas,
    dw_parts,
    tiles,
    heads,
    width,
    slope,
    BLOCK_E: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """``dq = w ⊙ sum_j ds_j f'_j``, and a part of ``dw = sum ds f``, of a head and some tiles.

    f = LeakyReLU(q + k_j) and f' is its derivative; ``dp_j = k_j·do + dmean_j /
    heads``; ``ds = p (dp - delta)`` with ``delta = sum p dp``. Sums of p dp and of p
    are kept apart until delta is known, so that one pass over the edges suffices.
    """
    head = (tl.program_id(0) % heads).to(tl.int64)
    part = (tl.program_id(0) // heads).to(tl.int64)
    o_w = tl.arange(0, WIDTH)
    m_w = o_w < width
    p_w = vector + head * width + o_w
    b_w = tl.load(p_w, mask=m_w, other=0.0).to(tl.float32)
    b_dw = tl.zeros([WIDTH], tl.float32)
    # Programs side by side have tiles side by side, which gather the same neighbours.
    for tile in range(part, tiles, tl.num_programs(0) // heads):
        position = tile * heads + head
        p_q = queries + position * width + o_w
        b_q = tl.load(p_q, mask=m_w, other=0.0).to(tl.float32)
        p_do = d_messages + position * width + o_w
        b_do = tl.load(p_do, mask=m_w, other=0.0).to(tl.float32)
        delta = 0.0
        b_p_dp_slope = tl.zeros([WIDTH], tl.float32)
        b_p_slope = tl.zeros([WIDTH], tl.float32)
        b_p_dp_f = tl.zeros([WIDTH], tl.float32)
        b_p_f = tl.zeros([WIDTH], tl.float32)
        last = tl.load(bounds + tile + 1)
        for start in range(tl.load(bounds + tile), last, BLOCK_E):
            o_e = start + tl.arange(0, BLOCK_E)
            m_e = o_e < last
            source = tl.load(sources + o_e, mask=m_e, other=0)
            b_k = _rows(keys, source, m_e, heads, head, width, WIDTH)  # [BLOCK_E, WIDTH]
            b_p = tl.load(attention + o_e * heads + head, mask=m_e, other=0.0)
            b_dp = tl.sum(b_k * b_do[None, :], 1)
            b_dp += tl.load(d_mean + o_e, mask=m_e, other=0.0) / heads
            tl.store(dp + o_e * heads + head, b_dp, mask=m_e)
            b_f = b_q[None, :] + b_k
            b_slope = tl.where(b_f > 0, 1.0, slope)
            b_f *= b_slope
            b_p_dp = b_p * b_dp
            delta += tl.sum(b_p_dp, 0)
            b_p_slope += tl.sum(b_p[:, None] * b_slope, 0)
            b_p_dp_slope += tl.sum(b_p_dp[:, None] * b_slope, 0)
            b_p_f += tl.sum(b_p[:, None] * b_f, 0)
            b_p_dp_f += tl.sum(b_p_dp[:, None] * b_f, 0)
        b_dw += b_p_dp_f - delta * b_p_f
        b_dq = b_w * (b_p_dp_slope - delta * b_p_slope)
        p_dq = d_queries + position * width + o_w
        tl.store(p_dq, b_dq.to(d_queries.dtype.element_ty), mask=m_w)
        tl.store(deltas + position, delta)
    p_dw_parts = dw_parts + (part * heads + head) * width + o_w
    tl.store(p_dw_parts, b_dw, mask=m_w)


@triton.jit
def _keys_grad_kernel(
    queries, keys, vector, targets, order, bounds, attention, dp, deltas, d_messages, d_keys,
    heads, width, slope, BLOCK_E: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """``dk = sum_i (ds_i w ⊙ f'_i + p_i do_i)`` of a tile and head, over the edges from the tile.

    `order` lists the edges sorted by source, `bounds` where each source's begin in it.
    """
    position = tl.program_id(0).to(tl.int64)
    head = position % heads
    o_w = tl.arange(0, WIDTH)
    m_w = o_w < width
    p_k = keys + position * width + o_w
    b_k = tl.load(p_k, mask=m_w, other=0.0).to(tl.float32)
    p_w = vector + head * width + o_w
    b_w = tl.load(p_w, mask=m_w, other=0.0).to(tl.float32)
    b_dk = tl.zeros([WIDTH], tl.float32)
    last = tl.load(bounds + position // heads + 1)
    for start in range(tl.load(bounds + position // heads), last, BLOCK_E):
        o_e = start + tl.arange(0, BLOCK_E)
        m_e = o_e < last
        edge = tl.load(order + o_e, mask=m_e, other=0)
        target = tl.load(targets + edge, mask=m_e, other=0)
        b_p = tl.load(attention + edge * heads + head, mask=m_e, other=0.0)
        b_dp = tl.load(dp + edge * heads + head, mask=m_e, other=0.0)
        p_deltas = deltas + target * heads + head
        b_ds = b_p * (b_dp - tl.load(p_deltas, mask=m_e, other=0.0))
        # [BLOCK_E, WIDTH]
        b_sum = _rows(queries, target, m_e, heads, head, width, WIDTH) + b_k[None, :]
        b_dk += b_w * tl.sum(b_ds[:, None] * tl.where(b_sum > 0, 1.0, slope), 0)
        b_do = _rows(d_messages, target, m_e, heads, head, width, WIDTH)
        b_dk += tl.sum(b_p[:, None] * b_do, 0)
    p_dk = d_keys + position * width + o_w
    tl.store(p_dk, b_dk.to(d_keys.dtype.element_ty), mask=m_w)


def edge_bounds(sorted_tiles: Tensor, tiles: int) -> Tensor:
    """First edge of each tile [tiles + 1], for edges sorted by tile; computed on the device."""
    return torch.searchsorted(sorted_tiles, torch.arange(tiles + 1, device=sorted_tiles.device))


def neighbour_attn_forward(
    queries: Tensor,
    keys: Tensor,
    vector: Tensor,
    sources: Tensor,
    targets: Tensor,
    bounds: Tensor,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Messages [tiles, heads, width], attention [edges, heads], and its mean [edges].

    Args:
        queries: [tiles, heads, width], contiguous as all others.
        keys: [tiles, heads, width].
        vector: [heads, width].
        sources: [edges].
        targets: [edges], sorted.
        bounds: [tiles + 1], first edge of each target.
        slope: slope of the LeakyReLU below 0.
    """
    (tiles, heads, width), edges = queries.shape, len(sources)
    messages = torch.empty_like(queries)
    mean = queries.new_empty(edges, dtype=torch.float32)
    attention = mean.new_empty(edges, heads)
    tile_m = mean.new_empty(tiles, heads)
    tile_l = mean.new_empty(tiles, heads)
    _forward_kernel[(tiles * heads,)](
        queries,
        keys,
        vector,
        sources,
        bounds,
        messages,
        attention,
        tile_m,
        tile_l,
        heads,
        width,
        slope,
        **config(width),
    )
    _attention_kernel[(triton.cdiv(edges, BLOCK_EDGES),)](
        attention, targets, tile_m, tile_l, mean, edges, heads, BLOCK_E=BLOCK_EDGES, **OPTIONS
    )
    return messages, attention, mean


def neighbour_attn_backward(
    queries: Tensor,
    keys: Tensor,
    vector: Tensor,
    sources: Tensor,
    targets: Tensor,
    attention: Tensor,
    bounds: Tensor,
    slope: float,
    d_messages: Tensor,
    d_mean: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and vector.

    Args:
        queries: [tiles, heads, width], contiguous as all others.
        keys: [tiles, heads, width].
        vector: [heads, width].
        sources: [edges].
        targets: [edges], sorted.
        attention: [edges, heads], from the forward pass.
        bounds: [tiles + 1], first edge of each target.
        slope: slope of the LeakyReLU below 0.
        d_messages: [tiles, heads, width].
        d_mean: [edges], gradient of the attention's mean over the heads.
    """
    tiles, heads, width = queries.shape
    parts = min(tiles, MAX_PARTS)
    d_queries = torch.empty_like(queries)
    d_keys = torch.empty_like(keys)
    dp = torch.empty_like(attention)
    deltas = attention.new_empty(tiles, heads)
    dw_parts = attention.new_empty(parts, heads, width)
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
        dp,
        deltas,
        dw_parts,
        tiles,
        heads,
        width,
        slope,
        **config(width),
    )
    # Stable: a source's edges are summed in the order of their targets, the same each
    # time.
    by_source, order = sources.sort(stable=True)
    _keys_grad_kernel[(tiles * heads,)](
        queries,
        keys,
        vector,
        targets,
        order,
        edge_bounds(by_source, tiles),
        attention,
        dp,
        deltas,
        d_messages,
        d_keys,
        heads,
        width,
        slope,
        **config(width),
    )
    return d_queries, d_keys, dw_parts.sum(0).to(vector.dtype)


def variants() -> Iterator[Variant]:
    """Compilations that the launches can ask for, up to widths of 2048."""
    float32 = ("scores", "attention", "tile_m", "tile_l", "mean", "d_mean", "deltas", "dp")
    types = dict.fromkeys((*float32, "vector", "dw_parts"), "*fp32")
    types |= dict.fromkeys(("sources", "targets", "order", "bounds"), "*i64")
    types |= {"tiles": "i32", "edges": "i32", "heads": "i32", "slope": "fp32", "width": "i32:16"}
    yield Variant.of("attention", _attention_kernel, types, {"BLOCK_E": BLOCK_EDGES} | OPTIONS)
    rows = ("queries", "keys", "messages", "d_messages", "d_queries", "d_keys")
    all_widths = [16 << power for power in range(8)]
    # Half precision of either kind compiles alike.
    for dtype, widths in (("fp32", all_widths), ("bf16", all_widths), ("fp16", [128])):
        types |= dict.fromkeys(rows, f"*{dtype}")
        for width in widths:
            for kernel in (_forward_kernel, _queries_grad_kernel, _keys_grad_kernel):
                yield Variant.of(f"{dtype} {width}", kernel, types, config(width))
