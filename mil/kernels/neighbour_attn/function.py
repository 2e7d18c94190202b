"""Attention over neighbours as autograd functions: tiled on a CPU, and by Triton.

Both keep one number for an edge and head, its attention.
"""

from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mil.kernels.neighbour_attn import cpu


class Saved(NamedTuple):
    """Tensors kept for the gradient."""

    queries: Tensor  # [tiles, heads, width]
    keys: Tensor  # [tiles, heads, width]
    vector: Tensor  # [heads, width]
    sources: Tensor  # [edges]
    targets: Tensor  # [edges], sorted
    attention: Tensor  # [edges, heads], float32
    bounds: Tensor | None = None  # [tiles + 1], first edge of each target; Triton's alone

    def pack(self) -> tuple[Tensor | None, ...]:
        """Flat, for `save_for_backward`."""
        return tuple(self)

    @classmethod
    def unpack(cls, tensors: tuple[Any, ...]) -> "Saved":
        """Inverse of `pack`."""
        return cls(*tensors)


class CpuNeighbourAttn(Function):
    """Tiled on a CPU; see `mil.kernels.neighbour_attn.neighbour_attn`."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        vector: Tensor,
        sources: Tensor,
        targets: Tensor,
        slope: float,
    ) -> tuple[Tensor, Tensor]:
        """Messages, and attention, mean over the heads."""
        messages, attention = cpu.neighbour_attn_forward(
            queries, keys, vector, sources, targets, slope
        )
        ctx.slope = slope
        saved = Saved(queries, keys, vector, sources, targets, attention)
        ctx.save_for_backward(*saved.pack())
        return messages, attention.mean(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and vector."""
        saved = Saved.unpack(ctx.saved_tensors)
        d_messages, d_mean = grads
        gradients = cpu.neighbour_attn_backward(
            queries=saved.queries,
            keys=saved.keys,
            vector=saved.vector,
            sources=saved.sources,
            targets=saved.targets,
            attention=saved.attention,
            slope=ctx.slope,
            d_messages=d_messages,
            d_mean=d_mean,
        )
        return *gradients, None, None, None


class NeighbourAttnFunction(Function):
    """By Triton; see `mil.kernels.neighbour_attn.neighbour_attn`."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        vector: Tensor,
        sources: Tensor,
        targets: Tensor,
        slope: float,
    ) -> tuple[Tensor, Tensor]:
        """Messages, and attention, mean over the heads."""
        # Imported here and below: Triton exists on Linux alone.
        from mil.kernels.neighbour_attn.triton import edge_bounds, neighbour_attn_forward

        queries = queries.contiguous()
        keys = keys.contiguous()
        vector = vector.contiguous()
        sources = sources.contiguous()
        targets = targets.contiguous()
        bounds = edge_bounds(targets, len(queries))
        messages, attention, mean = neighbour_attn_forward(
            queries, keys, vector, sources, targets, bounds, slope
        )
        ctx.slope = slope
        saved = Saved(queries, keys, vector, sources, targets, attention, bounds)
        ctx.save_for_backward(*saved.pack())
        return messages, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and vector."""
        from mil.kernels.neighbour_attn.triton import neighbour_attn_backward

        saved = Saved.unpack(ctx.saved_tensors)
        d_messages, d_mean = grads
        gradients = neighbour_attn_backward(
            **saved._asdict(),
            slope=ctx.slope,
            d_messages=d_messages.contiguous(),
            d_mean=d_mean.contiguous(),
        )
        return *gradients, None, None, None
