"""Tiles pooled by attention, with what the losses need to know of it where that costs nothing."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import AttentionStats
from mil.kernels.attn_pool import attn_pool, attn_pool_with_stats, by_triton


class Pooling(NamedTuple):
    """What each bag's tiles were averaged to by the softmax of their scores."""

    rows: Float[Tensor, "bags branches hidden"]
    scores: Float[Tensor, "tiles branches"]
    stats: AttentionStats | None = None  # None: to be had from the scores


def pool_by(
    scores: Float[Tensor, "tiles branches"],
    hidden: Float[Tensor, "tiles hidden"],
    offsets: Int[Tensor, " bags_plus_1"],
) -> Pooling:
    """Pool each bag by its scores."""
    if by_triton(scores, hidden):  # else the statistics would cost an attention map
        rows, stats = attn_pool_with_stats(scores, hidden, offsets)
        return Pooling(rows, scores, stats)
    return Pooling(attn_pool(scores, hidden, offsets), scores)
