"""A mask of the k highest tiles whose gradient is that of a soft mask."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Bisections of the threshold's interval: float64 has 53 bits, so nothing of it is left.
HALVINGS = 64


def top_mask(importances: Float[Tensor, " tiles"], count: int) -> Bool[Tensor, " tiles"]:
    """True for the `count` highest tiles; of equal ones the first."""
    mask = torch.zeros_like(importances, dtype=torch.bool)
    order = importances.sort(descending=True, stable=True).indices
    return mask.index_fill_(0, order[:count], True)


def straight_through(
    importances: Float[Tensor, " tiles"], count: int, temperature: float
) -> tuple[Bool[Tensor, " tiles"], Float[Tensor, " tiles"]]:
    """The `count` highest tiles, as a mask and as 0 and 1 with the gradient of `soft_mask`."""
    selected = top_mask(importances, count)
    soft = soft_mask(importances, count, temperature)
    return selected, selected.to(soft.dtype) + (soft - soft.detach())


def soft_mask(
    importances: Float[Tensor, " tiles"], count: int, temperature: float
) -> Float[Tensor, " tiles"]:
    """``sigmoid((x - t) / temperature)`` with the threshold t at which it sums to `count`.

    Args:
        importances: x, of the tiles of one bag.
        count: sum of the mask; at least 1, less than the number of tiles.
        temperature: width of the transition from 0 to 1, in the unit of x.
    """
    mask: Tensor = SoftMaskFunction.apply(importances, count, temperature)
    return mask


class SoftMaskFunction(torch.autograd.Function):
    """Soft mask m whose threshold t depends on all tiles.

    By the implicit function theorem ``dt/dx_i = w_i / sum w`` with ``w = m (1 - m)``.
    """

    @staticmethod
    def forward(ctx: Any, importances: Tensor, count: int, temperature: float) -> Tensor:
        exact = importances.double()
        # If all x were equal, the mask would be count / tiles everywhere, and the
        # threshold a known shift below them. It lies between those of the smallest and
        # the largest x.
        odds = count / (len(importances) - count)
        shift = temperature * math.log(odds)
        low = exact.min() - shift
        high = exact.max() - shift
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            total = ((exact - middle) / temperature).sigmoid().sum()
            low = torch.where(total > count, middle, low)
            high = torch.where(total > count, high, middle)
        threshold = (low + high) / 2
        mask = ((exact - threshold) / temperature).sigmoid()
        ctx.save_for_backward(mask * (1 - mask) / temperature)
        return mask.to(importances.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        grad = grads[0].double()
        # All slopes can be 0 in float64, far from the threshold.
        total = slopes.sum().clamp_min(torch.finfo(torch.float64).tiny)
        mean = (slopes * grad).sum() / total
        return (slopes * (grad - mean)).to(grads[0].dtype), None, None
