"""Definition of attention within a window, in plain torch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.kernels.dispatch import at_least_float32


def window_attn_reference(
    queries: Float[Tensor, "rows query_heads width"],
    keys: Float[Tensor, "rows key_heads width"],
    values: Float[Tensor, "rows key_heads value_width"],
    neighbours: Int[Tensor, "window rows"],
    bias: Float[Tensor, "window query_heads"],
) -> Float[Tensor, "rows query_heads value_width"]:
    """``o_i = softmax_n(q_i · k_j / sqrt(width) + b_n) v_j``, ``j = neighbours[n, i]``.

    The keys and values of all windows are in memory.
    """
    per_key_head = queries.shape[1] // keys.shape[1]
    index = neighbours.clamp(min=0)
    of_keys = keys.repeat_interleave(per_key_head, 1)[index]  # [window, rows, heads, width]
    of_values = values.repeat_interleave(per_key_head, 1)[index]
    scores = (queries * of_keys).sum(-1) / queries.shape[2] ** 0.5
    scores = at_least_float32(scores + bias[:, None])
    scores = scores.masked_fill(neighbours[..., None] < 0, -torch.inf)
    weights = scores.softmax(0).to(values.dtype)
    return (weights[..., None] * of_values).sum(0)
