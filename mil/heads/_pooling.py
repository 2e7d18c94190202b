"""Tiles pooled by attention, with its statistics where they cost nothing."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import AttentionStats
from mil.kernels.attn_pool import attn_pool, attn_pool_with_stats, uses_triton


class Pooling(NamedTuple):
    """Average of each bag's tiles, weighted by the softmax of their scores."""

    rows: Float[Tensor, "bags branches hidden"]
    scores: Float[Tensor, "tiles branches"]
    stats: AttentionStats | None = None  # None: the losses compute them from the scores


def pool_by(
    scores: Float[Tensor, "tiles branches"],
    hidden: Float[Tensor, "tiles hidden"],
    offsets: Int[Tensor, " bags_plus_1"],
) -> Pooling:
    """Pool each bag by its scores."""
    # The reference would write an attention map to memory for the statistics.
    if uses_triton(scores, hidden):
        rows, stats = attn_pool_with_stats(scores, hidden, offsets)
        return Pooling(rows, scores, stats)
    return Pooling(attn_pool(scores, hidden, offsets), scores)
