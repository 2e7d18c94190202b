"""Attention pooling by Triton as an autograd function."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.attn_pool.sums import BagGradients, SoftmaxSums
from mil.kernels.attn_pool.triton_backward import attn_pool_backward
from mil.kernels.attn_pool.triton_forward import attn_pool_forward


class Saved(NamedTuple):
    """Tensors kept for the gradient."""

    scores: Tensor
    features: Tensor
    offsets: Tensor
    sums: SoftmaxSums

    def pack(self) -> tuple[Tensor, ...]:
        """Flat, for `save_for_backward`."""
        return self.scores, self.features, self.offsets, *self.sums

    @classmethod
    def unpack(cls, tensors: tuple[Tensor, ...]) -> "Saved":
        """Inverse of `pack`."""
        scores, features, offsets, *sums = tensors
        return cls(scores, features, offsets, SoftmaxSums(*sums))


class AttnPoolFunction(torch.autograd.Function):
    """Attention pooling and its statistics; see `mil.kernels.attn_pool.attn_pool_with_stats`."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, features: Tensor, offsets: Tensor, stats: bool
    ) -> tuple[Tensor, ...]:
        """Pooled rows and, with `stats`, the three fields of `AttentionStats`."""
        scores = scores.contiguous()
        features = features.contiguous()
        sums = attn_pool_forward(scores, features, offsets)
        ctx.save_for_backward(*Saved(scores, features, offsets, sums).pack())
        # A statistic that no loss reads then has no gradient, instead of one of zeros.
        ctx.set_materialize_grads(False)
        pooled = sums.pooled().to(features.dtype)
        return (pooled, *sums.stats()) if stats else (pooled,)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, Tensor | None, None, None]:
        """Gradients of scores and features."""
        scores, features, offsets, sums = Saved.unpack(ctx.saved_tensors)
        shared = BagGradients.of(sums, *grads)
        d_features = torch.empty_like(features) if ctx.needs_input_grad[1] else None
        d_scores = attn_pool_backward(scores, features, offsets, shared, d_features)
        return d_scores, d_features, None, None
