"""Attention between segments in Triton, forward: online softmax over blocks of keys.

FlashAttention's, Dao 2023, https://arxiv.org/abs/2307.08691, over segments of any length. A
program has a block of queries and a head. Where that gives few programs, as a few agents that
gather from all tiles do, the keys of each segment are split into parts, which are merged.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from mil.kernels.compile import Constant, Variant
from mil.kernels.segments import split_bags
from mil.kernels.triton_helpers import head_rows, segment_rows, store_head_rows
from mil.kernels.tuning import tuned

# Programs that occupy a large GPU; with fewer, the rows that they walk over are split.
MAX_PROGRAMS = 1024
# Least rows of a part, if all were one segment's.
MIN_ROWS = 1024
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@triton.jit
def part_rows(offsets, segment, part, parts, BLOCK: tl.constexpr):
    """First row of a part of a segment, whole blocks long, and the row after its last."""
    first = tl.load(offsets + segment)
    last = tl.load(offsets + segment + 1)
    rows = tl.cdiv(tl.cdiv(last - first, BLOCK), parts) * BLOCK
    first += part * rows
    return first, tl.minimum(first + rows, last)


@triton.jit(do_not_specialize=["segments", "num_queries", "heads", "key_heads", "parts"])
def _forward_kernel(
    queries,
    keys,
    values,
    key_bias,
    query_offsets,
    key_offsets,
    segment_of,
    firsts,
    rows,
    lse,
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
    """``s = scale q kᵀ + b``, ``o = sum_j exp(s_j - m) v_j / l``, ``lse = m + log l``.

    Of a block of queries, a head, and a part of the keys of their segment. Part by part
    `rows` is [parts, queries, heads, width], and `lse` alike.
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
        b_m = tl.full([BLOCK_I], float("-inf"), tl.float32)
        b_l = tl.zeros([BLOCK_I], tl.float32)
        b_acc = tl.zeros([BLOCK_I, WIDTH], tl.float32)
        first_key, last_key = part_rows(key_offsets, segment, part, parts, BLOCK_J)
        for start in range(first_key, last_key, BLOCK_J):
            o_j = start + tl.arange(0, BLOCK_J)
            m_j = o_j < last_key
            b_k = head_rows(keys, o_j, m_j, key_heads, key_head, width, WIDTH)
            b_s = tl.dot(b_q, tl.trans(b_k), input_precision="ieee") * scale
            if key_bias is not None:
                p_bias = key_bias + o_j * key_heads + key_head
                b_s += tl.load(p_bias, mask=m_j, other=0.0)[None, :]
            b_s = tl.where(m_j[None, :], b_s, float("-inf"))
            new_m = tl.maximum(b_m, tl.max(b_s, 1))
            b_rescale = tl.exp(b_m - new_m)
            b_p = tl.exp(b_s - new_m[:, None])
            b_l = b_l * b_rescale + tl.sum(b_p, 1)
            b_v = head_rows(values, o_j, m_j, key_heads, key_head, width, WIDTH)
            b_acc = b_acc * b_rescale[:, None]
            b_acc = tl.dot(b_p.to(b_v.dtype), b_v, b_acc, input_precision="ieee")
            b_m = new_m
        b_l = tl.where(b_l > 0, b_l, 1.0)  # without keys o is 0, and lse is m, -inf
        b_o = b_acc / b_l[:, None]
        o_row = part * num_queries + o_i
        store_head_rows(rows, b_o, o_row, m_i, heads, head, width, WIDTH)
        tl.store(lse + o_row * heads + head, b_m + tl.log(b_l), mask=m_i)


def padded(width: int) -> int:
    """Columns of a block: 64 or 128; narrower blocks spill registers in float32."""
    return max(64, triton.next_power_of_2(width))


def config(dtype: torch.dtype, width: int) -> dict[str, int]:
    """Blocks, warps and stages; not tuned on a GPU yet."""
    wide = padded(width) > 64
    if dtype == torch.float32:
        return {
            "BLOCK_I": 32,
            "BLOCK_J": 16 if wide else 32,
            "num_warps": 8,
            "num_stages": 1 if wide else 2,
        }
    return {"BLOCK_I": 64, "BLOCK_J": 32, "num_warps": 4, "num_stages": 3}


