"""Definition of attention between segments, in plain torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.kernels.dispatch import at_least_float32


def bag_attn_reference(
    queries: Float[Tensor, "queries query_heads width"],
    keys: Float[Tensor, "keys key_heads width"],
    values: Float[Tensor, "keys key_heads value_width"],
    query_offsets: Int[Tensor, " segments_plus_1"],
    key_offsets: Int[Tensor, " segments_plus_1"],
    key_bias: Float[Tensor, "keys key_heads"] | None,
) -> tuple[Float[Tensor, "queries query_heads value_width"], Float[Tensor, "queries query_heads"]]:
    """``o = softmax(q kᵀ / sqrt(width) + b) v`` for each segment and head.

    The map of a segment is in memory.
    """
    per_key_head = queries.shape[1] // keys.shape[1]
    sizes = key_offsets.diff().tolist()
    of_queries = queries.split(query_offsets.diff().tolist())
    of_keys = keys.repeat_interleave(per_key_head, 1).split(sizes)
    of_values = values.repeat_interleave(per_key_head, 1).split(sizes)
    biases = keys.new_zeros(keys.shape[:2]) if key_bias is None else key_bias
    of_biases = biases.repeat_interleave(per_key_head, 1).split(sizes)
    rows = []
    lse = []
    for q, k, v, bias in zip(of_queries, of_keys, of_values, of_biases, strict=True):
        scores = torch.einsum("qhw,khw->qhk", q, k) / q.shape[2] ** 0.5
        scores = at_least_float32(scores + bias.T)
        if len(k) == 0:
            rows.append(v.new_zeros(len(q), q.shape[1], v.shape[2]))
            lse.append(scores.new_full(scores.shape[:2], -torch.inf))
            continue
        rows.append(torch.einsum("qhk,khw->qhw", scores.softmax(-1).to(v.dtype), v))
        lse.append(scores.logsumexp(-1))
    return torch.cat(rows), torch.cat(lse)
