"""Selection of a bag's tiles under a budget, with a gradient for the tiles that were not selected."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from mil.bags import per_bag
from mil.kernels.attn_pool import attn_pool

HALVINGS = 64  # of the interval of a threshold, kept in float64: none of it is left


def importance(scores: Float[Tensor, "tiles branches"]) -> Float[Tensor, " tiles"]:
    """What the tiles of a bag are ranked by: log of the branches' mean attention, or of one branch its scores."""
    if scores.shape[1] == 1:
        return scores[:, 0]
    return scores.log_softmax(0).logsumexp(1) - math.log(scores.shape[1])


def top_mask(ranked: Float[Tensor, " tiles"], count: int) -> Bool[Tensor, " tiles"]:
    """Mark the highest; of equals those that come first."""
    mask = torch.zeros_like(ranked, dtype=torch.bool)
    return mask.index_fill_(0, ranked.sort(descending=True, stable=True).indices[:count], True)


def straight_through(
    ranked: Float[Tensor, " tiles"], count: int, temperature: float
) -> tuple[Bool[Tensor, " tiles"], Float[Tensor, " tiles"]]:
    """The highest tiles of a bag as a mask, and as numbers 0 and 1 that have the gradient of a soft mask."""
    chosen = top_mask(ranked, count)
    soft = soft_mask(ranked, count, temperature)
    return chosen, chosen.to(soft.dtype) + (soft - soft.detach())


def soft_mask(
    ranked: Float[Tensor, " tiles"], count: int, temperature: float
) -> Float[Tensor, " tiles"]:
    """``sigmoid((ranked - t) / temperature)`` with the threshold t at which it sums to `count`.

    Args:
        ranked: of one bag.
        count: fewer than there are tiles, at least 1.
        temperature: how softly; the unit is that of `ranked`.
    """
    mask: Tensor = _SoftMask.apply(ranked, count, temperature)
    return mask


class _SoftMask(torch.autograd.Function):
    """The threshold depends on all tiles, by the implicit function theorem: dt/ds = w / sum w with w = m (1 - m)."""

    @staticmethod
    def forward(ctx: Any, ranked: Tensor, count: int, temperature: float) -> Tensor:
        exact = ranked.double()
        # At equal numbers the mask would be count / tiles everywhere: the threshold is
        # between those of the extremes.
        shift = temperature * math.log(count / (len(ranked) - count))
        low = exact.min() - shift
        high = exact.max() - shift
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            too_many = ((exact - middle) / temperature).sigmoid().sum() > count
            low = torch.where(too_many, middle, low)
            high = torch.where(too_many, high, middle)
        mask = ((exact - (low + high) / 2) / temperature).sigmoid()
        ctx.save_for_backward(mask * (1 - mask) / temperature)
        return mask.to(ranked.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        grad = grads[0].double()
        mean = (slopes * grad).sum() / slopes.sum().clamp_min(torch.finfo(torch.float64).tiny)
        return (slopes * (grad - mean)).to(grads[0].dtype), None, None


def pool_through(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    chosen: Bool[Tensor, " tiles"],
    mask: Float[Tensor, " tiles"],
) -> Float[Tensor, "branches dim"]:
    """Pool a bag by the softmax over the chosen tiles, `mask` being those as numbers whose gradient counts.

    A tile not chosen may still score higher than all chosen ones; its gradient is then
    that of the highest of them.
    """
    top = scores.detach().masked_fill(~chosen[:, None], -torch.inf).amax(0)
    weights = mask[:, None].to(scores.dtype) * (scores - top).clamp(max=0.0).exp()
    return (weights / weights.sum(0)).to(features.dtype).mT @ features


def pool_selected(
    scores: Float[Tensor, "tiles branches"],
    features: Float[Tensor, "tiles dim"],
    offsets: Int[Tensor, " bags_plus_1"],
    selected: Bool[Tensor, " tiles"],
) -> Float[Tensor, "bags branches dim"]:
    """Pool each bag's selected tiles by the softmax over them; at least one of each bag is selected."""
    counts = torch.stack([bag.sum() for bag in per_bag(selected, offsets)])
    bounds = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return attn_pool(scores[selected], features[selected], bounds)