def parts_for(programs: int, rows: int) -> int:
    """Parts of the rows that each of so many programs walks over."""
    return max(1, min(MAX_PROGRAMS // max(programs, 1), rows // MIN_ROWS))


def bag_attn_forward(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    key_bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Rows [queries, heads, width] in the type of the values, and log-sum-exps, float32.

    Args:
        queries: [queries, heads, width], contiguous as all others; of one type with keys
            and values, width a multiple of 16.
        keys: [keys, key heads, width].
        values: [keys, key heads, width].
        query_offsets: [segments + 1].
        key_offsets: [segments + 1].
        key_bias: [keys, key heads], float32, or None.
        scale: Factor of the products.
    """
    count, heads, width = queries.shape
    blocks = config(queries.dtype, width)
    blocks |= tuned("bag_attn.forward", queries.dtype, width, queries.device)
    segments = split_bags(query_offsets, count, blocks["BLOCK_I"])
    programs = len(segments.bag_of)
    parts = parts_for(programs * heads, len(keys))
    dtype = values.dtype if parts == 1 else torch.float32
    rows = torch.empty(parts, count, heads, width, dtype=dtype, device=queries.device)
    lse = torch.empty(parts, count, heads, device=queries.device)
    if count:
        _forward_kernel[(programs, heads, parts)](
            queries,
            keys,
            values,
            key_bias,
            query_offsets,
            key_offsets,
            segments.bag_of,
            segments.firsts,
            rows,
            lse,
            len(query_offsets) - 1,
            count,
            heads,
            keys.shape[1],
            parts,
            width,
            scale,
            WIDTH=padded(width),
            **blocks,
        )
    return (rows[0], lse[0]) if parts == 1 else merged(rows, lse, values.dtype)


def merged(rows: Tensor, lse: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows and log-sum-exps of all parts, which are the first axis; in the order of the parts."""
    total = lse.logsumexp(0)
    # A segment without keys: all its parts have rows of zeros.
    shares = (lse - total.masked_fill(total.isneginf(), 0.0)).exp()
    return (rows * shares[..., None]).sum(0).to(dtype), total


def variants() -> Iterator[Variant]:
    """Compilations that the launch can ask for."""
    for label, types, keywords, name, width in of_widths():
        blocks = config(DTYPES[name], width) | keywords
        yield Variant.of(label, _forward_kernel, types | {"rows": f"*{name}"}, blocks)
        if name == "bf16":
            # Parts to be merged.
            yield Variant.of(f"{label}, parts", _forward_kernel, types | {"rows": "*fp32"}, blocks)


def of_widths() -> Iterator[tuple[str, dict[str, str], dict[str, Constant], str, int]]:
    """Name, argument types and constants by type and width, with bias and without."""
    types = dict.fromkeys(("key_bias", "lse", "d_lse", "delta", "d_bias"), "*fp32")
    offsets = ("query_offsets", "key_offsets", "segment_of", "firsts")
    types |= dict.fromkeys(offsets, "*i64")
    numbers = ("segments", "num_queries", "num_keys", "heads", "key_heads", "parts")
    types |= dict.fromkeys(numbers, "i32") | {"width": "i32:16", "scale": "fp32"}
    all_widths = (64, 128)
    # Half precision of either kind compiles alike.
    for name, widths in (("fp32", all_widths), ("bf16", all_widths), ("fp16", (64,))):
        rows = ("queries", "keys", "values", "out", "d_rows")
        of_type = types | dict.fromkeys(rows, f"*{name}")
        for width in widths:
            known: dict[str, Constant] = {"WIDTH": width}
            yield f"{name} {width}, bias", of_type, known, name, width
            if name != "fp16":
                yield f"{name} {width}", of_type, known | {"key_bias": None}, name, width
