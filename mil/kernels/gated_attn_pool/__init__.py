"""Reduce, score, pool: the trunk of the heads with gated attention, in one operation."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from mil.bags import AttentionStats
from mil.kernels.dispatch import Backend
from mil.kernels.gated_attn_pool.function import CpuGatedAttnPool, GatedAttnPoolFunction
from mil.kernels.gated_attn_pool.reference import (
    Mask,
    TrunkDropout,
    TrunkWeights,
    gated_attn_pool_reference,
)
from mil.kernels.gated_scores import choose_gated

__all__ = [
    "Backend",
    "Mask",
    "TrunkDropout",
    "TrunkWeights",
    "gated_attn_pool",
    "supports_dropout",
]

NO_DROPOUT = TrunkDropout(None, None)


def gated_attn_pool(
    features: Float[Tensor, "tiles dim"],
    weights: TrunkWeights,
    offsets: Int[Tensor, " bags_plus_1"],
    mask: Mask | None = None,
    backend: Backend = "auto",
    dropout: TrunkDropout = NO_DROPOUT,
) -> tuple[
    Float[Tensor, "bags branches hidden"],
    Float[Tensor, "tiles branches"],
    AttentionStats | None,
]:
    """Pool each bag's reduced tiles by gated attention.

    Args:
        features: features, in the type of the matrix products; sums are kept in float32
            at least.
        weights: parameters of the reducer, ``h = relu(W x + a)``, and of the scores,
            ``w · (tanh(V h + b) ⊙ sigmoid(U h + c)) + d``.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``; no bag is empty.
        mask: function of the scores that returns them with some replaced; replaced
            scores
            get no gradient.
        backend: see `mil.kernels.dispatch.choose_backend`; `cpu` needs float32 or
            bfloat16 with weights in float32, `triton` at most 16 branches.
        dropout: what is dropped of h, and of the product of the gates; not by Triton,
            see `supports_dropout`.

    Returns:
        Pooled rows, one for each bag and branch; the scores that they were pooled by;
        statistics of the attention from Triton, None from other backends. Float32, or
        float64 for features of float64. All are differentiable.

    Raises:
        ValueError: `backend` is "triton", and it does not support these tensors.
    """
    # Several heads that are trained as a stack are computed at once.
    if has_torch_function((features,)):
        arguments = (features, weights, offsets, mask, backend, dropout)
        outputs: tuple[Tensor, Tensor, AttentionStats | None] = handle_torch_function(
            gated_attn_pool, (features,), *arguments
        )
        return outputs
    weights = dropout.scaled(weights)
    keep = dropout.keep
    chosen = choose_gated(backend, features, weights, len(weights.score))
    if chosen == "reference":
        return *gated_attn_pool_reference(features, weights, offsets, mask, keep), None
    # Inside an autograd function gradients are always off: it cannot ask itself.
    learning = torch.is_grad_enabled()
    if chosen == "cpu":
        pooled, scores = CpuGatedAttnPool.apply(features, *weights, offsets, mask, learning, *keep)
        return pooled, scores, None
    assert all(mask is None for mask in dropout), "the Triton form has no dropout"
    # Triton launches on the current device, which need not be the tensors'.
    with torch.cuda.device_of(features):
        results = GatedAttnPoolFunction.apply(features, *weights, offsets, mask, learning)
    pooled, scores, *stats = results
    return pooled, scores, AttentionStats(*stats)


def supports_dropout(features: Float[Tensor, "tiles dim"], weights: TrunkWeights) -> bool:
    """Whether `gated_attn_pool` can drop numbers of these: on a CPU, but not by Triton."""
    if features.device.type != "cpu":
        return False
    return choose_gated("auto", features, weights, len(weights.score)) != "triton"
