"""Attention pooling in Triton: one pass over a bag in either direction, no attention map in memory."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.attn_pool.backward import attn_pool_backward
from mil.kernels.attn_pool.forward import attn_pool_forward
from mil.kernels.attn_pool.sums import Gradients, Sums

__all__ = ["AttnPool", "Gradients", "Sums", "attn_pool_backward", "attn_pool_forward"]


class AttnPool(torch.autograd.Function):
    """Attention pooling and its statistics with their gradient; see `mil.kernels.attn_pool.attn_pool_with_stats`."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, features: Tensor, offsets: Tensor, stats: bool
    ) -> tuple[Tensor, ...]:
        """Pooled rows and, if wanted, the three of `AttentionStats`; keeps what the gradient needs."""
        scores = scores.contiguous()
        features = features.contiguous()
        sums = attn_pool_forward(scores, features, offsets)
        ctx.save_for_backward(scores, features, offsets, *sums)
        ctx.set_materialize_grads(False)
        return sums.pooled().to(features.dtype), *(sums.stats() if stats else ())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, Tensor | None, None, None]:
        """Gradients of scores and features."""
        scores, features, offsets, *sums = ctx.saved_tensors
        d_features = torch.empty_like(features) if ctx.needs_input_grad[1] else None
        d_scores = attn_pool_backward(
            scores, features, offsets, Gradients.of(Sums(*sums), *grads), d_features
        )
        return d_scores, d_features, None, None
