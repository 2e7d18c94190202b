"""Reduce, score, pool: the trunk of the heads with gated attention, in one operation."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import AttentionStats
from mil.kernels.backend import Backend
from mil.kernels.gated_attn_pool.cpu import ChunkedGatedAttnPool
from mil.kernels.gated_attn_pool.reference import Mask, Weights, gated_attn_pool_reference
from mil.kernels.gated_scores.common import choose_gated

__all__ = ["Backend", "Mask", "Weights", "gated_attn_pool"]


def gated_attn_pool(
    features: Float[Tensor, "tiles dim"],
    weights: Weights,
    offsets: Int[Tensor, " bags_plus_1"],
    mask: Mask | None = None,
    backend: Backend = "auto",
) -> tuple[
    Float[Tensor, "bags branches hidden"], Float[Tensor, "tiles branches"], AttentionStats | None
]:
    """Pool each bag's reduced tiles by gated attention.

    Args:
        features: their type is that of the matrix products; sums are kept in float32 at
            least.
        weights: of the reducer, ``relu(W x)``, and of the scores, ``w · (tanh(V h + b)
            ⊙ sigmoid(U h + c)) + d``.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; no bag is empty.
        mask: given the scores, gives them with other numbers in the place of some,
            which get no gradient.
        backend: see `mil.kernels.backend.choose`; `cpu` is for float32 and bfloat16
            with weights in float32, `triton` for at most 16 branches.

    Returns:
        One row a bag and branch, and the scores that they were pooled by; float32, or
        float64 of float64 features. By Triton also statistics of the attention, with a
        gradient, which cost next to nothing on the way.

    Raises:
        ValueError: Triton is asked for, and it is not made for these.
    """
    chosen = choose_gated(backend, features, weights, len(weights.score))
    if chosen == "reference":
        return *gated_attn_pool_reference(features, weights, offsets, mask), None
    learning = torch.is_grad_enabled()  # which an autograd function cannot ask itself
    if chosen == "cpu":
        pooled, scores = ChunkedGatedAttnPool.apply(features, *weights, offsets, mask, learning)
        return pooled, scores, None
    from mil.kernels.gated_attn_pool.kernel import (
        GatedAttnPool,
    )  # Triton is needed only on this path

    with torch.cuda.device_of(features):  # where Triton launches
        pooled, scores, *stats = GatedAttnPool.apply(features, *weights, offsets, mask, learning)
    return pooled, scores, AttentionStats(*stats)
