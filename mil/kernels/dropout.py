"""Dropout on a CPU, from random bytes: torch's own draws take longer than a layer's product.

Hinton et al. 2012, https://arxiv.org/abs/1207.0580, in the inverted form: what is kept
is scaled up in training. The random bits come from torch's own generator, so that a
seed repeats them and a saved random state resumes them.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import handle_torch_function, has_torch_function

# Random bytes drawn at once: they stay in a cache until they are compared. A multiple
# of 8, since 64 bits are drawn at a time.
DRAWN_BYTES = 1 << 18


class KeepMask(NamedTuple):
    """What dropout keeps, and the factor that keeps the mean."""

    keep: UInt8[Tensor, "rows width"]  # 1: kept, 0: dropped
    scale: float  # reciprocal of the probability of a 1


def draw_keep_mask(rows: int, width: int, rate: float) -> KeepMask:
    """Draw which numbers dropout keeps, each by itself.

    A number takes one random byte where the rate is a multiple of 1/256, and else two:
    the rate that is drawn differs from `rate` by at most 2^-17 (2^-16 above 1 - 2^-17,
    where something must stay possible). The scale is that of the drawn rate, so that
    the mean is kept exactly.

    Args:
        rows: number of rows.
        width: length of a row.
        rate: probability to drop a number, 0 <= rate < 1.
    """
    # Several heads that are trained as a stack draw for each of them.
    if has_torch_function((rows,)):
        mask: KeepMask = handle_torch_function(draw_keep_mask, (rows,), rows, width, rate)
        return mask
    share = 1.0 - rate
    kind = torch.uint8 if (256 * share).is_integer() else torch.int16
    levels = 256 if kind == torch.uint8 else 65536
    # Of `levels` equally likely numbers the highest `num_kept` mean kept.
    num_kept = max(1, round(levels * share))
    threshold = torch.iinfo(kind).max + 1 - num_kept
    keep = torch.empty(rows, width, dtype=torch.uint8)
    for part in keep.view(-1).split(DRAWN_BYTES // kind.itemsize):
        words = torch.empty(-(-len(part) * kind.itemsize // 8), dtype=torch.int64)
        # All 64 bits; without bounds the sign would always be 0.
        random = words.random_(-(2**63), None).view(kind)[: len(part)]
        torch.ge(random, threshold, out=part)
    return KeepMask(keep, levels / num_kept)


def dropout(values: Float[Tensor, "*rows width"], rate: float) -> Float[Tensor, "*rows width"]:
    """Drop numbers at random and scale the others up; on a CPU."""
    keep, scale = draw_keep_mask(values.numel(), 1, rate)
    if has_torch_function((values,)):
        return values * keep.view(values.shape) * scale
    return _Dropout.apply(values, keep.view(values.shape), scale)


class _Dropout(torch.autograd.Function):
    """A byte a number is kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, keep: Tensor, scale: float) -> Tensor:
        """Kept numbers, scaled."""
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return torch.mul(values, keep).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of the values."""
        (keep,) = ctx.saved_tensors
        return torch.mul(grads[0], keep).mul_(ctx.scale), None, None
