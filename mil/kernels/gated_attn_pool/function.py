"""Reducing, scoring and pooling as autograd functions: tiled on a CPU, and by Triton."""

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.attn_pool.sums import BagGradients, SoftmaxSums
from mil.kernels.gated_attn_pool import cpu
from mil.kernels.gated_attn_pool.reference import TrunkKeep, TrunkWeights
from mil.kernels.gated_scores.function import cast_like
from mil.kernels.saved import take

if TYPE_CHECKING:
    from mil.kernels.gated_attn_pool.cuda import GpuForward

NUM_WEIGHTS = len(TrunkWeights._fields)


class CpuSaved(NamedTuple):
    """Tensors kept for the gradient on a CPU."""

    features: Tensor
    weights: TrunkWeights
    offsets: Tensor
    keep: TrunkKeep
    kept: cpu.CpuKept
    forward: cpu.CpuForward

    def pack(self) -> tuple[Tensor | None, ...]:
        """Flat, for `save_for_backward`."""
        parts = (self.weights, (self.offsets,), self.keep, self.kept, self.forward)
        return self.features, *chain.from_iterable(parts)

    @classmethod
    def unpack(cls, saved: tuple[Any, ...]) -> "CpuSaved":
        """Inverse of `pack`."""
        tensors = iter(saved)
        return cls(
            features=next(tensors),
            weights=take(TrunkWeights, tensors),
            offsets=next(tensors),
            keep=take(TrunkKeep, tensors),
            kept=take(cpu.CpuKept, tensors),
            forward=take(cpu.CpuForward, tensors),
        )


class CpuGatedAttnPool(torch.autograd.Function):
    """Tiled on a CPU; see `mil.kernels.gated_attn_pool.gated_attn_pool`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
        """Pooled rows and scores.

        Args:
            ctx: context of autograd.
            features: [tiles, dim].
            inputs: the fields of `TrunkWeights`, offsets, mask, whether a gradient can
                be asked for, and the fields of `TrunkKeep`.
        """
        weights = TrunkWeights(*inputs[:NUM_WEIGHTS])
        offsets, mask, learning, *rest = inputs[NUM_WEIGHTS:]
        keep = TrunkKeep(*rest)
        kept = cpu.room_for(features, weights, learning=learning and any(ctx.needs_input_grad))
        # Autocast would cast a chunk's matrices once more, to a type of its own.
        with torch.autocast("cpu", enabled=False):
            trunk = cpu.CpuTrunk(features, weights, kept, keep)
            scores, forward = cpu.gated_attn_pool_forward(trunk, weights.score_bias, offsets, mask)
        ctx.save_for_backward(*CpuSaved(features, weights, offsets, keep, kept, forward).pack())
        return forward.pooled, scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of features and weights."""
        saved = CpuSaved.unpack(ctx.saved_tensors)
        d_pooled, d_scores = grads
        d_features = torch.empty_like(saved.features) if ctx.needs_input_grad[0] else None
        with torch.autocast("cpu", enabled=False):
            trunk = cpu.CpuTrunk(saved.features, saved.weights, saved.kept, saved.keep)
            d_weights = cpu.gated_attn_pool_backward(
                trunk, saved.offsets, saved.forward, d_pooled, d_scores, d_features
            )
        return d_features, *d_weights, None, None, None, None, None


class GpuSaved(NamedTuple):
    """Tensors kept for the gradient on a GPU."""

    features: Tensor
    weights: TrunkWeights
    offsets: Tensor
    kept: Tensor
    forward: "GpuForward"

    def pack(self) -> tuple[Tensor | None, ...]:
        """Flat, for `save_for_backward`."""
        scores, masked, sums = self.forward
        return self.features, *self.weights, self.offsets, self.kept, scores, masked, *sums

    @classmethod
    def unpack(cls, saved: tuple[Any, ...]) -> "GpuSaved":
        """Inverse of `pack`."""
        # Imported here and below: Triton exists on Linux alone.
        from mil.kernels.gated_attn_pool.cuda import GpuForward

        tensors = iter(saved)
        return cls(
            features=next(tensors),
            weights=take(TrunkWeights, tensors),
            offsets=next(tensors),
            kept=next(tensors),
            forward=GpuForward(
                scores=next(tensors), masked=next(tensors), sums=take(SoftmaxSums, tensors)
            ),
        )


class GatedAttnPoolFunction(torch.autograd.Function):
    """By Triton; see `mil.kernels.gated_attn_pool.gated_attn_pool`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        """Pooled rows, scores, and the three fields of `AttentionStats`.

        Args:
            ctx: context of autograd.
            features: [tiles, dim].
            inputs: the fields of `TrunkWeights`, offsets, mask, and whether a gradient
                can be asked for.
        """
        from mil.kernels.gated_attn_pool import cuda

        features = features.contiguous()
        weights = TrunkWeights(*inputs[:NUM_WEIGHTS])
        offsets, mask, learning = inputs[NUM_WEIGHTS:]
        needed = mask is not None or (learning and any(ctx.needs_input_grad))
        kept = cuda.room_for(features, weights, needed)
        trunk = cuda.GpuTrunk(features, weights, kept)
        forward = cuda.gated_attn_pool_forward(trunk, offsets, mask)
        ctx.save_for_backward(*GpuSaved(features, weights, offsets, kept, forward).pack())
        # An output that no loss reads then has no gradient, instead of one of zeros.
        ctx.set_materialize_grads(False)
        return forward.sums.pooled(), forward.scores, *forward.sums.stats()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of features and weights, each in its own type."""
        from mil.kernels.gated_attn_pool import cuda

        saved = GpuSaved.unpack(ctx.saved_tensors)
        features = saved.features
        d_features = torch.empty_like(features) if ctx.needs_input_grad[0] else None
        d_pooled, d_scores, *d_stats = grads
        with torch.autocast(features.device.type, enabled=False):
            shared = BagGradients.of(saved.forward.sums, d_pooled, *d_stats)
            trunk = cuda.GpuTrunk(features, saved.weights, saved.kept)
            d_weights = cuda.gated_attn_pool_backward(
                trunk, saved.offsets, saved.forward, shared, d_scores, d_features
            )
        return d_features, *cast_like(d_weights, saved.weights), None, None, None
