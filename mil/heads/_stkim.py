"""Stochastic top-K instance masking (STKIM).

Zhang et al. 2024, https://arxiv.org/abs/2311.07125, eq. 9.
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from mil.bags import MASKED
from mil.config import Section
from mil.kernels.topk_mask import topk_mask
from mil.kernels.topk_mask.reference import num_ranked


class StkimConfig(Section):
    """Options of heads that mask their highest scores in training."""

    mask_top: int = Field(
        10, ge=0, description="STKIM: number of highest scores that may be masked (K)."
    )
    mask_share: float = Field(
        0.6,
        ge=0,
        le=1,
        description="STKIM: fraction of the K highest scores masked at each step (p), 0 to 1.",
    )
    mask_most: float = Field(
        1.0,
        ge=0,
        le=1,
        description="STKIM: largest fraction of a bag's tiles that K may be; 1, as published: no "
        "limit.",
    )


def mask_top(
    scores: Float[Tensor, "tiles branches"],
    offsets: Int[Tensor, " bags_plus_1"],
    top: int,
    share: float,
    max_share: float = 1.0,
) -> Float[Tensor, "tiles branches"]:
    """Mask exactly ``floor(k * share)`` of each bag's k highest scores, per branch.

    k is ``min(top, floor(tiles * max_share))``. The masked ones are drawn without
    replacement: those with the smallest of k uniform draws.

    Args:
        scores: attention scores before the softmax.
        offsets: bag b is rows ``offsets[b]:offsets[b + 1]``.
        top: number of the highest scores that may be masked (K).
        share: share of those to mask, 0 to 1.
        max_share: largest share of a bag's tiles that may be ranked, 0 to 1.
    """
    draws = draw_ranks(offsets, scores.shape[1], top, max_share)
    return topk_mask(scores, offsets, draws, share=share, fill=MASKED, max_share=max_share)


def draw_ranks(
    offsets: Int[Tensor, " bags_plus_1"], branches: int, top: int, max_share: float
) -> Float[Tensor, "bags branches top"]:
    """A uniform draw for each rank that may be masked, on the offsets' device.

    On a CPU one ``torch.rand(branches, k)`` per bag, in the bags' order, as in the
    published code; on a GPU all at once, since each k is known on the device alone.
    """
    # Several heads that are trained as a stack draw for each of them.
    if has_torch_function((offsets,)):
        drawn: Tensor = handle_torch_function(
            draw_ranks, (offsets,), offsets, branches, top, max_share
        )
        return drawn
    # The numbers differ between devices, not their distribution.
    if offsets.device.type != "cpu":
        return torch.rand(len(offsets) - 1, branches, top, device=offsets.device)
    draws = []
    for tiles in offsets.diff().tolist():
        k = num_ranked(tiles, top, max_share)
        draws.append(_padded(torch.rand(branches, k), top))
    return torch.stack(draws)


def _padded(draws: Tensor, top: int) -> Tensor:
    # Infinity: a rank that the bag does not have is the last to be masked.
    return functional.pad(draws, (0, top - draws.shape[1]), value=torch.inf)
