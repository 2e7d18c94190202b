"""Attention of segments that have one key each: its softmax is 1, and no blocks are needed."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.kernels.dispatch import at_least_float32


def has_one_key_each(
    keys: Float[Tensor, "keys key_heads width"], key_offsets: Int[Tensor, " segments_plus_1"]
) -> bool:
    """Whether every segment has one key; for offsets on a CPU, that nothing waits for."""
    return len(keys) == len(key_offsets) - 1 and bool((key_offsets.diff() == 1).all())


def one_key_attn(
    queries: Float[Tensor, "queries query_heads width"],
    keys: Float[Tensor, "segments key_heads width"],
    values: Float[Tensor, "segments key_heads value_width"],
    query_offsets: Int[Tensor, " segments_plus_1"],
    key_bias: Float[Tensor, "segments key_heads"] | None,
) -> tuple[Float[Tensor, "queries query_heads value_width"], Float[Tensor, "queries query_heads"]]:
    """``o_i = v_j``, and the score as log-sum-exp; j is the key of the segment of query i."""
    key_heads = keys.shape[1]
    segment_of = torch.repeat_interleave(query_offsets.diff(), output_size=len(queries))
    q = at_least_float32(queries).unflatten(1, (key_heads, -1))
    k = at_least_float32(keys).index_select(0, segment_of)[:, :, None]
    lse = (q * k).sum(-1) * queries.shape[2] ** -0.5
    if key_bias is not None:
        lse = lse + at_least_float32(key_bias).index_select(0, segment_of)[..., None]
    rows = values.index_select(0, segment_of)[:, :, None].expand(-1, -1, q.shape[2], -1)
    return rows.flatten(1, 2), lse.flatten(1, 2)
