"""Masking of the highest scores by Triton as an autograd function."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.kernels.topk_mask.triton import fill_rows, topk_mask_forward


class TopkMaskFunction(torch.autograd.Function):
    """Masking of the highest scores; see `mil.kernels.topk_mask.topk_mask`."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        offsets: Tensor,
        draws: Tensor,
        share: float,
        fill: float,
        max_share: float,
    ) -> Tensor:
        """Scores, some of them `fill`."""
        masked, rows = topk_mask_forward(
            scores.contiguous(), offsets, draws.contiguous(), share, fill, max_share
        )
        ctx.save_for_backward(rows)
        return masked

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient, with 0 for masked scores."""
        (rows,) = ctx.saved_tensors
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        return fill_rows(grad, rows, 0.0), None, None, None, None, None
